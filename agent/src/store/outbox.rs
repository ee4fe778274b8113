//! What the device has said and the hub has not yet confirmed to have on disk: sealed frames by kind and counter.
//! They leave only by the hub's signed acknowledgement.

use redb::{ReadableTable as _, TableDefinition};
use sosna_protocol::{Address, frame::Frame, message::Message, message::ack::Position, topic::Kind};

use super::{META, Store, StoreError, Tx};

const OUTBOX: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("outbox");

/// The kinds whose frames wait here.
pub(super) const KINDS: [Kind; 3] = [Kind::Work, Kind::Result, Kind::Pay];

/// A frame that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its kind.
    pub kind: Kind,
    /// Its counter.
    pub counter: u64,
    /// The sealed frame.
    pub frame: Vec<u8>,
}

// === impl Store ===

impl Store {
    /// The oldest frames of a kind with counters above `after`, at most `most` of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox(&self, kind: Kind, after: u64, most: usize) -> Result<Vec<Queued>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(OUTBOX)?;
        let key = kind as u8;
        let rows = table.range((key, after.saturating_add(1))..=(key, u64::MAX))?;
        rows.take(most)
            .map(|row| {
                let (place, frame) = row?;
                Ok(Queued { kind, counter: place.value().1, frame: frame.value().to_vec() })
            })
            .collect()
    }

    /// How many frames wait.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn outbox_length(&self) -> Result<u64, StoreError> {
        use redb::ReadableTableMetadata as _;
        Ok(self.read()?.open_table(OUTBOX)?.len()?)
    }
}

// === impl Tx ===

impl Tx<'_> {
    pub(super) fn create_outbox(&mut self) -> Result<(), StoreError> {
        self.inner.open_table(OUTBOX)?;
        Ok(())
    }

    /// Says something to the hub: it has its counter and waits in the outbox when the transaction is committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn say<M: Message>(&mut self, hub: &Address, message: &M) -> Result<(), StoreError> {
        debug_assert!(KINDS.contains(&M::KIND), "only these kinds are acknowledged");
        let body = sosna_host::seal::body(message).map_err(StoreError::Encode)?;
        let counter = self.next_counter(M::KIND)?;
        let frame = self.store.seal(*hub, self.epoch()?, counter, body)?;
        self.inner.open_table(OUTBOX)?.insert((M::KIND as u8, counter), frame.as_slice())?;
        self.has_queued = true;
        Ok(())
    }

    fn next_counter(&mut self, kind: Kind) -> Result<u64, StoreError> {
        let counter = self.last_counter(kind)? + 1;
        self.set_meta_u64(&counter_key(kind), counter)?;
        Ok(counter)
    }

    fn last_counter(&self, kind: Kind) -> Result<u64, StoreError> {
        Ok(self.meta_u64(&counter_key(kind))?.unwrap_or(0))
    }

    /// Forgets what the hub has on disk. Positions of another epoch, or of kinds that do not wait, say nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn acknowledge(&mut self, position: &Position) -> Result<(), StoreError> {
        if position.epoch != self.epoch()? || !KINDS.contains(&position.kind) {
            return Ok(());
        }
        // A hub cannot confirm what was never said: see `reconcile`.
        let up_to = position.contiguous.min(self.last_counter(position.kind)?);
        let key = position.kind as u8;
        let mut table = self.inner.open_table(OUTBOX)?;
        table.retain_in((key, 0)..=(key, up_to), |_, _| false)?;
        Ok(())
    }

    /// Compares the hub's whole account with ours, at the start of a session. Where one of both was restored from a
    /// backup, counters cannot meet any more: then a new epoch begins, and what waits is sealed again under it.
    /// Returns the new epoch where there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn reconcile(&mut self, hub: &Address, positions: &[Position]) -> Result<Option<u32>, StoreError> {
        let epoch = self.epoch()?;
        let mut raise_above = None;
        for kind in KINDS {
            let position = positions.iter().find(|position| position.kind == kind);
            let (hub_epoch, contiguous) =
                position.map_or((0, 0), |position| (position.epoch, position.contiguous));
            let last = self.last_counter(kind)?;
            let first = self.first_waiting(kind)?.unwrap_or(last + 1);
            let cannot_meet = match hub_epoch.cmp(&epoch) {
                // Our store is older than what the hub has of us.
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Equal => contiguous > last || contiguous + 1 < first,
                // The hub's store is older than what it had confirmed.
                std::cmp::Ordering::Less => first > 1,
            };
            if cannot_meet {
                raise_above = raise_above.max(Some(hub_epoch.max(epoch)));
            }
        }
        match raise_above {
            Some(above) => {
                let epoch = above.saturating_add(1);
                self.begin_epoch(hub, epoch)?;
                Ok(Some(epoch))
            }
            None => {
                positions.iter().try_for_each(|position| self.acknowledge(position))?;
                Ok(None)
            }
        }
    }

    /// The counter of the first frame of a kind that is not acknowledged.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn first_waiting(&self, kind: Kind) -> Result<Option<u64>, StoreError> {
        let table = self.inner.open_table(OUTBOX)?;
        let key = kind as u8;
        let first = table.range((key, 0)..=(key, u64::MAX))?.next().transpose()?;
        Ok(first.map(|(place, _)| place.value().1))
    }

    fn begin_epoch(&mut self, hub: &Address, epoch: u32) -> Result<(), StoreError> {
        let mut waiting = Vec::new();
        {
            let table = self.inner.open_table(OUTBOX)?;
            for row in table.iter()? {
                let (place, frame) = row?;
                waiting.push((place.value().0, frame.value().to_vec()));
            }
        }
        self.set_meta_u64("epoch", u64::from(epoch))?;
        self.inner.open_table(OUTBOX)?.retain(|_, _| false)?;
        for kind in KINDS {
            self.inner.open_table(META)?.remove(counter_key(kind).as_str())?;
        }
        for (key, old) in waiting {
            let malformed = StoreError::Record { table: "outbox" };
            let Some(kind) = Kind::from_channel(u64::from(key)) else { return Err(malformed) };
            let body = Frame::decode(&old).map_err(|_| malformed)?.body.to_vec();
            let counter = self.next_counter(kind)?;
            let frame = self.store.seal(*hub, epoch, counter, body)?;
            self.inner.open_table(OUTBOX)?.insert((key, counter), frame.as_slice())?;
        }
        self.has_queued = true;
        Ok(())
    }
}

fn counter_key(kind: Kind) -> String {
    format!("counter/{}", kind.word())
}
