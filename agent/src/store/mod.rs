//! What the device must not forget: one redb file. Every change of state is one transaction that is on disk before
//! it is acted on or said.
//!
//! A frame that carries value is sealed in the transaction that gives it its counter: so counters have no gaps and
//! are never used twice, whenever the power goes.

mod money;
mod outbox;
pub mod record;
mod tasks;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::fcntl::OFlag;
use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use sosna_host::{
    file::{self, Access, FileError},
    identity::{CannotSign, IdentityKey},
};
use sosna_protocol::{
    Address,
    codec::EncodeError,
    envelope::Meta,
    identity::Sign as _,
    message::Message,
    topic::Kind,
    window::{Seen, Sliding},
};

pub use money::{Exposure, Held};
pub use outbox::Queued;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const WINDOWS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("windows");
const EVIDENCE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("evidence");

/// How many counters are reserved at once for kinds whose frames may be lost.
const BLOCK: u64 = 1000;
/// How many frames that prove a hub's misbehaviour are kept.
const MAX_EVIDENCE: u64 = 64;
/// Memory for pages. The store holds a few hundred small records.
const CACHE: usize = 256 * 1024;

/// The device's store.
#[derive(Debug)]
pub struct Store {
    db: Database,
    signer: IdentityKey,
    reserved: Mutex<BTreeMap<Kind, Reserved>>,
    /// Told when something new waits to be sent.
    queued: tokio::sync::Notify,
}

#[derive(Debug, Clone, Copy)]
struct Reserved {
    next: u64,
    end: u64,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error("the store {} fails; check the disk's space and health", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The database, later.
    #[error("the device's store fails; check the disk's space and health")]
    Database(#[source] Box<redb::Error>),
    /// The files beside it.
    #[error("the store's files cannot be kept")]
    File(#[from] FileError),
    /// A record that cannot be read.
    #[error("the store's {table} hold a record that cannot be read")]
    Record {
        /// Which table.
        table: &'static str,
    },
    /// A message that cannot be encoded: a bound of ours was not kept.
    #[error("a message cannot be encoded")]
    Encode(#[source] EncodeError),
    /// The key's holder.
    #[error(transparent)]
    Sign(#[from] CannotSign),
    /// The store has frames for another hub.
    #[error(
        "this data folder belongs to hub {bound}; a device serves another hub from another folder (--data)"
    )]
    OtherHub {
        /// The hub that the store belongs to.
        bound: String,
    },
}

// === impl StoreError ===

impl StoreError {
    /// Whether the database will not work again before it is opened anew: it does not go on after a failed write,
    /// such as on a full disk.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::Corrupted(_))
            }
            _ => false,
        }
    }
}

macro_rules! database_error {
    ($($type:ty),+) => {$(
        impl From<$type> for StoreError {
            fn from(error: $type) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )+};
}
database_error!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// A transaction: all of it happens, on disk, or nothing.
pub struct Tx<'a> {
    inner: redb::WriteTransaction,
    store: &'a Store,
    has_queued: bool,
}

// === impl Store ===

