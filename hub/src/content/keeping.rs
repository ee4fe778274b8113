//! Who may store how much, and who may name what.
//!
//! Everybody's uploads are counted before their first byte is taken. Whoever checks that content is there and then
//! makes something depend on it holds [`Keeping::steady`] from the one to the other: nothing is collected meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::sys::statvfs::statvfs;
use sosna_api::Code;
use sosna_host::{file::FileError, manifest::MAX_MANIFEST};
use sosna_protocol::{Address, Hash, identity::AssignmentId};
use sosna_store::{AssignmentState, Holder, Tx};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::{error::HubError, hub::Hub, job::JobSpec};

/// What is known of the content store beside its files.
#[derive(Debug, Default)]
pub struct Keeping {
    /// Held for reading by whoever relies on content that nothing names yet, for writing while some is removed.
    pub(super) gate: RwLock<()>,
    /// Bytes of all files, as they were counted last, and what was added and removed since.
    pub(super) stored: AtomicU64,
    /// When the next collection is due, by the hub's clock.
    pub(super) due_ms: AtomicU64,
    /// One collection at a time.
    pub(super) collecting: tokio::sync::Mutex<()>,
    /// Bytes that are on their way.
    coming: Mutex<HashMap<Holder, u64>>,
}

/// An upload that was admitted, while it lasts.
#[derive(Debug)]
pub(super) struct Coming {
    hub: Arc<Hub>,
    holder: Holder,
    length: u64,
}

// === impl Keeping ===

impl Keeping {
    /// Until it is dropped, nothing is collected.
    pub(crate) async fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Bytes in the store, as of the last count and what has come and gone since.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<Holder, u64>> {
        // Counters only: a panic while they were held leaves nothing half-done.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Coming ===

impl Coming {
    /// Admits an upload, where its sender may hold `allowed` bytes that nothing uses yet and the store has room.
    ///
    /// # Errors
    /// [`Code::Quota`], [`Code::DiskFull`].
    pub(super) async fn admit(
        hub: &Arc<Hub>,
        holder: &Holder,
        allowed: u64,
        name: &Hash,
        length: u64,
    ) -> Result<Self, HubError> {
        // Counted before it is checked: of two that do not fit together, at least one is refused.
        let (own, all) = {
            let mut coming = hub.keeping.coming();
            let own = coming.entry(holder.clone()).or_default();
            *own += length;
            (*own, coming.values().sum::<u64>())
        };
        let admitted = Self { hub: hub.clone(), holder: holder.clone(), length };
        let refused = admitted.check(allowed, name, own, all).await;
        if refused.is_err() {
            hub.metrics.content_refused.add_one();
        }
        refused.map(|()| admitted)
    }

    async fn check(&self, allowed: u64, name: &Hash, own: u64, all: u64) -> Result<(), HubError> {
        let (hub, holder, name) = (&self.hub, self.holder.clone(), *name);
        let read = hub.store.read(|tx| {
            Box::pin(async move {
                let again = tx.held_since(&holder, &name).await?.is_some();
                let unused = if again { 0 } else { tx.unused_bytes(&holder).await? };
                Ok::<_, HubError>((again, unused))
            })
        });
        let (again, unused) = read.await?;
        // What its sender holds already is counted.
        if !again && unused.saturating_add(own) > allowed {
            let length = self.length;
            let detail = match &self.holder {
                Holder::Person(_) => format!(
                    "{unused} bytes that you have sent wait for a job, and with {length} more it would be beyond the \
                     {allowed} that one person may store; run a job with them, wait until they are removed, or ask \
                     the operator to raise content.person_bytes"
                ),
                Holder::Assignment(id) => format!(
                    "{unused} bytes are stored for the assignment {id}, and {length} more are beyond the {allowed} \
                     that its task may leave behind"
                ),
            };
            return Err(HubError::refused(Code::Quota, detail));
        }
        let keep = &hub.config.content;
        let limit = keep.store_bytes;
        if limit > 0 && hub.keeping.stored().saturating_add(all) > limit {
            let detail = format!(
                "the hub's content store holds its {limit} bytes; try again later, or ask the operator to make room \
                 (content.store_bytes)"
            );
            return Err(HubError::refused(Code::DiskFull, detail));
        }
        let root = hub.content.root();
        let disk =
            statvfs(root).map_err(|errno| FileError::of("ask for the free space of", root)(errno.into()))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        if free.saturating_sub(all) < keep.free_bytes {
            let detail = format!(
                "the hub's disk has {free} bytes left, and {} of them stay free; try again later, or ask the operator \
                 to make room (content.free_bytes)",
                keep.free_bytes
            );
            return Err(HubError::refused(Code::DiskFull, detail));
        }
        Ok(())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut coming = self.hub.keeping.coming();
        if let Some(bytes) = coming.get_mut(&self.holder) {
            *bytes = bytes.saturating_sub(self.length);
            if *bytes == 0 {
                coming.remove(&self.holder);
            }
        }
    }
}

/// How many bytes a device may store for an assignment: what its task may leave on a disk, its logs, its manifest.
///
/// # Errors
/// [`Code::Expired`] where nothing that comes for it can count any more.
pub(super) async fn declared(tx: &mut Tx, device: &Address, id: &AssignmentId) -> Result<u64, HubError> {
    let over = || {
        let detail =
            format!("the assignment {id} is over, or is not this device's: nothing more is stored for it");
        HubError::refused(Code::Expired, detail)
    };
    let one = tx.assignment(id).await?.filter(|one| one.device == *device).ok_or_else(over)?;
    let may_count = matches!(
        one.state,
        AssignmentState::Offered
            | AssignmentState::Accepted
            | AssignmentState::Committed
            // Its lease ran out, but while the task is open its result still counts.
            | AssignmentState::Expired
    );
    let task =
        tx.task(&one.task).await?.filter(|task| may_count && task.ended_ms.is_none()).ok_or_else(over)?;
    let spec = tx.job(&task.job).await?.and_then(|job| JobSpec::read(&job.spec)).ok_or_else(over)?;
    let logs = spec.request.log_bytes.unwrap_or_default().saturating_mul(2);
    Ok(spec.resources().disk.saturating_add(logs).saturating_add(MAX_MANIFEST))
}

/// How long content is that a person may name in a job; `None` for what is not there and for what they have not shown
/// to have: they must not learn which.
pub(crate) async fn owned_length(hub: &Hub, person: &str, name: &Hash) -> Result<Option<u64>, HubError> {
    let (person, asked) = (person.to_owned(), *name);
    let may = hub.store.read(|tx| Box::pin(async move { tx.may_name(&person, &asked).await })).await?;
    Ok(hub.content.length(name).filter(|_| may))
}

/// Why content is not there that a person's jobs (anybody's, for `None`) may have had.
pub(crate) async fn missing(hub: &Hub, person: Option<&str>, name: &Hash, what: &str) -> HubError {
    let (person, name) = (person.map(str::to_owned), *name);
    let ended =
        hub.store.read(|tx| Box::pin(async move { tx.content_ended(person.as_deref(), &name).await })).await;
    let kept = hub.config.content.results_ms;
    match ended {
        Err(error) => error.into(),
        Ok(Some(ended)) if ended.saturating_add(kept) < hub.now_ms() => {
            let detail = format!(
                "the results of this job have expired: this hub keeps them for {} after a job's end; run the job again",
                days(kept)
            );
            HubError::refused(Code::Expired, detail)
        }
        Ok(_) => HubError::not_found(what),
    }
}

fn days(ms: u64) -> String {
    match (ms / 86_400_000, ms / 1000) {
        (0, seconds) => format!("{seconds} s"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}
