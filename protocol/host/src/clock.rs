//! The one clock: time as the protocol counts it, exchangeable so that tests can put it decades off.

use std::{
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// A clock that many parts share.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock, or one in its place, moved by an offset that a hub's signed time has set.
#[derive(Debug, Default)]
pub struct SystemClock {
    /// Instead of the operating system's.
    base: Option<SharedClock>,
    offset_ms: RwLock<i64>,
}

impl SystemClock {
    /// The operating system's clock as it is.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self::default())
    }

    /// Another clock in the operating system's place.
    #[must_use]
    pub fn over(base: SharedClock) -> Self {
        Self { base: Some(base), offset_ms: RwLock::default() }
    }

    fn base_ms(&self) -> u64 {
        self.base.as_ref().map_or_else(system_ms, |base| base.now_ms())
    }

    /// Moves the clock so that it tells `now_ms` now.
    pub fn set(&self, now_ms: u64) {
        self.set_with(now_ms, || ());
    }

    /// The same, with a `step` of the operating system's clock just before: nobody reads the one without the other.
    pub fn set_with(&self, now_ms: u64, step: impl FnOnce()) {
        let mut offset_ms = self.offset_ms.write().unwrap_or_else(PoisonError::into_inner);
        step();
        let offset = i128::from(now_ms) - i128::from(self.base_ms());
        *offset_ms = i64::try_from(offset).unwrap_or(0);
    }

    /// By how many milliseconds it is ahead of the clock below it.
    #[must_use]
    pub fn offset_ms(&self) -> i64 {
        *self.offset_ms.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn system_ms() -> u64 {
    // A machine that believes to live before 1970 has no clock worth asking; its hub will tell it.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // Held while the system's clock is asked: it may be about to be moved.
        let offset_ms = self.offset_ms.read().unwrap_or_else(PoisonError::into_inner);
        self.base_ms().saturating_add_signed(*offset_ms)
    }
}
