//! Removes content that nothing needs any more.
//!
//! A file goes only where it was taken long enough ago, no job and nobody's upload needs it, and nobody relies on it
//! at this moment (see [`super::keeping`]). The hub's clock may be wrong by much: what a job needs never depends on it
//! while the job is open.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use sosna_protocol::Hash;

use super::room::charge;
use crate::{error::HubError, hub::Hub};

/// How many files are looked at while nobody else may rely on any.
const BATCH: usize = 64;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Pieces.
    pub pieces: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Begins a collection where one is due; it goes on beside the caller.
pub(crate) fn collect_when_due(hub: &Arc<Hub>) {
    let now = hub.now_ms();
    if now < hub.keeping.due_ms.load(Ordering::Relaxed) {
        return;
    }
    hub.keeping.due_ms.store(now.saturating_add(hub.config.content.collect_ms), Ordering::Relaxed);
    let hub = hub.clone();
    tokio::spawn(async move {
        match collect(&hub).await {
            Ok(Collected { pieces: 0, .. }) => {}
            Ok(Collected { pieces, bytes }) => {
                let left = hub.keeping.stored();
                tracing::info!(pieces, bytes, left, "content that nothing needs any more was removed");
            }
            Err(error) => {
                tracing::error!("content could not be collected: {}", sosna_host::report::line(&error));
            }
        }
    });
}

/// Removes what nothing needs, and counts what is there. Nothing is done where another collection is under way.
///
/// # Errors
/// [`HubError`]; what was removed until then is gone, and the rest waits for the next time.
pub async fn collect(hub: &Arc<Hub>) -> Result<Collected, HubError> {
    let Ok(_one) = hub.keeping.collecting.try_lock() else { return Ok(Collected::default()) };
    let keep = &hub.config.content;
    let age = Duration::from_millis(keep.unused_ms);
    let now = hub.now_ms();
    let (unused, results) = (now.saturating_sub(keep.unused_ms), now.saturating_sub(keep.results_ms));
    hub.store.write(move |tx| Box::pin(async move { tx.forget_held(unused).await })).await?;

    let before = hub.keeping.stored();
    let store = hub.content.clone();
    let walked = tokio::task::spawn_blocking(move || {
        let (mut old, mut all) = (Vec::new(), 0_u64);
        store.each(|name, length, taken| {
            all = all.saturating_add(charge(length));
            if is_old(taken, age) {
                old.push((name, length));
            }
        })?;
        Ok::<_, sosna_host::file::FileError>((old, all))
    });
    let (old, all) =
        walked.await.map_err(|error| HubError::internal("content could not be listed", error))??;
    // What came while the folders were read stays counted: rather twice than not at all.
    hub.keeping.stored.fetch_add(all.wrapping_sub(before), Ordering::Relaxed);

    let mut collected = Collected::default();
    for batch in old.chunks(BATCH) {
        let _alone = hub.keeping.gate.write().await;
        let names: Vec<Hash> = batch.iter().map(|(name, _)| *name).collect();
        let needed = hub
            .store
            .read(|tx| {
                Box::pin(async move {
                    let mut needed = Vec::with_capacity(names.len());
                    for name in names {
                        needed.push(tx.is_needed(&name, unused, results).await?);
                    }
                    Ok::<_, sosna_store::StoreError>(needed)
                })
            })
            .await?;
        for ((name, length), _) in batch.iter().zip(needed).filter(|(_, needed)| !needed) {
            // It may have been sent again since the folder was read.
            if hub.content.taken(name).is_some_and(|taken| is_old(taken, age)) {
                hub.content.remove(name)?;
                collected.pieces += 1;
                collected.bytes += length;
                hub.keeping.stored.fetch_sub(charge(*length), Ordering::Relaxed);
                hub.metrics.content_collected.add_one();
                hub.metrics.content_collected_bytes.add(*length);
            }
        }
    }
    Ok(collected)
}

fn is_old(taken: SystemTime, age: Duration) -> bool {
    // A time in the future is a clock that was set back: the file waits until it is past.
    taken.elapsed().is_ok_and(|passed| passed >= age)
}
