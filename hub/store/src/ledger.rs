//! The books. Every entry moves an amount from one account to another and is kept for ever; an entry has a key,
//! so that the same thing is never booked twice.

use sosna_protocol::{
    Address, Amount,
    identity::{AssignmentId, JobId, TaskId},
};

use std::collections::HashMap;

use crate::{
    StoreError, Tx,
    column::{ROWS, amount, int, integer, maybe_bytes, text},
    sql::Query,
};
use rusqlite::Row;

/// Whose money it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Where credit comes from that an admin grants. This one and the two next may be overdrawn, and no others.
    Grants,
    /// Where credit comes from that buyers have deposited on the chain.
    Deposits,
    /// What the operator pays for credit of one BOINC project: an expense, in debt by all that was paid.
    Boinc(String),
    /// Whom the operator pays for work elsewhere. What was ever given is what roots say.
    Payee(Address),
    /// A buyer's credit.
    Buyer(String),
    /// Set aside for a job.
    Job(JobId),
    /// A device's earnings. What it has ever been given is what its vouchers say.
    Device(Address),
    /// What the operator pays on one day (counted from 1970) to have devices checked: an expense, which is in debt by
    /// what it gave and did not get back.
    Verification(u64),
    /// Set aside by the operator to have one task checked.
    Check(TaskId),
}

/// A movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What happens only once.
    pub key: String,
    /// What it is: `credit`, `deposit`, `taken_back`, `reserve`, `earn`, `release`, `recover`, `verification`,
    /// `boinc`.
    pub kind: &'static str,
    /// Who gives.
    pub from: Account,
    /// Who takes.
    pub to: Account,
    /// How much.
    pub amount: Amount,
    /// For which job.
    pub job: Option<JobId>,
    /// For which assignment.
    pub assignment: Option<AssignmentId>,
    /// When.
    pub at_ms: u64,
}

/// A movement that was booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In the order of booking.
    pub id: u64,
    /// When.
    pub at_ms: u64,
    /// What it is.
    pub kind: String,
    /// Who gave.
    pub from: String,
    /// Who took.
    pub to: String,
    /// How much.
    pub amount: Amount,
    /// For which job.
    pub job: Option<JobId>,
    /// For which assignment.
    pub assignment: Option<AssignmentId>,
}

/// Why nothing was booked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// There is less than that.
    #[error("there are {available} SNM, and {needed} SNM are needed")]
    Funds {
        /// What there is.
        available: Amount,
        /// What is needed.
        needed: Amount,
    },
    /// The books would hold more than any amount can.
    #[error("the books cannot hold an amount that large")]
    Overflow,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    Ok(Entry {
        id: integer(row, "id")?,
        at_ms: integer(row, "at_ms")?,
        kind: text(row, "kind")?,
        from: text(row, "giver")?,
        to: text(row, "taker")?,
        amount: amount(row, "amount")?,
        job: maybe_bytes(row, "job")?.map(JobId),
        assignment: maybe_bytes(row, "assignment")?.map(AssignmentId),
    })
}

// === impl Account ===

impl Account {
    /// The account's name in the books.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Grants => "grants".to_owned(),
            Self::Deposits => "deposits".to_owned(),
            Self::Boinc(project) => format!("boinc:{project}"),
            Self::Payee(address) => format!("payee:{address}"),
            Self::Buyer(name) => format!("buyer:{name}"),
            Self::Job(id) => format!("job:{id}"),
            Self::Device(address) => format!("device:{address}"),
            Self::Verification(day) => format!("verification:{day}"),
            Self::Check(task) => format!("check:{task}"),
        }
    }
}

