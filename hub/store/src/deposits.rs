//! Buyers' deposits on the chain: whose account is whose, what was seen there, and what the buyer has signed for.

use sosna_protocol::{Address, Amount, Signature};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_bytes, text},
    sql::Query,
};
use rusqlite::Row;

/// What a buyer has in the escrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Whose key signs for it.
    pub account: Address,
    /// The buyer's name here.
    pub buyer: String,
    /// Where it is.
    pub escrow: Address,
    /// As last seen.
    pub seen: Seen,
    /// What of it these books hold as the buyer's credit.
    pub booked: Amount,
    /// How often that has changed.
    pub changes: u64,
    /// All that the buyer has signed for.
    pub confirmed: Amount,
    /// The buyer's signature for that.
    pub signature: Option<Signature>,
    /// All that the buyer was ever granted beside it.
    pub granted: Amount,
    /// All that the buyer has ever spent, of both.
    pub spent: Amount,
}

/// What the chain says of a deposit at a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// All that was put in and not taken back.
    pub put: Amount,
    /// What of it the hub's wallet was paid.
    pub claimed: Amount,
    /// From when on the buyer can take back, in seconds since 1970; 0 where that was not announced.
    pub open_from: u64,
    /// At which block.
    pub block: u64,
}

fn deposit(row: &Row<'_>) -> Result<Deposit, StoreError> {
    Ok(Deposit {
        account: Address(bytes(row, "account")?),
        buyer: text(row, "buyer")?,
        escrow: Address(bytes(row, "escrow")?),
        seen: Seen {
            put: amount(row, "put")?,
            claimed: amount(row, "claimed")?,
            open_from: integer(row, "open_from")?,
            block: integer(row, "block")?,
        },
        booked: amount(row, "booked")?,
        changes: integer(row, "changes")?,
        confirmed: amount(row, "confirmed")?,
        signature: maybe_bytes(row, "signature")?.map(Signature),
        granted: amount(row, "granted")?,
        spent: amount(row, "spent")?,
    })
}

// === impl Deposit ===

impl Deposit {
    /// What is to be paid of the deposit: all that was spent beyond what was granted.
    #[must_use]
    pub fn owed(&self) -> Amount {
        self.spent.checked_sub(self.granted).unwrap_or_default()
    }

    /// What of that the buyer has not signed for.
    #[must_use]
    pub fn unconfirmed(&self) -> Amount {
        self.owed().checked_sub(self.confirmed).unwrap_or_default()
    }

    /// What the wallet could be paid now by the buyer's signature.
    #[must_use]
    pub fn redeemable(&self) -> Amount {
        match self.confirmed <= self.seen.put {
            true => self.confirmed.checked_sub(self.seen.claimed).unwrap_or_default(),
            // The escrow refuses a signature for more than there is, whole.
            false => Amount::ZERO,
        }
    }
}

