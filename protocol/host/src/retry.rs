//! The one way to try again: exponential back-off with full jitter, so that a fleet does not come back as one.

use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits at most `first` after the first failure, twice as long after each further one, never above `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait: anything between half of the present bound and all of it.
    pub fn wait(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.most);
        let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(2);
        let jitter = u64::from_be_bytes(crate::random()) % (millis / 2);
        Duration::from_millis(millis - jitter)
    }

    /// Starts over: the attempt succeeded.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}
