//! The device's time: never below the build's and the last saved one, and trusted only once a hub has signed it
//! over a nonce of ours. Machines without a battery clock start in 1970.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sosna_host::clock::{Clock, SharedClock, SystemClock};

/// No device that runs this program lives before this moment (1 November 2026), milliseconds since 1970.
pub const NOT_BEFORE_MS: u64 = 1_793_491_200_000;

/// The one clock of an agent.
#[derive(Debug, Clone)]
pub struct DeviceClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: SystemClock,
    floor_ms: AtomicU64,
    trusted: AtomicBool,
}

// === impl DeviceClock ===

impl DeviceClock {
    /// The operating system's clock, raised to the last saved time where it lags behind.
    #[must_use]
    pub fn new(saved_ms: Option<u64>) -> Self {
        let floor = saved_ms.unwrap_or(0).max(NOT_BEFORE_MS);
        let clock = Self(Arc::new(Inner {
            system: SystemClock::default(),
            floor_ms: AtomicU64::new(floor),
            trusted: AtomicBool::new(false),
        }));
        if clock.0.system.now_ms() < floor {
            clock.0.system.set(floor);
        }
        clock
    }

    /// Takes a hub's signed time that answers a nonce of ours.
    pub fn learn(&self, hub_ms: u64) {
        let floor = self.0.floor_ms.load(Ordering::Relaxed);
        self.0.system.set(hub_ms.max(floor));
        self.0.trusted.store(true, Ordering::Relaxed);
    }

    /// Now, if a hub has told the time since the start.
    #[must_use]
    pub fn trusted_ms(&self) -> Option<u64> {
        self.0.trusted.load(Ordering::Relaxed).then(|| self.now_ms())
    }

    /// The clock for judging certificates' dates; `None` while nobody has told the time.
    #[must_use]
    pub fn for_tls(&self) -> Option<SharedClock> {
        self.trusted_ms().map(|_| Arc::new(self.clone()) as SharedClock)
    }

    /// Remembers that `now_ms` is on disk: the clock never falls below it again.
    pub fn saved(&self, now_ms: u64) {
        self.0.floor_ms.fetch_max(now_ms, Ordering::Relaxed);
    }
}

impl Clock for DeviceClock {
    fn now_ms(&self) -> u64 {
        self.0.system.now_ms().max(self.0.floor_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_falls_below_what_was_saved() {
        let far = NOT_BEFORE_MS + 400 * 24 * 3_600_000;
        let clock = DeviceClock::new(Some(far));
        assert!(clock.now_ms() >= far);
        assert_eq!(clock.trusted_ms(), None);
        assert!(clock.for_tls().is_none());
        clock.learn(far - 1);
        assert!(clock.now_ms() >= far, "a hub cannot turn a device back");
        clock.learn(far + 1_000_000);
        assert!(clock.trusted_ms().is_some_and(|now| now >= far + 1_000_000));
    }
}
