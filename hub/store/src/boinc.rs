//! Credit of BOINC projects that was counted, and what was paid for it.

use std::collections::HashMap;

use sosna_protocol::{Address, Amount, Hash};

use crate::{
    StoreError, Tx,
    column::{ROWS, amount, bytes, int, integer, maybe_bytes, text, word, words},
    sql::Query,
};
use rusqlite::Row;

/// What of a project was counted. Credit is in millionths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of each user.
    pub users: HashMap<u64, u128>,
    /// Of each computer.
    pub hosts: HashMap<u64, CountedHost>,
}

/// What of a computer was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedHost {
    /// When the project first saw it, in seconds since 1970.
    pub created_s: u64,
    /// Its credit, in millionths.
    pub credit: u128,
}

words! {
    /// By what a payment is reckoned.
    PriceKind {
        /// So much for each credit.
        Rate = "rate",
        /// So much in all.
        Pot = "pot",
    }
}

/// A payment for credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoincPayment {
    /// Its number here.
    pub id: u64,
    /// What made it happen once.
    pub idempotency: String,
    /// What was asked for.
    pub request_hash: Hash,
    /// For which project.
    pub project: String,
    /// When.
    pub at_ms: u64,
    /// By what it was reckoned.
    pub price: PriceKind,
    /// How much for a credit, or in all.
    pub price_amount: Amount,
    /// How many computers were paid.
    pub hosts: u32,
    /// For how many millionths of credit.
    pub credit: u128,
    /// What.
    pub amount: Amount,
    /// How many users were seen for the first time, and count from then on.
    pub first_seen: u32,
}

/// What was counted of one computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoincLine {
    /// Whose it is.
    pub owner: u64,
    /// The computer's number.
    pub host: u64,
    /// How many millionths of credit.
    pub credit: u128,
    /// Who was paid for it.
    pub payee: Option<Address>,
    /// What.
    pub amount: Amount,
}

fn credit(row: &Row<'_>) -> Result<u128, StoreError> {
    bytes(row, "credit").map(u128::from_be_bytes)
}

fn payment(row: &Row<'_>) -> Result<BoincPayment, StoreError> {
    Ok(BoincPayment {
        id: integer(row, "id")?,
        idempotency: text(row, "idempotency")?,
        request_hash: Hash(bytes(row, "request_hash")?),
        project: text(row, "project")?,
        at_ms: integer(row, "at_ms")?,
        price: word(row, "price", PriceKind::from_word)?,
        price_amount: amount(row, "price_amount")?,
        hosts: integer(row, "hosts")?,
        credit: credit(row)?,
        amount: amount(row, "amount")?,
        first_seen: integer(row, "first_seen")?,
    })
}

