//! The one clock: time as the protocol counts it, exchangeable so that tests can put it decades off.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// A clock that many parts share.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock, moved by an offset that a hub's signed time has set.
#[derive(Debug, Default)]
pub struct SystemClock {
    offset_ms: AtomicI64,
}

impl SystemClock {
    /// The operating system's clock as it is.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self::default())
    }

    /// Moves the clock so that it tells `now_ms` now.
    pub fn set(&self, now_ms: u64) {
        let offset = i128::from(now_ms) - i128::from(system_ms());
        self.offset_ms.store(i64::try_from(offset).unwrap_or(0), Ordering::Relaxed);
    }
}

fn system_ms() -> u64 {
    // A machine that believes to live before 1970 has no clock worth asking; its hub will tell it.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        system_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }
}
