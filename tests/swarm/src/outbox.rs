//! What a device has said and the hub has not confirmed yet, sealed under counters that never come twice.

use std::collections::VecDeque;

use sosna_host::{identity::IdentityKey, seal};
use sosna_protocol::{
    Address,
    envelope::Meta,
    identity::Sign as _,
    message::{Message, ack::Position},
    topic::Kind,
};

/// A sealed frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) kind: Kind,
    pub(crate) counter: u64,
    pub(crate) frame: Vec<u8>,
}

/// Counters by kind, and what waits for the hub's word.
#[derive(Debug)]
pub(crate) struct Outbox {
    key: IdentityKey,
    hub: Address,
    epoch: u32,
    counters: [u64; Kind::ALL.len() + 1],
    waiting: VecDeque<Sealed>,
}

// === impl Outbox ===

impl Outbox {
    /// An empty one. An epoch that is higher than any before makes a device that has lost its counters, as one of a
    /// swarm that was started again has, a restored one and not a cloned one.
    pub(crate) fn new(key: IdentityKey, hub: Address, epoch: u32) -> Self {
        Self { key, hub, epoch, counters: [0; Kind::ALL.len() + 1], waiting: VecDeque::new() }
    }

    /// A frame that may be lost.
    pub(crate) fn seal<M: Message>(&mut self, message: &M) -> Sealed {
        let counter = &mut self.counters[M::KIND as usize];
        *counter += 1;
        let meta = Meta {
            sender: self.key.address(),
            audience: self.hub,
            epoch: self.epoch,
            counter: *counter,
            expires_ms: 0,
        };
        let body = seal::body(message).expect("a device's own messages are within their bounds");
        let frame = seal::one(&self.key, meta, body).expect("a key in memory signs");
        Sealed { kind: M::KIND, counter: meta.counter, frame }
    }

    /// A frame that waits until the hub has it on disk.
    pub(crate) fn say<M: Message>(&mut self, message: &M) -> Sealed {
        let sealed = self.seal(message);
        self.waiting.push_back(sealed.clone());
        sealed
    }

    /// The hub has confirmed. Returns how many frames wait no more.
    pub(crate) fn acknowledged(&mut self, position: &Position) -> usize {
        if position.epoch != self.epoch {
            return 0;
        }
        let before = self.waiting.len();
        self.waiting.retain(|sealed| sealed.kind != position.kind || sealed.counter > position.contiguous);
        before - self.waiting.len()
    }

    /// What is not confirmed, in the order in which it was said.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Sealed> {
        self.waiting.iter()
    }
}

#[cfg(test)]
mod tests {
    use sosna_protocol::{identity::AssignmentId, message::work::Accept};

    use super::*;

    #[test]
    fn what_is_said_waits_for_the_hubs_word_of_the_same_epoch() {
        let mut outbox = Outbox::new(IdentityKey::generate(), Address([1; 20]), 7);
        for n in 1..=3 {
            assert_eq!(outbox.say(&Accept { assignment: AssignmentId([n; 16]) }).counter, u64::from(n));
        }
        let position = |epoch, kind| Position { kind, epoch, contiguous: 2 };
        assert_eq!(outbox.acknowledged(&position(6, Kind::Work)), 0);
        assert_eq!(outbox.acknowledged(&position(7, Kind::Pay)), 0);
        assert_eq!(outbox.acknowledged(&position(7, Kind::Work)), 2);
        assert_eq!(outbox.waiting().map(|sealed| sealed.counter).collect::<Vec<_>>(), [3]);
    }
}
