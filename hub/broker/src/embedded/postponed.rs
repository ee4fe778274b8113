//! Who is told to come back later: the engine's hook can only say that somebody is not authorised, which a device
//! would take for a word about itself. So such a session is let through there, and stopped where the engine asks for
//! its limits, for which it answers that the server is unavailable. Were that step ever left out, the hub is asked once
//! more before the session begins.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many there are at most: far more than handshakes at once, each of which leaves within moments.
const MOST: usize = 65_536;

/// Connections that are to be refused for the moment, by where they come from.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    from: Mutex<HashSet<SocketAddr>>,
}

impl Postponed {
    fn from(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection from there is one.
    pub(super) fn enter(&self, from: SocketAddr) {
        let mut all = self.from();
        if all.len() >= MOST {
            // Of handshakes that broke off in between. Who is forgotten is asked about again.
            all.clear();
        }
        all.insert(from);
    }

    /// Whether the connection from there is one; from now on it is none.
    pub(super) fn leave(&self, from: &SocketAddr) -> bool {
        self.from().remove(from)
    }
}
