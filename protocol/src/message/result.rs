//! What came of an assignment: commit, close, reveal, verdict.

use super::{MAX_EXPLANATION, messages};
use crate::{
    amount::Amount,
    codec::{Decode, DecodeError, Encode, EncodeError, Reader, Text, Writer, structure},
    hash::Hash,
    identity::{AssignmentId, Signature},
    result::{Cause, Usage, code},
};

structure! {
    /// The device has a result and binds itself to it without showing it.
    #[derive(Copy, Eq)]
    pub struct Commit {
        /// Which.
        pub assignment: AssignmentId,
        /// [`crate::result::commitment`].
        pub commitment: Hash,
    }
}

structure! {
    /// No commitment to this task counts any more that has not come in: results may be shown now.
    #[derive(Copy, Eq)]
    pub struct Closed {
        /// Which.
        pub assignment: AssignmentId,
        /// Until when the result must be shown, milliseconds since 1970.
        pub reveal_by_ms: u64,
    }
}

structure! {
    /// The result. Its content is in the hub's content store by then.
    #[derive(Copy, Eq)]
    pub struct Reveal {
        /// Which.
        pub assignment: AssignmentId,
        /// How it ended.
        pub cause: Cause,
        /// The program's exit code as a shell would give it (128 + n for signal n, 127 for no such command).
        pub exit_code: u8,
        /// The root of the result tree.
        pub root: Hash,
        /// The commitment's salt; all zero where none was asked for.
        pub salt: Hash,
        /// The SHA-256 of the result's manifest in the content store.
        pub manifest: Hash,
        /// Bytes of the manifest.
        pub manifest_length: u64,
        /// What it took.
        pub usage: Usage,
        /// The device's signature of the [`Receipt`](crate::eip712::Receipt) that follows from all this and from
        /// the assignment.
        pub receipt: Signature,
    }
}

structure! {
    /// There will be no result from this device.
    pub struct Failed<'a> {
        /// Which.
        pub assignment: AssignmentId,
        /// Why; not one that [is a result](Cause::is_result).
        pub cause: Cause,
        /// The same for a person.
        pub explanation: Text<'a, MAX_EXPLANATION>,
    }
}

code! {
    /// What the hub makes of a result.
    pub enum Judgement {
        /// It is right, and owed for.
        Accepted = 1 "accepted",
        /// It is right, but as many as were asked for were before it.
        Surplus = 2 "surplus",
        /// It is not what the others found.
        Wrong = 3 "wrong",
        /// It came after the lease was given away and completed by another.
        Late = 4 "late",
        /// It came to nothing: the devices did not agree, the task was cancelled, or what was shown is no result.
        Void = 5 "void",
        /// A commitment was never opened.
        NotRevealed = 6 "not-revealed",
    }
}

structure! {
    /// The end of an assignment.
    pub struct Verdict<'a> {
        /// Which.
        pub assignment: AssignmentId,
        /// How it ended.
        pub judgement: Judgement,
        /// What is owed for it.
        pub owed: Amount,
        /// For a person.
        pub explanation: Text<'a, MAX_EXPLANATION>,
        /// All that was ever owed to the device, this included; said where something is owed.
        pub earned: Option<Amount>,
    }
}

structure! {
    /// Content of a result that was shown is not at the hub, which has lost it: bring what is missing, and show the
    /// result again. The assignment goes on meanwhile.
    #[derive(Copy, Eq)]
    pub struct Missing {
        /// Which.
        pub assignment: AssignmentId,
        /// The SHA-256 of the first that is missing; there may be more.
        pub content: Hash,
    }
}

messages! { Result:
    /// What devices say.
    Up<'a> { Commit = 0, Reveal = 2, Failed<'a> = 4, }
    /// What hubs answer.
    Down<'a> { Closed = 1, Verdict<'a> = 3, Missing = 5, }
}