impl Store {
    /// Opens the store of a data folder, or makes it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(data: &Path, signer: IdentityKey) -> Result<Self, StoreError> {
        let path = data.join("agent.redb");
        let is_new = !path.exists();
        // A store that was lost begins a new epoch, because its counters begin again. The count is on disk first.
        let epoch = match (is_new, read_epoch(data)?) {
            (true, last) => {
                let epoch = last + 1;
                file::write(&data.join("epoch"), epoch.to_string().as_bytes(), Access::Private)?;
                epoch
            }
            (false, last) => last.max(1),
        };
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        let open = |source: redb::Error| StoreError::Open { path: path.clone(), source: Box::new(source) };
        let mut options = fs::OpenOptions::new();
        // A command is root's, and the folder is not.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        options.read(true).write(true).mode(0o600).custom_flags(flags.bits());
        // Made where it is missing, and only then: the folder is one in which the kernel lets nobody, not even root, make
        // what is another's (proc_sys_fs(5), protected_regular).
        let file = options.open(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => options.create_new(true).open(&path),
            _ => Err(error),
        });
        let file = file.map_err(|error| open(redb::Error::Io(error)))?;
        let file = FileBackend::new(file).map_err(|error| open(error.into()))?;
        let db = builder.create_with_backend(file).map_err(|error| open(error.into()))?;
        let store = Self { db, signer, reserved: Mutex::default(), queued: tokio::sync::Notify::new() };
        store.write(|tx| {
            tx.create_tables()?;
            if tx.meta_u64("epoch")?.is_none() {
                tx.set_meta_u64("epoch", u64::from(epoch))?;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(store)
    }

    /// Runs a transaction: committed and on disk where `f` succeeds, without any trace where it fails.
    ///
    /// # Errors
    /// `f`'s, and the store's own.
    pub fn write<T, E: From<StoreError>>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        self.transact(Durability::Immediate, f)
    }

    /// Like [`Store::write`], but the disk may take its time: for changes that may be lost with the power.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_lazily<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact(Durability::None, f)
    }

    fn transact<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut inner = self.db.begin_write().map_err(StoreError::from)?;
        inner.set_durability(durability).map_err(StoreError::from)?;
        let mut tx = Tx { inner, store: self, has_queued: false };
        let value = f(&mut tx)?;
        let has_queued = tx.has_queued;
        sosna_fault::point("agent-store/commit")
            .map_err(|error| StoreError::from(redb::StorageError::Io(error)))?;
        tx.inner.commit().map_err(StoreError::from)?;
        sosna_fault::passed("agent-store/committed");
        if has_queued {
            self.queued.notify_one();
        }
        Ok(value)
    }

    fn read(&self) -> Result<redb::ReadTransaction, StoreError> {
        Ok(self.db.begin_read()?)
    }

    /// Waits until something new is to be sent.
    pub async fn queued(&self) {
        self.queued.notified().await;
    }

    /// A frame of a kind that may be lost, sealed with a counter that was reserved on disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn seal_lossy<M: Message>(&self, hub: &Address, message: &M) -> Result<Vec<u8>, StoreError> {
        let counter = self.reserve(M::KIND)?;
        let epoch = self.epoch()?;
        self.seal(*hub, epoch, counter, sosna_host::seal::body(message).map_err(StoreError::Encode)?)
    }

    fn reserve(&self, kind: Kind) -> Result<u64, StoreError> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match reserved.get_mut(&kind) {
            Some(slot) if slot.next < slot.end => slot,
            _ => {
                let key = format!("reserved/{}", kind.word());
                let next = self.write(|tx| {
                    let next = tx.meta_u64(&key)?.unwrap_or(1);
                    tx.set_meta_u64(&key, next.saturating_add(BLOCK))?;
                    Ok::<_, StoreError>(next)
                })?;
                reserved.insert(kind, Reserved { next, end: next.saturating_add(BLOCK) });
                reserved.get_mut(&kind).expect("it was inserted just now")
            }
        };
        let counter = slot.next;
        slot.next += 1;
        Ok(counter)
    }

    fn seal(&self, hub: Address, epoch: u32, counter: u64, body: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let meta = Meta { sender: self.signer.address(), audience: hub, epoch, counter, expires_ms: 0 };
        Ok(sosna_host::seal::one(&self.signer, meta, body)?)
    }

    /// How often this device's counters have begun again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn epoch(&self) -> Result<u32, StoreError> {
        Ok(u32::try_from(self.meta_u64("epoch")?.unwrap_or(1)).unwrap_or(u32::MAX))
    }

    /// The last saved time, milliseconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn saved_time(&self) -> Result<Option<u64>, StoreError> {
        self.meta_u64("time")
    }

    /// A setting that the owner made by command.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(META)?;
        let value = table.get(format!("setting/{name}").as_str())?;
        Ok(value.map(|value| String::from_utf8_lossy(value.value()).into_owned()))
    }

    /// What the device has taken of each kind: the newest counter of each window.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn taken(&self) -> Result<Vec<(Kind, u32, u64)>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(WINDOWS)?;
        let mut taken = Vec::new();
        for row in table.iter()? {
            let (kind, window) = row?;
            // The stored form of a window begins with its epoch and its newest counter.
            let window = window.value();
            let (Some(kind), Some(epoch), Some(newest)) = (
                Kind::from_channel(u64::from(kind.value())),
                window.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes),
                window.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes),
            ) else {
                return Err(StoreError::Record { table: "windows" });
            };
            taken.push((kind, epoch, newest));
        }
        Ok(taken)
    }

    /// Frames that prove that the hub broke its word, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn evidence(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(EVIDENCE)?;
        table.iter()?.map(|row| Ok(row?.1.value().to_vec())).collect()
    }

    fn meta_u64(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let tx = self.read()?;
        let table = tx.open_table(META)?;
        Ok(table.get(key)?.and_then(|value| value.value().try_into().ok()).map(u64::from_be_bytes))
    }
}

