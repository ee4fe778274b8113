//! Who stands behind the connections that the bootstrap front makes to the engine.
//!
//! The engine sees the front's address; the real one is looked up here. A connection that is not in the table was
//! not made by the front: somebody on this machine found the engine's port, and is refused.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Default)]
pub(super) struct Callers {
    table: Mutex<HashMap<SocketAddr, IpAddr>>,
}

impl Callers {
    fn table(&self) -> MutexGuard<'_, HashMap<SocketAddr, IpAddr>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom the front's connection from `local` belongs to.
    pub(super) fn behind(&self, local: &SocketAddr) -> Option<IpAddr> {
        self.table().get(local).copied()
    }

    /// Enters a connection of the front for as long as the guard lives.
    pub(super) fn enter(self: &Arc<Self>, local: SocketAddr, caller: IpAddr) -> Entered {
        self.table().insert(local, caller);
        Entered { callers: self.clone(), local }
    }
}

pub(super) struct Entered {
    callers: Arc<Callers>,
    local: SocketAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.callers.table().remove(&self.local);
    }
}
