//! The device's time: never below the build's and the last saved one, and trusted only once a hub has signed it
//! over a nonce of ours. Machines without a battery clock start in 1970. Where the whole machine is ours, its clock
//! follows.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sosna_host::clock::{Clock, SharedClock, SystemClock};

use crate::rights::MachineClock;

/// No device that runs this program lives before this moment (1 November 2026), milliseconds since 1970.
pub const NOT_BEFORE_MS: u64 = 1_793_491_200_000;

/// Below this difference the machine's clock is left alone, milliseconds.
const RIGHT_ENOUGH_MS: u64 = 2000;

/// The one clock of an agent.
#[derive(Debug, Clone)]
pub struct DeviceClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: SystemClock,
    floor_ms: AtomicU64,
    trusted: AtomicBool,
    /// Moves the machine's own clock, where that is ours to do.
    machine: Option<MachineClock>,
}

// === impl DeviceClock ===

impl DeviceClock {
    /// The machine's clock, raised to the last saved time where it lags behind. `machine` moves the machine's clock once
    /// a hub has told the time; containers see that one.
    #[must_use]
    pub fn new(system: SystemClock, saved_ms: Option<u64>, machine: Option<MachineClock>) -> Self {
        let floor = saved_ms.unwrap_or(0).max(NOT_BEFORE_MS);
        let clock = Self(Arc::new(Inner {
            system,
            floor_ms: AtomicU64::new(floor),
            trusted: AtomicBool::new(false),
            machine,
        }));
        if clock.0.system.now_ms() < floor {
            clock.0.system.set(floor);
        }
        clock
    }

    /// Takes a hub's signed time that answers a nonce of ours.
    pub fn learn(&self, hub_ms: u64) {
        let now_ms = hub_ms.max(self.0.floor_ms.load(Ordering::Relaxed));
        let system_ms = self.0.system.now_ms().saturating_add_signed(-self.0.system.offset_ms());
        match &self.0.machine {
            Some(machine) if system_ms.abs_diff(now_ms) > RIGHT_ENOUGH_MS => {
                self.0.system.set_with(now_ms, || match machine.set(now_ms) {
                    Ok(()) => tracing::info!(system_ms, now_ms, "the machine's clock was wrong and is set"),
                    Err(error) => tracing::warn!("the machine's clock stays wrong: {error}"),
                });
            }
            _ => self.0.system.set(now_ms),
        }
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
        let clock = DeviceClock::new(SystemClock::default(), Some(far), None);
        assert!(clock.now_ms() >= far);
        assert_eq!(clock.trusted_ms(), None);
        assert!(clock.for_tls().is_none());
        clock.learn(far - 1);
        assert!(clock.now_ms() >= far, "a hub cannot turn a device back");
        clock.learn(far + 1_000_000);
        assert!(clock.trusted_ms().is_some_and(|now| now >= far + 1_000_000));
    }
}
