//! MQTT topics: `u/<shard>/<device>/<kind>` up to a hub, `c/<device>/<kind>` down to a device.

use core::fmt;

use crate::{hash::sha256, identity::Address};

/// The longest topic in bytes: `u/255/` + 40 + `/` + the longest kind, rounded up.
pub const MAX_TOPIC: usize = 64;
/// A topic in text.
pub type TopicText = heapless::String<MAX_TOPIC>;

/// An exchange: the last level of a topic, and the channel of the frames on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Enrolment and certificate renewal; the only kind on the bootstrap listener.
    Enrol = 1,
    /// Greeting, capabilities, price list, clock.
    Hello = 2,
    /// Assignments, their acceptance, leases, cancellation.
    Work = 3,
    /// Commitments, reveals, verdicts.
    Result = 4,
    /// Vouchers.
    Pay = 5,
    /// Application acknowledgements.
    Ack = 6,
    /// Signs of life and progress; may be lost.
    Beat = 7,
    /// Live output of tasks; may be lost.
    Log = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] =
        [Self::Enrol, Self::Hello, Self::Work, Self::Result, Self::Pay, Self::Ack, Self::Beat, Self::Log];

    /// The word that stands in topics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Hello => "hello",
            Self::Work => "work",
            Self::Result => "result",
            Self::Pay => "pay",
            Self::Ack => "ack",
            Self::Beat => "beat",
            Self::Log => "log",
        }
    }

    /// The kind that a topic's last level names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The channel number of this kind's frames.
    #[must_use]
    pub const fn channel(self) -> u64 {
        self as u64
    }

    /// The kind whose frames have this channel.
    #[must_use]
    pub fn from_channel(channel: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.channel() == channel)
    }
}

/// Which of the 256 shards a device belongs to, so that hubs can share a fleet without sharing a subscription.
#[must_use]
pub fn shard_of(device: &Address) -> u8 {
    sha256(&device.0).0[0]
}

/// A parsed topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// From a device to its hub.
    Up {
        /// The device's shard.
        shard: u8,
        /// Who speaks.
        device: Address,
        /// About what.
        kind: Kind,
    },
    /// From a hub to a device.
    Down {
        /// Who is spoken to.
        device: Address,
        /// About what.
        kind: Kind,
    },
}

impl Topic {
    /// The topic on which `device` speaks to its hub.
    #[must_use]
    pub fn up(device: Address, kind: Kind) -> Self {
        Self::Up { shard: shard_of(&device), device, kind }
    }

    /// The topic on which a hub speaks to `device`.
    #[must_use]
    pub const fn down(device: Address, kind: Kind) -> Self {
        Self::Down { device, kind }
    }

    /// Reads a topic; `None` for anything but the canonical text of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut levels = text.split('/');
        let topic = match levels.next()? {
            "u" => {
                let shard = levels.next()?.parse().ok()?;
                Self::Up {
                    shard,
                    device: levels.next()?.parse().ok()?,
                    kind: Kind::from_word(levels.next()?)?,
                }
            }
            "c" => {
                Self::Down { device: levels.next()?.parse().ok()?, kind: Kind::from_word(levels.next()?)? }
            }
            _ => return None,
        };
        // Comparing with the canonical form refuses `0x`, upper case, `+7` and further levels in one place.
        (topic.text() == text).then_some(topic)
    }

    /// The canonical text.
    #[must_use]
    pub fn text(&self) -> TopicText {
        use fmt::Write as _;
        let mut text = TopicText::new();
        // MAX_TOPIC holds the longest topic, so writing cannot fail.
        let _ = write!(text, "{self}");
        text
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { shard, device, kind } => write!(f, "u/{shard}/{device}/{}", kind.word()),
            Self::Down { device, kind } => write!(f, "c/{device}/{}", kind.word()),
        }
    }
}
