//! Signs of life: they renew leases and carry progress. One that is lost is made up for by the next.

use super::messages;
use crate::{
    codec::{Decode, DecodeError, Encode, EncodeError, List, Reader, Writer, structure},
    identity::AssignmentId,
    resources::Resources,
    result::code,
};

code! {
    /// How far a device is with an assignment.
    pub enum Phase {
        /// Accepted, waiting for room.
        Waiting = 1 "waiting",
        /// Fetching image and inputs.
        Fetching = 2 "fetching",
        /// Running.
        Running = 3 "running",
        /// Finished, with a result that is committed or about to be.
        Committed = 4 "committed",
        /// Sending the result.
        Delivering = 5 "delivering",
    }
}

structure! {
    /// One assignment's progress.
    #[derive(Copy, Eq)]
    pub struct Progress {
        /// Which.
        pub assignment: AssignmentId,
        /// How far.
        pub phase: Phase,
        /// Thousandths of the phase, as far as that is known; 0 otherwise.
        pub permille: u16,
    }
}

structure! {
    /// The device lives, and still has these.
    pub struct Beat<'a> {
        /// What it holds.
        pub assignments: List<'a, Progress, 256>,
        /// What it has left to lend.
        pub free: Resources,
    }
}

messages! { Beat:
    /// What devices say.
    Up<'a> { Beat<'a> = 0, }
}
