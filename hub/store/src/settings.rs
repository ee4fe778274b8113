//! The two numbers that make the hub's counters unique: how often the store was restored, and started.

use crate::{StoreError, Tx, column::integer, sql::Query};

impl Tx {
    /// How often this store was restored from a backup.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch(&mut self) -> Result<u32, StoreError> {
        self.setting("epoch").await
    }

    /// Counts a start and returns its number, from 1.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_start(&mut self) -> Result<u32, StoreError> {
        self.run(Query::new("UPDATE settings SET value = value + 1 WHERE name = 'starts'")).await?;
        self.setting("starts").await
    }

    /// Counts a restoration: counters of before and after are never compared.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise_epoch(&mut self) -> Result<u32, StoreError> {
        self.run(Query::new("UPDATE settings SET value = value + 1 WHERE name = 'epoch'")).await?;
        self.setting("epoch").await
    }

    /// Writes something that nobody reads, to find out whether writing is possible.
    ///
    /// # Errors
    /// [`StoreError`]: it is not.
    pub async fn try_to_write(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let query = "INSERT INTO settings (name, value) VALUES ('tried', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1";
        self.run(Query::new(query).bind(now_ms.cast_signed())).await.map(drop)
    }

    async fn setting(&mut self, name: &'static str) -> Result<u32, StoreError> {
        let query = Query::new("SELECT value FROM settings WHERE name = ?").bind(name);
        self.one(query, |row| integer(row, "value")).await?.ok_or(StoreError::Column { name })
    }
}
