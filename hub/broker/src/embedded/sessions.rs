//! Which device has which session now. The engine knows its sessions too, but forgets one only after it is gone;
//! here a session stops counting the moment it is dismissed or taken over, and a publish of it is refused.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rmqtt::types::Id;
use sosna_protocol::Address;

use super::reaper::Peer;

struct Live {
    id: Id,
    from: Option<IpAddr>,
    /// The hub has ended it; its connection closes in a moment.
    dismissed: bool,
}

/// The sessions of one listener.
#[derive(Default)]
pub(super) struct Sessions {
    live: Mutex<HashMap<Address, Live>>,
}

impl Sessions {
    fn live(&self) -> MutexGuard<'_, HashMap<Address, Live>> {
        // Every change is one call on the map: a panic elsewhere cannot have left it half done.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `id` the device's session. Returns whether it replaced another.
    pub(super) fn enter(&self, device: Address, id: Id, from: Option<IpAddr>) -> bool {
        self.live().insert(device, Live { id, from, dismissed: false }).is_some()
    }

    /// Forgets the device's session if it is `id`. Returns whether it was.
    pub(super) fn leave(&self, device: &Address, id: &Id) -> bool {
        let mut live = self.live();
        let is_it = live.get(device).is_some_and(|one| one.id == *id);
        if is_it {
            live.remove(device);
        }
        is_it
    }

    /// Whether `id` is the device's session and may still speak.
    pub(super) fn is_current(&self, device: &Address, id: &Id) -> bool {
        self.live().get(device).is_some_and(|one| one.id == *id && !one.dismissed)
    }

    /// Lets the device's session speak no more. Returns whether there was one that could.
    pub(super) fn dismiss(&self, device: &Address) -> bool {
        self.live().get_mut(device).is_some_and(|one| !std::mem::replace(&mut one.dismissed, true))
    }

    pub(super) fn contains(&self, device: &Address) -> bool {
        self.live().get(device).is_some_and(|one| !one.dismissed)
    }

    /// From where the device's session comes; `None` if it has none.
    pub(super) fn origin(&self, device: &Address) -> Option<Option<IpAddr>> {
        self.live().get(device).map(|one| one.from)
    }

    /// The other ends of all connections that have a session.
    pub(super) fn peers(&self) -> HashSet<Peer> {
        let live = self.live();
        let peers = live.values().filter_map(|one| one.id.remote_addr);
        peers.map(|address| (address.ip(), address.port())).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.live().values().filter(|one| !one.dismissed).count()
    }

    pub(super) fn devices(&self) -> Vec<Address> {
        self.live().iter().filter(|(_, one)| !one.dismissed).map(|(device, _)| *device).collect()
    }
}
