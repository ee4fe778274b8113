//! Assignments: what a device is asked to run, whether it will, for how long it holds the lease.

use super::{MAX_EXPLANATION, messages};
use crate::{
    amount::Amount,
    codec::{Decode, DecodeError, Encode, EncodeError, List, Reader, Text, Writer, structure},
    eip712::Domain,
    hash::Hash,
    identity::{Address, AssignmentId, JobId, TaskId},
    resources::Resources,
    result::code,
};

/// The longest argument, environment entry or path in bytes.
pub const MAX_TEXT: usize = 4096;
/// How many arguments, environment entries, inputs or outputs there may be of each.
pub const MAX_ITEMS: usize = 256;
/// A list of texts of an assignment.
pub type Texts<'a> = List<'a, Text<'a, MAX_TEXT>, MAX_ITEMS>;

code! {
    /// What network a task sees.
    pub enum Network {
        /// Its own loopback.
        None = 0 "none",
        /// The internet without private ranges.
        Internet = 1 "internet",
    }
}

code! {
    /// Where an image's parts can be fetched.
    pub enum SourceKind {
        /// An OCI distribution registry; the text is a reference without a digest.
        Registry = 1 "registry",
        /// The hub's content store; the text is empty.
        Hub = 2 "hub",
    }
}

structure! {
    /// One place to fetch an image from.
    pub struct Source<'a> {
        /// Which kind of place.
        pub kind: SourceKind,
        /// Its name there.
        pub name: Text<'a, 512>,
    }
}

structure! {
    /// A file given to the task, read-only.
    pub struct Input<'a> {
        /// Its content, which is its name in the hub's content store.
        pub sha256: Hash,
        /// Bytes.
        pub length: u64,
        /// Absolute path in the container.
        pub destination: Text<'a, 1024>,
    }
}

structure! {
    /// Run this.
    pub struct Assign<'a> {
        /// Names the lease.
        pub assignment: AssignmentId,
        /// The unit of work.
        pub task: TaskId,
        /// The job that it belongs to.
        pub job: JobId,
        /// Which of the job's tasks, from 0; SOSNA_TASK_INDEX.
        pub index: u32,
        /// How many tasks the job has; SOSNA_TASK_COUNT.
        pub count: u32,
        /// What the hub will owe for it.
        pub price: Amount,
        /// The chain that the price is settled on, 0 for none.
        pub chain_id: u64,
        /// The hub's wallet there, or its own address.
        pub wallet: Address,
        /// The image's manifest (for the device's platform) by its SHA-256.
        pub image: Hash,
        /// Where to fetch it, best first.
        pub sources: List<'a, Source<'a>, 4>,
        /// The image's own entry point is replaced, where this is not empty.
        pub entrypoint: Texts<'a>,
        /// The image's own command is replaced, where this is not empty.
        pub command: Texts<'a>,
        /// `KEY=VALUE`, over the image's own.
        pub environment: Texts<'a>,
        /// Over the image's own, where this is not empty.
        pub working_dir: Text<'a, 1024>,
        /// What it may use.
        pub resources: Resources,
        /// How long it may take, in milliseconds.
        pub timeout_ms: u64,
        /// How many bytes of each output stream are kept.
        pub log_bytes: u64,
        /// What it sees of the network.
        pub network: Network,
        /// Files that it is given.
        pub inputs: List<'a, Input<'a>, MAX_ITEMS>,
        /// Absolute paths that make up its result.
        pub outputs: Texts<'a>,
        /// Whether standard output belongs to the result too.
        pub stdout_counts: bool,
        /// Whether the device commits first and keeps everything to itself until the hub says that the
        /// commitments are closed.
        pub commits: bool,
        /// Until when the lease holds unless it is renewed, milliseconds since 1970.
        pub lease_until_ms: u64,
    }
}

impl Assign<'_> {
    /// The domain in which receipts and vouchers of this assignment are signed.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, wallet: self.wallet }
    }
}

structure! {
    /// Stop it, and forget it.
    pub struct Cancel<'a> {
        /// Which.
        pub assignment: AssignmentId,
        /// Why, for a person.
        pub explanation: Text<'a, MAX_EXPLANATION>,
    }
}

structure! {
    /// A lease and its end.
    #[derive(Copy, Eq)]
    pub struct Lease {
        /// Which.
        pub assignment: AssignmentId,
        /// Until when, milliseconds since 1970.
        pub until_ms: u64,
    }
}

structure! {
    /// These leases go on.
    pub struct Renewed<'a> {
        /// Which, and until when.
        pub leases: List<'a, Lease, 256>,
        /// Assignments that the device spoke of and that are not its own (any more).
        pub lost: List<'a, AssignmentId, 256>,
    }
}

structure! {
    /// The device has it on disk and will do it.
    #[derive(Copy, Eq)]
    pub struct Accept {
        /// Which.
        pub assignment: AssignmentId,
    }
}

code! {
    /// Why a device will not do an assignment.
    pub enum Reason {
        /// Less than its price list asks.
        Price = 1 "price",
        /// No room for it now.
        NoRoom = 2 "no-room",
        /// The hub owes it more than it is willing to be owed.
        Exposure = 3 "exposure",
        /// Something in it cannot be done here.
        Unsupported = 4 "unsupported",
        /// It is being shut down or drained.
        Draining = 5 "draining",
        /// It contradicts itself or an earlier one of the same name.
        Malformed = 6 "malformed",
        /// The hub's wallet on the chain is not one that it works for.
        Wallet = 7 "wallet",
    }
}

structure! {
    /// The device will not do it.
    pub struct Refuse<'a> {
        /// Which.
        pub assignment: AssignmentId,
        /// Why.
        pub reason: Reason,
        /// The same for a person.
        pub explanation: Text<'a, MAX_EXPLANATION>,
    }
}

messages! { Work:
    /// What hubs say.
    Down<'a> { Assign<'a> = 0, Cancel<'a> = 1, Renewed<'a> = 2, }
    /// What devices answer.
    Up<'a> { Accept = 3, Refuse<'a> = 4, }
}
