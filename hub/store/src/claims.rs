//! Receipts that devices show after a restoration and that the restored books do not know: for the record, and so
//! that vouchers can name them. They move no money.

use sosna_protocol::{
    Address, Amount, Hash,
    identity::{AssignmentId, TaskId},
};

use crate::{
    StoreError, Tx,
    column::{amount, bytes, int, integer, maybe_bytes, text},
    sql::Query,
};
use rusqlite::Row;

/// A receipt that a device has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub device: Address,
    /// Over which assignment.
    pub assignment: AssignmentId,
    /// Of which task.
    pub task: TaskId,
    /// The receipt's digest, as vouchers' roots are over.
    pub digest: Hash,
    /// What the device says was agreed on.
    pub price: Amount,
    /// What the hub had signed to owe for it; 0 where that is not proven.
    pub owed: Amount,
    /// Whether the hub's own signature proves it.
    pub proven: bool,
    /// For the operator.
    pub explanation: String,
    /// When it was shown.
    pub shown_ms: u64,
    /// The cumulative amount of the voucher that names it.
    pub voucher: Option<Amount>,
}

fn claim(row: &Row<'_>) -> Result<Claim, StoreError> {
    Ok(Claim {
        device: Address(bytes(row, "device")?),
        assignment: AssignmentId(bytes(row, "assignment")?),
        task: TaskId(bytes(row, "task")?),
        digest: Hash(bytes(row, "digest")?),
        price: amount(row, "price")?,
        owed: amount(row, "owed")?,
        proven: integer::<u8>(row, "proven")? != 0,
        explanation: text(row, "explanation")?,
        shown_ms: integer(row, "shown_ms")?,
        voucher: maybe_bytes(row, "voucher")?.map(Amount::from_be_bytes),
    })
}

impl Tx {
    /// Records a claim; says whether it is news. One that is proven replaces one that was not, and one that no voucher
    /// of these books names any more (its `voucher` is 0), and nothing else.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_claim(&mut self, new: &Claim) -> Result<bool, StoreError> {
        let query = Query::new(
            "INSERT INTO claims (device, assignment, task, digest, price, owed, proven, explanation, shown_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (device, assignment) DO UPDATE SET task = excluded.task, digest = excluded.digest,
                price = excluded.price, owed = excluded.owed, proven = 1, explanation = excluded.explanation,
                shown_ms = excluded.shown_ms, voucher = NULL
             WHERE excluded.proven = 1 AND (claims.proven = 0 OR claims.voucher = zeroblob(16))",
        );
        let query = query
            .bind(&new.device.0[..])
            .bind(&new.assignment.0[..])
            .bind(&new.task.0[..])
            .bind(&new.digest.0[..])
            .bind(new.price.to_be_bytes().to_vec())
            .bind(new.owed.to_be_bytes().to_vec())
            .bind(new.proven)
            .bind(&new.explanation)
            .bind(int(new.shown_ms));
        Ok(self.run(query).await? > 0)
    }

    /// How many claims of a device nothing proves.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_unproven_claims(&mut self, device: &Address) -> Result<u64, StoreError> {
        let query = Query::new("SELECT COUNT(*) AS claims FROM claims WHERE device = ? AND proven = 0");
        let claims = self.one(query.bind(&device.0[..]), |row| integer(row, "claims")).await?;
        Ok(claims.unwrap_or_default())
    }

    /// What a device has claimed, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claims_of(&mut self, device: &Address) -> Result<Vec<Claim>, StoreError> {
        let query = Query::new("SELECT * FROM claims WHERE device = ? ORDER BY shown_ms, assignment");
        self.all(query.bind(&device.0[..]), claim).await
    }

    /// A device's proven claims that no voucher names yet, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn uncovered_claims(&mut self, device: &Address) -> Result<Vec<Claim>, StoreError> {
        let query = Query::new(
            "SELECT * FROM claims WHERE device = ? AND proven = 1 AND voucher IS NULL AND owed != zeroblob(16)
             ORDER BY shown_ms, assignment",
        );
        self.all(query.bind(&device.0[..]), claim).await
    }

    /// Notes which voucher names a claim.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cover_claim(
        &mut self,
        device: &Address,
        assignment: &AssignmentId,
        cumulative: Amount,
    ) -> Result<(), StoreError> {
        let query = Query::new("UPDATE claims SET voucher = ? WHERE device = ? AND assignment = ?");
        let query = query.bind(cumulative.to_be_bytes().to_vec());
        self.run(query.bind(&device.0[..]).bind(&assignment.0[..])).await.map(drop)
    }
}
