//! Application acknowledgements. A sender forgets a message only by one of these: an MQTT acknowledgement says
//! that a broker has it, whatever that means there.

use super::messages;
use crate::{
    codec::{Decode, DecodeError, Encode, EncodeError, List, Reader, Writer, structure},
    topic::Kind,
};

impl Encode for Kind {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.unsigned(self.channel())
    }
}

impl<'a> Decode<'a> for Kind {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::from_channel(reader.unsigned()?).ok_or(DecodeError::Value)
    }
}

structure! {
    /// Everything of one kind up to a counter has been taken and is on disk.
    #[derive(Copy, Eq)]
    pub struct Position {
        /// Which kind.
        pub kind: Kind,
        /// The sender's epoch.
        pub epoch: u32,
        /// The highest counter below which nothing is missing.
        pub contiguous: u64,
    }
}

structure! {
    /// Acknowledges.
    pub struct Ack<'a> {
        /// Up to where, by kind.
        pub positions: List<'a, Position, 8>,
    }
}

messages! { Ack:
    /// What hubs say.
    Down<'a> { Ack<'a> = 0, }
}
