//! Messages of a device that had to be dropped: who sends many is slowed down.

use std::time::Duration;

/// So many a minute are let pass: a newer device says things that this hub does not know, and one that was restored
/// repeats itself.
const MOST: u32 = 16;
const MINUTE_MS: u64 = 60_000;
/// How long the sender's session waits after each one more. Only that session: the broker reads nothing of it meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// How many there were, and since when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dropped {
    count: u32,
    since_ms: u64,
}

// === impl Dropped ===

impl Dropped {
    /// Counts one more; for how long nothing is to be heard of its sender.
    #[must_use]
    pub fn count(&mut self, now_ms: u64) -> Duration {
        if now_ms.saturating_sub(self.since_ms) >= MINUTE_MS {
            *self = Self { count: 0, since_ms: now_ms };
        }
        self.count = self.count.saturating_add(1);
        if self.count > MOST { PAUSE } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_a_minute_cost_nothing_and_each_more_a_second() {
        let mut dropped = Dropped::default();
        assert!((0..16).all(|n| dropped.count(1_000_000 + n).is_zero()));
        assert!((0..100).all(|n| dropped.count(1_000_100 + n * 100) == PAUSE));
        assert!(dropped.count(1_060_000).is_zero(), "the next minute begins anew");
    }
}