impl Tx {
    /// All that was counted of a project.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boinc_counted(&mut self, project: &str) -> Result<Counted, StoreError> {
        let users = Query::new("SELECT id, credit FROM boinc_users WHERE project = ?").bind(project);
        let users = self.all(users, |row| Ok((integer(row, "id")?, credit(row)?))).await?;
        let hosts = Query::new("SELECT id, created_s, credit FROM boinc_hosts WHERE project = ?");
        let hosts = self.all(hosts.bind(project), |row| {
            let host = CountedHost { created_s: integer(row, "created_s")?, credit: credit(row)? };
            Ok((integer(row, "id")?, host))
        });
        Ok(Counted { users: users.into_iter().collect(), hosts: hosts.await?.into_iter().collect() })
    }

    /// Other projects of which something was counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boinc_projects(&mut self) -> Result<Vec<String>, StoreError> {
        let query = Query::new("SELECT DISTINCT project FROM boinc_payments ORDER BY project");
        self.all(query, |row| text(row, "project")).await
    }

    /// So much of these users' credit is counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_boinc_users(
        &mut self,
        project: &str,
        users: &[(u64, u128)],
    ) -> Result<(), StoreError> {
        for rows in users.chunks(ROWS) {
            let query = Query::new("INSERT INTO boinc_users (project, id, credit)").rows(
                rows,
                |(id, credit)| [project.into(), int(*id).into(), credit.to_be_bytes().to_vec().into()],
                "ON CONFLICT (project, id) DO UPDATE SET credit = excluded.credit",
            );
            self.run(query).await?;
        }
        Ok(())
    }

    /// So much of these computers' credit is counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_boinc_hosts(
        &mut self,
        project: &str,
        hosts: &[(u64, CountedHost)],
    ) -> Result<(), StoreError> {
        for rows in hosts.chunks(ROWS) {
            let query = Query::new("INSERT INTO boinc_hosts (project, id, created_s, credit)").rows(
                rows,
                |(id, counted)| {
                    let credit = counted.credit.to_be_bytes().to_vec();
                    [project.into(), int(*id).into(), int(counted.created_s).into(), credit.into()]
                },
                "ON CONFLICT (project, id) DO UPDATE SET credit = excluded.credit",
            );
            self.run(query).await?;
        }
        Ok(())
    }

    /// Keeps a payment with its lines; its number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_boinc_payment(
        &mut self,
        new: &BoincPayment,
        lines: &[BoincLine],
    ) -> Result<u64, StoreError> {
        let query = Query::new(
            "INSERT INTO boinc_payments (idempotency, request_hash, project, at_ms, price, price_amount, hosts, credit,
                amount, first_seen)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        );
        let query = query
            .bind(&new.idempotency)
            .bind(&new.request_hash.0[..])
            .bind(&new.project)
            .bind(int(new.at_ms))
            .bind(new.price.word())
            .bind(new.price_amount.to_be_bytes().to_vec())
            .bind(i64::from(new.hosts))
            .bind(new.credit.to_be_bytes().to_vec())
            .bind(new.amount.to_be_bytes().to_vec())
            .bind(i64::from(new.first_seen));
        let id: u64 =
            self.one(query, |row| integer(row, "id")).await?.ok_or(StoreError::Column { name: "id" })?;
        for rows in lines.chunks(ROWS) {
            let query = Query::new("INSERT INTO boinc_lines (payment, host, owner, credit, payee, amount)")
                .rows(
                    rows,
                    |line| {
                        [
                            int(id).into(),
                            int(line.host).into(),
                            int(line.owner).into(),
                            line.credit.to_be_bytes().to_vec().into(),
                            line.payee.map(|payee| payee.0.to_vec()).into(),
                            line.amount.to_be_bytes().to_vec().into(),
                        ]
                    },
                    "",
                );
            self.run(query).await?;
        }
        Ok(id)
    }

    /// The payment that a key has made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boinc_payment_by_key(&mut self, key: &str) -> Result<Option<BoincPayment>, StoreError> {
        self.one(Query::new("SELECT * FROM boinc_payments WHERE idempotency = ?").bind(key), payment).await
    }

    /// A payment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boinc_payment(&mut self, id: u64) -> Result<Option<BoincPayment>, StoreError> {
        self.one(Query::new("SELECT * FROM boinc_payments WHERE id = ?").bind(int(id)), payment).await
    }

    /// The newest payments before one (or of all).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boinc_payments(
        &mut self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<BoincPayment>, StoreError> {
        let query =
            Query::new("SELECT * FROM boinc_payments WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2");
        self.all(query.bind(before.map(int)).bind(limit), payment).await
    }

    /// What a payment counted, by computer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn boinc_lines(&mut self, payment: u64) -> Result<Vec<BoincLine>, StoreError> {
        let query = Query::new("SELECT * FROM boinc_lines WHERE payment = ? ORDER BY host");
        self.all(query.bind(int(payment)), |row| {
            Ok(BoincLine {
                owner: integer(row, "owner")?,
                host: integer(row, "host")?,
                credit: credit(row)?,
                payee: maybe_bytes(row, "payee")?.map(Address),
                amount: amount(row, "amount")?,
            })
        })
        .await
    }

    /// All that people were ever given for work elsewhere, by address.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn payees(&mut self) -> Result<Vec<(Address, Amount)>, StoreError> {
        self.taken_by("payee").await
    }
}
