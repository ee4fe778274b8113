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

use sosna_api::Code;
use sosna_host::{content::ContentStore, file::FileError, manifest::MAX_MANIFEST};
use sosna_protocol::{Address, Hash, identity::AssignmentId};
use sosna_store::{AssignmentState, Holder, Tx, Unused};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::room::{Allowed, BLOCK, Full, Load, Space, charge};
use crate::{error::HubError, hub::Hub, job::JobSpec};

/// What is known of the content store beside its files.
#[derive(Debug, Default)]
pub struct Keeping {
    /// Held for reading by whoever relies on content that nothing names yet, for writing while some is removed.
    pub(super) gate: RwLock<()>,
    /// What all pieces count for, as they were counted last, and what was added and removed since.
    pub(super) stored: AtomicU64,
    /// When the next collection is due, by the hub's clock.
    pub(super) due_ms: AtomicU64,
    /// One collection at a time.
    pub(super) collecting: tokio::sync::Mutex<()>,
    /// What is on its way.
    coming: Mutex<HashMap<Holder, Load>>,
}

/// An upload that was admitted, while it lasts.
#[derive(Debug)]
pub(super) struct Coming {
    hub: Arc<Hub>,
    holder: Holder,
    load: Load,
}

// === impl Keeping ===

impl Keeping {
    /// Counts what a store has, so that its limits hold from the first upload on.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn count(content: &ContentStore) -> Result<Self, FileError> {
        let mut stored = 0_u64;
        content.each(|_, length, _| stored = stored.saturating_add(charge(length)))?;
        Ok(Self { stored: AtomicU64::new(stored), ..Self::default() })
    }

    /// Until it is dropped, nothing is collected.
    pub(crate) async fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Bytes in the store, a piece counting for a block at least, as of the last count and what has come and gone
    /// since.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    fn coming(&self) -> MutexGuard<'_, HashMap<Holder, Load>> {
        // Counters only: a panic while they were held leaves nothing half-done.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Coming ===

impl Coming {
    /// Admits an upload, where its sender may hold `allowed` that nothing uses yet and the store has room.
    ///
    /// # Errors
    /// [`Code::Quota`], [`Code::DiskFull`].
    pub(super) async fn admit(
        hub: &Arc<Hub>,
        holder: &Holder,
        allowed: Allowed,
        name: &Hash,
        length: u64,
    ) -> Result<Self, HubError> {
        let load = Load::one(length);
        // Counted before it is checked: of two that do not fit together, at least one is refused.
        let (own, all) = {
            let mut coming = hub.keeping.coming();
            let own = coming.entry(holder.clone()).or_default();
            *own = own.plus(&load);
            (*own, coming.values().fold(Load::default(), |sum, one| sum.plus(one)))
        };
        let admitted = Self { hub: hub.clone(), holder: holder.clone(), load };
        let refused = admitted.check(allowed, name, &own, &all).await;
        if refused.is_err() {
            hub.metrics.content_refused.add_one();
        }
        refused.map(|()| admitted)
    }

    async fn check(&self, allowed: Allowed, name: &Hash, own: &Load, all: &Load) -> Result<(), HubError> {
        let hub = &self.hub;
        check_quota(hub, &self.holder, allowed, name, own).await?;
        let keep = &hub.config.content;
        let full = Space::of(hub.content.root())?.lacks(hub.keeping.stored(), all, keep);
        let what = match full {
            None => return Ok(()),
            Some(Full::Store) => {
                let limit = keep.store_bytes;
                format!("the hub's content store holds its {limit} bytes (content.store_bytes)")
            }
            Some(Full::Bytes(free)) => format!(
                "the hub's disk has {free} bytes left, and {} of them stay free (content.free_bytes)",
                keep.free_bytes
            ),
            Some(Full::Inodes(free)) => {
                format!("the hub's disk has room for {free} more files, a hundredth of all, which stays free")
            }
        };
        let detail = format!("{what}; try again later, or ask the operator to make room");
        Err(HubError::refused(Code::DiskFull, detail))
    }
}

/// Whether somebody may hold a piece that they did not hold before, besides what else is on its way from them.
///
/// # Errors
/// [`Code::Quota`].
async fn check_quota(
    hub: &Hub,
    holder: &Holder,
    allowed: Allowed,
    name: &Hash,
    own: &Load,
) -> Result<(), HubError> {
    let (asked, name) = (holder.clone(), *name);
    let read = hub.store.read(|tx| {
        Box::pin(async move {
            let again = tx.held_since(&asked, &name).await?.is_some();
            let unused = if again { Unused::default() } else { tx.unused_content(&asked, BLOCK).await? };
            Ok::<_, HubError>((again, unused))
        })
    });
    let (again, unused) = read.await?;
    // What its sender holds already is counted.
    if again || allowed.admits(&own.plus(&unused.into())) {
        return Ok(());
    }
    let Load { pieces, bytes, charged } = *own;
    let detail = match (holder, allowed) {
        (Holder::Person(_), _) | (_, Allowed::Charged(_)) => format!(
            "{} bytes that you have sent wait for a job (each piece counts for {BLOCK} at least), and with {charged} \
             more it would be beyond what one person may store; run a job with them, wait until they are removed, or \
             ask the operator to raise content.person_bytes",
            unused.charged
        ),
        (Holder::Assignment(id), Allowed::Left { bytes: most, pieces: most_pieces }) => format!(
            "{} pieces of {} bytes are stored for the assignment {id}, and {pieces} more of {bytes} are beyond the \
             {most_pieces} of {most} that its task may leave behind",
            unused.pieces, unused.bytes
        ),
    };
    Err(HubError::refused(Code::Quota, detail))
}

/// Lets a person hold what is here and what they may name, as if they had sent it now.
///
/// # Errors
/// [`Code::Quota`] where they did not hold it before and it would be too much.
pub(crate) async fn hold_on(hub: &Hub, person: String, name: Hash, length: u64) -> Result<(), HubError> {
    let (holder, now) = (Holder::Person(person), hub.now_ms());
    let asked = holder.clone();
    let since = hub.store.read(|tx| Box::pin(async move { tx.held_since(&asked, &name).await })).await?;
    // Seldom, as it costs a write.
    if since.is_some_and(|since| since.saturating_add(hub.config.content.unused_ms / 4) >= now) {
        return Ok(());
    }
    let allowed = Allowed::Charged(hub.config.content.person_bytes);
    check_quota(hub, &holder, allowed, &name, &Load::one(length)).await?;
    hub.store
        .write(move |tx| Box::pin(async move { tx.hold_content(&holder, &name, length, now).await }))
        .await?;
    Ok(())
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut coming = self.hub.keeping.coming();
        if let Some(load) = coming.get_mut(&self.holder) {
            *load = load.minus(&self.load);
            if load.pieces == 0 {
                coming.remove(&self.holder);
            }
        }
    }
}

/// How much a device may store for an assignment: what its task may leave on a disk, its logs, its manifest.
///
/// # Errors
/// [`Code::Expired`] where nothing that comes for it can count any more.
pub(super) async fn declared(tx: &mut Tx, device: &Address, id: &AssignmentId) -> Result<Allowed, HubError> {
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
    let left = spec.resources();
    Ok(Allowed::Left {
        bytes: left.disk.saturating_add(logs).saturating_add(MAX_MANIFEST),
        pieces: left.inodes.saturating_add(3),
    })
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
