//! Every message, one file an exchange.
//!
//! A message's kind is its frame's channel and its topic's last level; its number is the frame's message.
//! Numbers and the order of fields never change; fields may be added at the end.

pub mod ack;
pub mod beat;
pub mod enrol;
pub mod hello;
pub mod log;
pub mod pay;
pub mod result;
pub mod work;

use crate::{
    codec::{DecodeError, Encode},
    envelope::{self, Meta, SealError},
    frame::Frame,
    identity::Sign,
    topic::Kind,
};

/// The versions of the protocol that this crate speaks, oldest and newest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The longest text that explains something to a person.
pub const MAX_EXPLANATION: usize = 1024;

/// A message: arguments with a place in the protocol.
pub trait Message: Encode {
    /// The exchange.
    const KIND: Kind;
    /// The number within it.
    const NUMBER: u64;

    /// Writes the message as a sealed frame into `buffer` and returns the frame. `scratch` holds the body
    /// meanwhile and needs as much room.
    ///
    /// # Errors
    /// [`SealError`].
    fn seal<'b, S: Sign + ?Sized>(
        &self,
        signer: &S,
        meta: Meta,
        scratch: &mut [u8],
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], SealError<S::Error>> {
        let mut writer = crate::codec::Writer::new(buffer);
        envelope::write(&mut writer, scratch, signer, meta, (Self::KIND.channel(), Self::NUMBER), self)?;
        let length = writer.written();
        Ok(&buffer[..length])
    }

    /// Whether a frame carries this message.
    #[must_use]
    fn is(frame: &Frame<'_>) -> bool {
        frame.channel == Self::KIND.channel() && frame.message == Self::NUMBER
    }
}

/// Why a frame is none of the messages that may come on its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The frame's channel is not the topic's kind, or its number is unknown here. Answered, not punished: the
    /// other side may be newer.
    #[error("message {message} on channel {channel} is not known here")]
    Unknown {
        /// The frame's channel.
        channel: u64,
        /// The frame's message.
        message: u64,
    },
    /// The arguments are not the message's.
    #[error("the arguments of message {message} on channel {channel} cannot be read")]
    Arguments {
        /// The frame's channel.
        channel: u64,
        /// The frame's message.
        message: u64,
        /// Why not.
        #[source]
        source: DecodeError,
    },
}

/// Gives structures their places, and makes the enum of those that one side may receive on a kind.
macro_rules! messages {
    ($kind:ident: $($(#[$meta:meta])* $set:ident $(<$life:lifetime>)? { $($name:ident $(<$inner:lifetime>)? = $number:literal,)+ })+) => {
        $(
            $(impl $(<$inner>)? $crate::message::Message for $name $(<$inner>)? {
                const KIND: $crate::topic::Kind = $crate::topic::Kind::$kind;
                const NUMBER: u64 = $number;
            })+

            $(#[$meta])*
            #[derive(Debug, Clone, PartialEq)]
            #[allow(clippy::large_enum_variant, reason = "without an allocator there is no box to put the large one in")]
            pub enum $set $(<$life>)? {
                $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name $(<$inner>)?),)+
            }

            impl<'de $(: $life, $life)?> $set $(<$life>)? {
                /// Reads the message that a frame carries.
                ///
                /// # Errors
                /// [`MessageError`](crate::message::MessageError).
                pub fn read(frame: &$crate::frame::Frame<'de>) -> Result<Self, $crate::message::MessageError> {
                    let (channel, message) = (frame.channel, frame.message);
                    let malformed = |source| $crate::message::MessageError::Arguments { channel, message, source };
                    if channel != $crate::topic::Kind::$kind.channel() {
                        return Err($crate::message::MessageError::Unknown { channel, message });
                    }
                    match message {
                        $($number => frame.arguments().map(Self::$name).map_err(malformed),)+
                        _ => Err($crate::message::MessageError::Unknown { channel, message }),
                    }
                }
            }
        )+
    };
}
pub(crate) use messages;