impl Tx {
    /// Books a movement; `false` where its key was booked before, and nothing happens.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn transfer(&mut self, transfer: &Transfer) -> Result<bool, LedgerError> {
        self.transfer_within(transfer, Amount::ZERO).await
    }

    /// Like [`Tx::transfer`], from an account that may be in debt by so much.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn transfer_within(&mut self, transfer: &Transfer, debt: Amount) -> Result<bool, LedgerError> {
        let (from, to) = (transfer.from.name(), transfer.to.name());
        let booked = Query::new("SELECT 1 FROM entries WHERE key = ?").bind(&transfer.key);
        if self.one(booked, |_| Ok(())).await?.is_some() {
            return Ok(false);
        }
        // Everything is checked before anything is written: nobody who goes on after an error keeps half of it.
        let giver = self.account(&from).await?;
        let given = giver.1.checked_add(transfer.amount).ok_or(LedgerError::Overflow)?;
        let most = giver.0.checked_add(debt).ok_or(LedgerError::Overflow)?;
        let is_source = matches!(transfer.from, Account::Grants | Account::Deposits | Account::Boinc(_));
        if !is_source && given > most {
            let available = most.checked_sub(giver.1).unwrap_or_default();
            return Err(LedgerError::Funds { available, needed: transfer.amount });
        }
        let taker = if from == to { (giver.0, given) } else { self.account(&to).await? };
        let taken = taker.0.checked_add(transfer.amount).ok_or(LedgerError::Overflow)?;
        let query = Query::new(
            "INSERT INTO entries (key, at_ms, kind, giver, taker, amount, job, assignment)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let query = query
            .bind(&transfer.key)
            .bind(int(transfer.at_ms))
            .bind(transfer.kind)
            .bind(&from)
            .bind(&to)
            .bind(transfer.amount.to_be_bytes().to_vec())
            .bind(transfer.job.map(|id| id.0.to_vec()))
            .bind(transfer.assignment.map(|id| id.0.to_vec()));
        self.run(query).await?;
        self.put_account(&from, giver.0, given).await?;
        self.put_account(&to, taken, taker.1).await?;
        Ok(true)
    }

    /// What an account is in debt by.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn debt(&mut self, account: &Account) -> Result<Amount, StoreError> {
        let (taken, given) = self.account(&account.name()).await?;
        Ok(given.checked_sub(taken).unwrap_or_default())
    }

    /// What an account holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn balance(&mut self, account: &Account) -> Result<Amount, StoreError> {
        let (taken, given) = self.account(&account.name()).await?;
        Ok(taken.checked_sub(given).unwrap_or_default())
    }

    /// All that an account was ever given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ever_taken(&mut self, account: &Account) -> Result<Amount, StoreError> {
        Ok(self.account(&account.name()).await?.0)
    }

    /// Every account with what it took and gave, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts(&mut self) -> Result<Vec<(String, Amount, Amount)>, StoreError> {
        self.all(Query::new("SELECT * FROM accounts ORDER BY name"), |row| {
            Ok((text(row, "name")?, amount(row, "taken")?, amount(row, "given")?))
        })
        .await
    }

    /// The newest entries before one (or of all), of one account or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn entries(
        &mut self,
        account: Option<&Account>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        let query = Query::new(
            "SELECT * FROM entries WHERE (?1 IS NULL OR giver = ?1 OR taker = ?1) AND (?2 IS NULL OR id < ?2)
             ORDER BY id DESC LIMIT ?3",
        );
        self.all(query.bind(account.map(Account::name)).bind(before.map(int)).bind(limit), entry).await
    }

    /// The entry that was booked under a key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn entry_by_key(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.one(Query::new("SELECT * FROM entries WHERE key = ?").bind(key), entry).await
    }

    /// What every buyer has, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn credits(&mut self) -> Result<Vec<(String, Amount)>, StoreError> {
        let query = Query::new(
            "SELECT substr(name, 7) AS buyer, taken, given FROM accounts
             WHERE name >= 'buyer:' AND name < 'buyer;' ORDER BY name",
        );
        self.all(query, |row| {
            let (taken, given) = (amount(row, "taken")?, amount(row, "given")?);
            Ok((text(row, "buyer")?, taken.checked_sub(given).unwrap_or_default()))
        })
        .await
    }

    /// What every device was ever given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn earnings(&mut self) -> Result<Vec<(Address, Amount)>, StoreError> {
        self.taken_by("device").await
    }

    /// What every account of a kind was ever given, by the address that follows the kind in its name.
    pub(crate) async fn taken_by(&mut self, kind: &str) -> Result<Vec<(Address, Amount)>, StoreError> {
        let query = Query::new(
            "SELECT substr(name, length(?1) + 1) AS address, taken FROM accounts
             WHERE name >= ?1 AND name < ?2 ORDER BY name",
        );
        // The colon is followed by the semicolon in the order of names.
        let query = query.bind(format!("{kind}:")).bind(format!("{kind};"));
        self.all(query, |row| {
            let address = text(row, "address")?.parse().map_err(|_| StoreError::Column { name: "name" })?;
            Ok((address, amount(row, "taken")?))
        })
        .await
    }

    /// Books what many people are paid from one account that may be overdrawn, all under one key, which must be new. Like
    /// as many transfers, and far faster.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn pay_payees(
        &mut self,
        key: &str,
        from: &Account,
        kind: &'static str,
        payees: &[(Address, Amount)],
        at_ms: u64,
    ) -> Result<(), LedgerError> {
        let had: HashMap<Address, Amount> = self.payees().await?.into_iter().collect();
        let giver = from.name();
        let (taken, mut given) = self.account(&giver).await?;
        for rows in payees.chunks(ROWS) {
            let entries = Query::new("INSERT INTO entries (key, at_ms, kind, giver, taker, amount)").rows(
                rows,
                |(payee, amount)| {
                    [
                        format!("{key}:{payee}").into(),
                        int(at_ms).into(),
                        kind.into(),
                        (&giver).into(),
                        Account::Payee(*payee).name().into(),
                        amount.to_be_bytes().to_vec().into(),
                    ]
                },
                "",
            );
            self.run(entries).await?;
            let mut sums = Vec::with_capacity(rows.len());
            for (payee, amount) in rows {
                let before = had.get(payee).copied().unwrap_or_default();
                sums.push((payee, before.checked_add(*amount).ok_or(LedgerError::Overflow)?));
                given = given.checked_add(*amount).ok_or(LedgerError::Overflow)?;
            }
            let accounts = Query::new("INSERT INTO accounts (name, taken, given)").rows(
                sums,
                |(payee, taken)| {
                    [
                        Account::Payee(*payee).name().into(),
                        taken.to_be_bytes().to_vec().into(),
                        Amount::ZERO.to_be_bytes().to_vec().into(),
                    ]
                },
                "ON CONFLICT (name) DO UPDATE SET taken = excluded.taken",
            );
            self.run(accounts).await?;
        }
        self.put_account(&giver, taken, given).await?;
        Ok(())
    }

    async fn account(&mut self, name: &str) -> Result<(Amount, Amount), StoreError> {
        let query = Query::new("SELECT taken, given FROM accounts WHERE name = ?").bind(name);
        let found = self.one(query, |row| Ok((amount(row, "taken")?, amount(row, "given")?))).await?;
        Ok(found.unwrap_or_default())
    }

    async fn put_account(&mut self, name: &str, taken: Amount, given: Amount) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO accounts (name, taken, given) VALUES (?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET taken = excluded.taken, given = excluded.given",
        );
        let query = query.bind(name).bind(taken.to_be_bytes().to_vec()).bind(given.to_be_bytes().to_vec());
        self.run(query).await.map(drop)
    }
}
