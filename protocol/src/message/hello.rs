//! What both sides say first on every session: versions, the clock, what the device is, has and asks, and what
//! each still holds of the other.

use super::{MAX_EXPLANATION, ack::Position, messages};
use crate::{
    amount::Amount,
    codec::{Bounded, List, Text, structure},
    identity::{AssignmentId, Nonce},
    message::pay::{MAX_PROOF, Statement},
    resources::{Ask, Class, Resources},
};

structure! {
    /// The image that an agent is part of, as far as the device knows it. Told for people: a device that lies about
    /// itself gains nothing by it.
    #[derive(Copy, Eq)]
    pub struct System<'a> {
        /// The board that the image is made for.
        pub board: Text<'a, 32>,
        /// The slot that runs.
        pub slot: Text<'a, 8>,
        /// The image's version.
        pub version: Text<'a, 32>,
        /// Whether the boot image is what it was composed as: `sound`, `unchecked`, or what differs.
        pub boot_image: Text<'a, 128>,
    }
}

structure! {
    /// An owner's own word about a device.
    #[derive(Copy, Eq)]
    pub struct Label<'a> {
        /// What it is about.
        pub name: Text<'a, 64>,
        /// What it says.
        pub value: Text<'a, 128>,
    }
}

structure! {
    /// A device greets its hub.
    pub struct Hello<'a> {
        /// The oldest version of the protocol that it speaks.
        pub oldest: u16,
        /// The newest.
        pub newest: u16,
        /// Repeated in the answer, which so carries a time that nobody could have recorded.
        pub nonce: Nonce,
        /// The agent's version.
        pub agent: Text<'a, 64>,
        /// Architecture and level.
        pub class: Class,
        /// All that it lends, free or not.
        pub resources: Resources,
        /// Its price list.
        pub ask: Ask,
        /// Assignments that it holds and has not finished delivering.
        pub held: List<'a, AssignmentId, 256>,
        /// The best voucher of this hub that it holds.
        pub voucher: Option<Statement>,
        /// Limits that it cannot enforce, each with the reason, for people.
        pub missing_limits: List<'a, Text<'a, 200>, 16>,
        /// Up to where it has taken what the hub sent, by kind.
        pub positions: List<'a, Position, 8>,
        /// What it is willing to be owed without a voucher.
        pub exposure_limit: Option<Amount>,
        /// The hub's own frame with the verdict that says the most to have ever been owed: after a restoration it
        /// proves what the books have lost.
        pub earned: Option<Bounded<&'a [u8], MAX_PROOF>>,
        /// The image that the agent is part of, where it is part of one.
        pub system: Option<System<'a>>,
        /// Whether its traffic costs money.
        pub metered: Option<bool>,
        /// What its owner says about it.
        pub labels: Option<List<'a, Label<'a>, 16>>,
    }
}

structure! {
    /// The hub answers.
    pub struct Welcome<'a> {
        /// The greeting's.
        pub nonce: Nonce,
        /// The version to be spoken on this session.
        pub version: u16,
        /// The hub's time, milliseconds since 1970.
        pub time_ms: u64,
        /// How often the device is to show that it lives, in milliseconds.
        pub beat_ms: u32,
        /// How long a lease lasts after a beat, in milliseconds.
        pub lease_ms: u32,
        /// Up to where the hub has taken what the device sent, by kind.
        pub positions: List<'a, Position, 8>,
        /// Assignments among those held that the hub does not want any more.
        pub unwanted: List<'a, AssignmentId, 256>,
        /// `host:port` of the main listener, where it has moved.
        pub main: Text<'a, 256>,
        /// Base URL of the content store.
        pub content: Text<'a, 256>,
    }
}

structure! {
    /// The hub cannot speak with this device.
    pub struct Farewell<'a> {
        /// The greeting's.
        pub nonce: Nonce,
        /// The hub's time, milliseconds since 1970.
        pub time_ms: u64,
        /// Why, for a person, with what to do next.
        pub explanation: Text<'a, MAX_EXPLANATION>,
    }
}

messages! { Hello:
    /// What devices say.
    Up<'a> { Hello<'a> = 0, }
    /// What hubs answer.
    Down<'a> { Welcome<'a> = 1, Farewell<'a> = 2, }
}