impl Tx {
    /// Keeps a buyer's account; what the buyer was granted and has spent until now is added up here.
    ///
    /// # Errors
    /// [`StoreError`]; also where the account or the buyer has another already.
    pub async fn put_deposit(
        &mut self,
        account: &Address,
        buyer: &str,
        escrow: &Address,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let sum = |amounts: Vec<Amount>| {
            amounts
                .into_iter()
                .try_fold(Amount::ZERO, Amount::checked_add)
                .ok_or(StoreError::Column { name: "amount" })
        };
        let granted = Query::new("SELECT amount FROM entries WHERE taker = ? AND kind = 'credit'");
        let granted = self.all(granted.bind(format!("buyer:{buyer}")), |row| amount(row, "amount")).await?;
        let spent = self.job_sums(Some(buyer)).await?.into_iter().map(|job| job.spent).collect();
        let query = Query::new(
            "INSERT INTO deposits (account, buyer, escrow, linked_ms, put, claimed, open_from, block, booked, changes,
                confirmed, granted, spent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, 0, 0, ?5, 0, ?5, ?6, ?7)",
        );
        let query = query
            .bind(&account.0[..])
            .bind(buyer)
            .bind(&escrow.0[..])
            .bind(int(now_ms))
            .bind(Amount::ZERO.to_be_bytes().to_vec())
            .bind(sum(granted)?.to_be_bytes().to_vec())
            .bind(sum(spent)?.to_be_bytes().to_vec());
        self.run(query).await.map(drop)
    }

    /// An account's deposit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deposit(&mut self, account: &Address) -> Result<Option<Deposit>, StoreError> {
        self.one(Query::new("SELECT * FROM deposits WHERE account = ?").bind(&account.0[..]), deposit).await
    }

    /// A buyer's deposit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deposit_of(&mut self, buyer: &str) -> Result<Option<Deposit>, StoreError> {
        self.one(Query::new("SELECT * FROM deposits WHERE buyer = ?").bind(buyer), deposit).await
    }

    /// Deposits in the order of their accounts, after one (or from the beginning).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn deposits(
        &mut self,
        after: Option<&Address>,
        limit: u32,
    ) -> Result<Vec<Deposit>, StoreError> {
        let query =
            Query::new("SELECT * FROM deposits WHERE ?1 IS NULL OR account > ?1 ORDER BY account LIMIT ?2");
        self.all(query.bind(after.map(|account| account.0.to_vec())).bind(limit), deposit).await
    }

    /// Deposits whose buyers have signed for more than the wallet was paid, in the order of their accounts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn redeemable_deposits(&mut self) -> Result<Vec<Deposit>, StoreError> {
        let query = Query::new(
            "SELECT * FROM deposits WHERE confirmed > claimed AND confirmed <= put ORDER BY account",
        );
        self.all(query, deposit).await
    }

    /// The escrow that deposits were seen in; `None` where there are none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn escrow(&mut self) -> Result<Option<Address>, StoreError> {
        self.one(Query::new("SELECT escrow FROM deposits LIMIT 1"), |row| bytes(row, "escrow").map(Address))
            .await
    }

    /// Keeps what was seen of a deposit, and what of it these books hold as credit since.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn see_deposit(
        &mut self,
        account: &Address,
        seen: &Seen,
        booked: Amount,
        changes: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE deposits SET put = ?, claimed = ?, open_from = ?, block = ?, booked = ?, changes = ?
             WHERE account = ?",
        );
        let query = query
            .bind(seen.put.to_be_bytes().to_vec())
            .bind(seen.claimed.to_be_bytes().to_vec())
            .bind(int(seen.open_from))
            .bind(int(seen.block))
            .bind(booked.to_be_bytes().to_vec())
            .bind(int(changes))
            .bind(&account.0[..]);
        self.run(query).await.map(drop)
    }

    /// Keeps what a buyer has signed for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn confirm_deposit(
        &mut self,
        account: &Address,
        confirmed: Amount,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE deposits SET confirmed = ?, signature = ? WHERE account = ?");
        let query = query.bind(confirmed.to_be_bytes().to_vec()).bind(&signature.0[..]).bind(&account.0[..]);
        self.run(query).await.map(drop)
    }

    /// Keeps what the buyer of a deposit was ever granted and has ever spent; nothing where the buyer has none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_deposit(
        &mut self,
        buyer: &str,
        granted: Amount,
        spent: Amount,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE deposits SET granted = ?, spent = ? WHERE buyer = ?");
        let query = query.bind(granted.to_be_bytes().to_vec()).bind(spent.to_be_bytes().to_vec()).bind(buyer);
        self.run(query).await.map(drop)
    }

    /// What a buyer's open assignments will cost at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_prices(&mut self, buyer: &str) -> Result<Vec<Amount>, StoreError> {
        let query = Query::new(
            "SELECT assignments.price FROM jobs JOIN tasks ON tasks.job = jobs.id
                JOIN assignments ON assignments.task = tasks.id
             WHERE jobs.state IN ('queued', 'running') AND jobs.buyer = ?
                AND assignments.state IN ('offered', 'accepted', 'committed', 'revealed')",
        );
        self.all(query.bind(buyer), |row| amount(row, "price")).await
    }
}
