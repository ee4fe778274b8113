//! How devices have done: in all, and with each class of images.

use sosna_protocol::{Address, identity::TaskId};

use crate::{
    StoreError, Tx,
    column::{bytes, int, integer, text},
    sql::Query,
};
use rusqlite::Row;

/// How a device has done with one class of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Results that were right.
    pub valid: u64,
    /// Results that were wrong.
    pub invalid: u64,
    /// Assignments that came to nothing.
    pub failed: u64,
    /// Right results that others confirmed, since the last wrong one.
    pub consecutive: u64,
}

fn record(row: &Row<'_>) -> Result<Record, StoreError> {
    Ok(Record {
        valid: integer(row, "valid")?,
        invalid: integer(row, "invalid")?,
        failed: integer(row, "failed")?,
        consecutive: integer(row, "consecutive")?,
    })
}

impl Tx {
    /// Counts a result that was right. One that is `verified`, because others found the same, also counts towards
    /// the end of probation, which comes after `lift_after` of them in a row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_valid(
        &mut self,
        address: &Address,
        class: &str,
        verified: bool,
        lift_after: u64,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE devices SET valid = valid + 1, consecutive = consecutive + ?1, state = CASE
                WHEN state = 'probation' AND ?1 > 0 AND consecutive + ?1 >= ?2 THEN 'trusted' ELSE state END
             WHERE address = ?3",
        );
        self.run(query.bind(verified).bind(int(lift_after)).bind(&address.0[..])).await?;
        let change = "valid = valid + 1, consecutive = consecutive + 1";
        let unverified = "valid = valid + 1";
        self.count(address, class, if verified { change } else { unverified }).await
    }

    /// Counts a result that was wrong: the device begins again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_invalid(&mut self, address: &Address, class: &str) -> Result<(), StoreError> {
        let query = Query::new(
            "UPDATE devices SET invalid = invalid + 1, consecutive = 0, state = CASE
                WHEN state = 'trusted' THEN 'probation' ELSE state END WHERE address = ?",
        );
        self.run(query.bind(&address.0[..])).await?;
        self.count(address, class, "invalid = invalid + 1, consecutive = 0").await
    }

    /// Counts an assignment that came to nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_failed(&mut self, address: &Address, class: &str) -> Result<(), StoreError> {
        let query = Query::new("UPDATE devices SET failed = failed + 1 WHERE address = ?");
        self.run(query.bind(&address.0[..])).await?;
        self.count(address, class, "failed = failed + 1").await
    }

    async fn count(
        &mut self,
        address: &Address,
        class: &str,
        change: &'static str,
    ) -> Result<(), StoreError> {
        if class.is_empty() {
            return Ok(());
        }
        let query =
            Query::new("INSERT INTO reputations (device, class) VALUES (?, ?) ON CONFLICT DO NOTHING");
        self.run(query.bind(&address.0[..]).bind(class)).await?;
        let sql = ["UPDATE reputations SET ", change, " WHERE device = ? AND class = ?"].concat();
        self.run(Query::new(sql).bind(&address.0[..]).bind(class)).await.map(drop)
    }

    /// How a device has done with a class of images; nothing where it never had one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record(&mut self, device: &Address, class: &str) -> Result<Option<Record>, StoreError> {
        let query = Query::new("SELECT * FROM reputations WHERE device = ? AND class = ?");
        self.one(query.bind(&device.0[..]).bind(class), record).await
    }

    /// How a device has done, by class of images.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn records_of(&mut self, device: &Address) -> Result<Vec<(String, Record)>, StoreError> {
        let query = Query::new("SELECT * FROM reputations WHERE device = ? ORDER BY class");
        self.all(query.bind(&device.0[..]), |row| Ok((text(row, "class")?, record(row)?))).await
    }

    /// How every device has done, by class of images.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn records(&mut self) -> Result<Vec<(Address, String, Record)>, StoreError> {
        self.all(Query::new("SELECT * FROM reputations"), |row| {
            Ok((Address(bytes(row, "device")?), text(row, "class")?, record(row)?))
        })
        .await
    }

    /// The class of the image that a task runs; empty for tasks of before there were any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn image_class(&mut self, task: &TaskId) -> Result<String, StoreError> {
        let query = Query::new(
            "SELECT jobs.image_class FROM tasks JOIN jobs ON jobs.id = tasks.job WHERE tasks.id = ?",
        );
        Ok(self.one(query.bind(&task.0[..]), |row| text(row, "image_class")).await?.unwrap_or_default())
    }
}
