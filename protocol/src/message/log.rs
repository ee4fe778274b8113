//! Live output of tasks whose result needs no commitment. The whole output comes with the result in any case.

use super::messages;
use crate::{
    codec::{Bounded, Decode, DecodeError, Encode, EncodeError, Reader, Writer, structure},
    identity::AssignmentId,
    result::code,
};

/// The most output in one message, in bytes.
pub const MAX_CHUNK: usize = 16 * 1024;

code! {
    /// Which output.
    pub enum Stream {
        /// Standard output.
        Stdout = 1 "stdout",
        /// Standard error.
        Stderr = 2 "stderr",
    }
}

structure! {
    /// A piece of output.
    pub struct Chunk<'a> {
        /// Whose.
        pub assignment: AssignmentId,
        /// Which of its outputs.
        pub stream: Stream,
        /// Where in the stream it begins, in bytes.
        pub offset: u64,
        /// What was written.
        pub bytes: Bounded<&'a [u8], MAX_CHUNK>,
    }
}

messages! { Log:
    /// What devices say.
    Up<'a> { Chunk<'a> = 0, }
}
