//! How many connections the bootstrap front bears: in all, from one address at a time, and from one address in a
//! minute. Counted before anything is read, because a stranger's TLS handshake costs more than his connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Addresses that are remembered at a time; a flood from more of them finds the listener's total limit first.
const MAX_ADDRESSES: usize = 65_536;

/// The limits, see [`crate::BrokerConfig`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) in_all: usize,
    pub(super) per_address: usize,
    pub(super) per_minute: u32,
}

impl Bounds {
    fn burst(&self) -> f64 {
        f64::from((self.per_minute / 4).max(1))
    }
}

#[derive(Default)]
struct Counts {
    open: usize,
    addresses: HashMap<IpAddr, Caller>,
}

struct Caller {
    open: usize,
    /// How many more connections may be made at once; refilled with time.
    credit: f64,
    at: Instant,
}

impl Caller {
    fn refill(&mut self, bounds: &Bounds, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        self.credit = (self.credit + minutes * f64::from(bounds.per_minute)).min(bounds.burst());
        self.at = now;
    }
}

pub(super) struct Admissions {
    bounds: Bounds,
    counts: Mutex<Counts>,
}

impl Admissions {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection from `address` in, or not. It counts until the guard is dropped.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Admitted> {
        let address = party(address);
        let bounds = self.bounds;
        let mut counts = self.counts();
        if counts.open >= bounds.in_all {
            return None;
        }
        if counts.addresses.len() >= MAX_ADDRESSES && !counts.addresses.contains_key(&address) {
            let idle = Duration::from_secs(60);
            counts.addresses.retain(|_, one| one.open > 0 || now.saturating_duration_since(one.at) < idle);
            if counts.addresses.len() >= MAX_ADDRESSES {
                return None;
            }
        }
        let caller =
            counts.addresses.entry(address).or_insert(Caller { open: 0, credit: bounds.burst(), at: now });
        caller.refill(&bounds, now);
        if caller.open >= bounds.per_address || caller.credit < 1.0 {
            return None;
        }
        caller.credit -= 1.0;
        caller.open += 1;
        counts.open += 1;
        Some(Admitted { admissions: self.clone(), address })
    }
}

pub(super) struct Admitted {
    admissions: Arc<Admissions>,
    address: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admissions.counts();
        counts.open = counts.open.saturating_sub(1);
        if let Some(caller) = counts.addresses.get_mut(&self.address) {
            caller.open = caller.open.saturating_sub(1);
        }
    }
}

/// Whom an address stands for: in IPv6 one party has at least a /64.
fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const BOUNDS: Bounds = Bounds { in_all: 3, per_address: 2, per_minute: 12 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_and_all_cannot_take_more_than_there_is() {
        let admissions = Admissions::new(BOUNDS);
        let now = Instant::now();
        let first = admissions.admit(address("192.0.2.1"), now).unwrap();
        let _second = admissions.admit(address("192.0.2.1"), now).unwrap();
        assert!(admissions.admit(address("192.0.2.1"), now).is_none());
        let _third = admissions.admit(address("192.0.2.2"), now).unwrap();
        assert!(admissions.admit(address("192.0.2.3"), now).is_none());
        drop(first);
        assert!(admissions.admit(address("192.0.2.3"), now).is_some());
    }

    #[test]
    fn credit_runs_out_and_comes_back() {
        let admissions = Admissions::new(BOUNDS);
        let now = Instant::now();
        for _ in 0..3 {
            assert!(admissions.admit(address("192.0.2.1"), now).is_some());
        }
        assert!(admissions.admit(address("192.0.2.1"), now).is_none());
        assert!(admissions.admit(address("192.0.2.2"), now).is_some());
        assert!(admissions.admit(address("192.0.2.1"), now + Duration::from_secs(6)).is_some());
        assert!(admissions.admit(address("192.0.2.1"), now + Duration::from_secs(6)).is_none());
    }

    #[test]
    fn a_prefix_is_one_party() {
        assert_eq!(party(address("2001:db8::1")), party(address("2001:db8::ffff:1")));
        assert_ne!(party(address("2001:db8::1")), party(address("2001:db8:0:1::1")));
        assert_eq!(party(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
