//! One lock for each thing being brought in, so that the same work is never done twice at once. Locks are taken in
//! the order image, layer, blob, and never the other way round.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::digest::Digest;

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Image(Digest),
    Layer(Digest),
    Blob(Digest),
}

/// All locks in use.
#[derive(Debug, Default)]
pub(crate) struct Locks(Mutex<HashMap<Key, Arc<AsyncMutex<()>>>>);

// === impl Locks ===

impl Locks {
    pub(crate) async fn lock(&self, key: Key) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What only the map holds nobody waits for.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key).or_default())
        };
        lock.lock_owned().await
    }
}