fn read_epoch(data: &Path) -> Result<u32, StoreError> {
    let text = file::read_if_there(&data.join("epoch"))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).trim().parse().unwrap_or(0))
}

// === impl Tx ===

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("has_queued", &self.has_queued).finish_non_exhaustive()
    }
}

impl Tx<'_> {
    fn create_tables(&mut self) -> Result<(), StoreError> {
        self.inner.open_table(META)?;
        self.inner.open_table(WINDOWS)?;
        self.inner.open_table(EVIDENCE)?;
        self.create_outbox()?;
        self.create_tasks()?;
        self.create_money()
    }

    fn meta_u64(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let table = self.inner.open_table(META)?;
        Ok(table.get(key)?.and_then(|value| value.value().try_into().ok()).map(u64::from_be_bytes))
    }

    fn set_meta_u64(&mut self, key: &str, value: u64) -> Result<(), StoreError> {
        self.inner.open_table(META)?.insert(key, value.to_be_bytes().as_slice())?;
        Ok(())
    }

    fn epoch(&self) -> Result<u32, StoreError> {
        Ok(u32::try_from(self.meta_u64("epoch")?.unwrap_or(1)).unwrap_or(u32::MAX))
    }

    /// Makes the store the one of a hub, for good.
    ///
    /// # Errors
    /// [`StoreError::OtherHub`].
    pub fn bind(&mut self, hub: &Address) -> Result<(), StoreError> {
        let mut table = self.inner.open_table(META)?;
        let bound = table.get("hub")?.map(|value| value.value().to_vec());
        match bound {
            None => {
                table.insert("hub", hub.0.as_slice())?;
                Ok(())
            }
            Some(bound) if bound == hub.0 => Ok(()),
            Some(bound) => Err(StoreError::OtherHub {
                bound: Address::from_slice(&bound).map_or_else(
                    || "unknown".to_owned(),
                    |address| address.checksummed().as_str().to_owned(),
                ),
            }),
        }
    }

    /// Judges a counter of the hub's and remembers it if it is fresh.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn admit(&mut self, kind: Kind, epoch: u32, counter: u64) -> Result<Seen, StoreError> {
        let mut table = self.inner.open_table(WINDOWS)?;
        let key = kind as u8;
        let stored = table.get(key)?.map(|value| value.value().to_vec());
        let mut window = match stored {
            Some(stored) => Sliding::from_bytes(&stored).ok_or(StoreError::Record { table: "windows" })?,
            None => Sliding::default(),
        };
        let seen = window.accept(epoch, counter);
        if seen == Seen::Fresh {
            table.insert(key, window.to_bytes().as_slice())?;
        }
        Ok(seen)
    }

    /// Saves the time below which the clock never falls again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn save_time(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let last = self.meta_u64("time")?.unwrap_or(0);
        self.set_meta_u64("time", now_ms.max(last))
    }

    /// Makes a setting.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_setting(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let key = format!("setting/{name}");
        self.inner.open_table(META)?.insert(key.as_str(), value.as_bytes())?;
        Ok(())
    }

    /// Keeps a frame that proves that the hub broke its word; the oldest go where there are too many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_evidence(&mut self, frame: &[u8]) -> Result<(), StoreError> {
        let mut table = self.inner.open_table(EVIDENCE)?;
        let next = table.last()?.map_or(0, |(place, _)| place.value() + 1);
        table.insert(next, frame)?;
        table.retain(|place, _| place + MAX_EVIDENCE > next)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
