//! What of each device's counters has been seen, by kind.

use sosna_protocol::{
    Address, Hash,
    topic::Kind,
    window::{Contiguous, STORED},
};

use crate::{
    StoreError, Tx,
    column::{bytes, int, integer},
    sql::Query,
};

impl Tx {
    /// The stored window of a device and kind, in the form of its kind ([`Contiguous::to_bytes`] or
    /// [`sosna_protocol::window::Sliding::to_bytes`]).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn window(&mut self, device: &Address, kind: Kind) -> Result<Option<[u8; STORED]>, StoreError> {
        let query = Query::new("SELECT state FROM windows WHERE device = ? AND kind = ?");
        self.one(query.bind(&device.0[..]).bind(kind as i64), |row| bytes(row, "state")).await
    }

    /// Replaces it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_window(
        &mut self,
        device: &Address,
        kind: Kind,
        state: [u8; STORED],
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO windows (device, kind, state) VALUES (?, ?, ?)
             ON CONFLICT (device, kind) DO UPDATE SET state = excluded.state",
        );
        self.run(query.bind(&device.0[..]).bind(kind as i64).bind(&state[..])).await.map(drop)
    }

    /// Up to where everything that a device sent has been taken, for each kind that counts without gaps.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn positions(&mut self, device: &Address) -> Result<Vec<(Kind, Contiguous)>, StoreError> {
        let query = Query::new("SELECT kind, state FROM windows WHERE device = ? AND kind IN (3, 4, 5)");
        self.all(query.bind(&device.0[..]), |row| {
            let wrong = || StoreError::Column { name: "state" };
            let kind = Kind::from_channel(integer(row, "kind")?).ok_or_else(wrong)?;
            let state: [u8; STORED] = bytes(row, "state")?;
            Ok((kind, Contiguous::from_bytes(&state).ok_or_else(wrong)?))
        })
        .await
    }

    /// Remembers what was said under a counter, and forgets what lies further back than any window reaches.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_heard(
        &mut self,
        device: &Address,
        kind: Kind,
        counter: u64,
        leaf: &Hash,
    ) -> Result<(), StoreError> {
        let query = Query::new(
            "INSERT INTO heard (device, kind, counter, leaf) VALUES (?, ?, ?, ?)
             ON CONFLICT (device, kind, counter) DO UPDATE SET leaf = excluded.leaf",
        );
        let query = query.bind(&device.0[..]).bind(kind as i64).bind(int(counter)).bind(&leaf.0[..]);
        self.run(query).await?;
        // What is beyond every window is removed now and then: it costs as much as the frame's own row.
        if !counter.is_multiple_of(64) {
            return Ok(());
        }
        let oldest = int(counter.saturating_sub(sosna_protocol::window::WIDTH));
        let query = Query::new("DELETE FROM heard WHERE device = ? AND kind = ? AND counter < ?");
        self.run(query.bind(&device.0[..]).bind(kind as i64).bind(oldest)).await.map(drop)
    }

    /// What was said under a counter, as far back as any window reaches.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heard(
        &mut self,
        device: &Address,
        kind: Kind,
        counter: u64,
    ) -> Result<Option<Hash>, StoreError> {
        let query = Query::new("SELECT leaf FROM heard WHERE device = ? AND kind = ? AND counter = ?");
        let query = query.bind(&device.0[..]).bind(kind as i64).bind(int(counter));
        self.one(query, |row| bytes(row, "leaf").map(Hash)).await
    }
}
