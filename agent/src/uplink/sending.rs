//! Which outbox frames are on their way on this session: in order of their counters, few at a time, again where no
//! acknowledgement comes.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use sosna_protocol::topic::Kind;

use crate::store::{Queued, Store, StoreError};

/// Frames without an acknowledgement at a time.
const MOST: usize = 16;
/// After so long without any acknowledgement everything is sent again: the hub may have been started anew behind a
/// broker that was not.
const AGAIN: Duration = Duration::from_secs(30);
/// After so long the connection itself is doubted, and made anew.
const DOUBT: Duration = Duration::from_secs(150);

/// The kinds in the order in which they are sent: answers before results before receipts of vouchers.
const ORDER: [Kind; 3] = [Kind::Work, Kind::Result, Kind::Pay];

/// The part of the outbox that is on its way.
#[derive(Debug)]
pub(super) struct Sending {
    /// The newest counter that was handed over, by kind.
    sent: BTreeMap<Kind, u64>,
    /// What was handed over and is not acknowledged.
    on_way: VecDeque<(Kind, u64)>,
    last_progress: Instant,
    last_sent: Instant,
    /// Everything was sent again, and nothing of it is acknowledged yet.
    is_again: bool,
}

// === impl Sending ===

impl Sending {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sent: BTreeMap::new(),
            on_way: VecDeque::new(),
            last_progress: now,
            last_sent: now,
            is_again: false,
        }
    }

    /// What may be sent now.
    pub(super) fn next(&mut self, store: &Store) -> Result<Vec<Queued>, StoreError> {
        let mut next = Vec::new();
        for kind in ORDER {
            let room = MOST.saturating_sub(self.on_way.len() + next.len());
            if room == 0 {
                break;
            }
            let after = self.sent.get(&kind).copied().unwrap_or(0);
            next.extend(store.outbox(kind, after, room)?);
        }
        Ok(next)
    }

    /// A frame was handed over.
    pub(super) fn sent(&mut self, frame: &Queued, now: Instant) {
        if self.on_way.is_empty() && !self.is_again {
            self.last_progress = now;
        }
        self.last_sent = now;
        self.sent.insert(frame.kind, frame.counter);
        self.on_way.push_back((frame.kind, frame.counter));
    }

    /// The hub has everything of a kind up to a counter.
    pub(super) fn acknowledged(&mut self, kind: Kind, up_to: u64, now: Instant) {
        let before = self.on_way.len();
        self.on_way.retain(|(other, counter)| *other != kind || *counter > up_to);
        if self.on_way.len() < before {
            self.last_progress = now;
            self.is_again = false;
        }
    }

    /// Forgets what was sent: after a new epoch, or where acknowledgements fail to come.
    pub(super) fn begin_again(&mut self) {
        self.sent.clear();
        self.on_way.clear();
    }

    /// Looks whether acknowledgements come; `false` where the connection should be made anew.
    pub(super) fn check(&mut self, now: Instant) -> bool {
        if self.on_way.is_empty() {
            return true;
        }
        if now.duration_since(self.last_progress) > DOUBT {
            return false;
        }
        if now.duration_since(self.last_progress) > AGAIN && now.duration_since(self.last_sent) > AGAIN {
            self.begin_again();
            // Sending again is no progress.
            self.is_again = true;
            self.last_sent = now;
        }
        true
    }

    /// Whether everything that was sent is acknowledged.
    pub(super) fn is_quiet(&self) -> bool {
        self.on_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_host::identity::IdentityKey;
    use sosna_protocol::{Address, identity::AssignmentId, message::work::Accept};

    use super::*;

    #[test]
    fn frames_go_in_order_few_at_a_time_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), IdentityKey::generate()).unwrap();
        let hub = Address([1; 20]);
        store
            .write(|tx| (0..20).try_for_each(|n| tx.say(&hub, &Accept { assignment: AssignmentId([n; 16]) })))
            .map_err(|error: StoreError| error)
            .unwrap();
        let start = Instant::now();
        let mut sending = Sending::new(start);
        let first = sending.next(&store).unwrap();
        assert_eq!(first.iter().map(|frame| frame.counter).collect::<Vec<_>>(), (1..=16).collect::<Vec<_>>());
        first.iter().for_each(|frame| sending.sent(frame, start));
        assert!(sending.next(&store).unwrap().is_empty());
        sending.acknowledged(Kind::Work, 3, start);
        let more = sending.next(&store).unwrap();
        assert_eq!(more.iter().map(|frame| frame.counter).collect::<Vec<_>>(), [17, 18, 19]);
        assert!(sending.check(start + Duration::from_secs(1)));
        assert!(sending.check(start + AGAIN + Duration::from_secs(1)));
        assert_eq!(sending.next(&store).unwrap().first().unwrap().counter, 1, "everything goes again");
        sending.next(&store).unwrap().iter().for_each(|frame| sending.sent(frame, start + AGAIN));
        assert!(!sending.check(start + DOUBT + Duration::from_secs(1)), "the connection is doubted");
    }
}
