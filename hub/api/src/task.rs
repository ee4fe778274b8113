//! Tasks, and devices' leases on them.

use serde::{Deserialize, Serialize};
use sosna_protocol::result::Usage;
use utoipa::ToSchema;

use crate::{
    text::{
        AddressText, AmountText, ArchText, AssignmentIdText, CauseText, ClassText, HashText, JudgementText,
        PhaseText, ReasonText, TaskIdText,
    },
    word::words,
};

words! {
    /// How a task stands.
    pub enum TaskState {
        /// No device has accepted it.
        Queued = "queued",
        /// Some device has, and it is not decided.
        Running = "running",
        /// A result counts, and its exit code is 0.
        Succeeded = "succeeded",
        /// A result counts, and it is a failure; or none could be had.
        Failed = "failed",
        /// Stopped with its job.
        Cancelled = "cancelled",
    }
}

impl TaskState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// One unit of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its name within the hub.
    pub id: TaskIdText,
    /// Which of the job's tasks, from 0.
    pub index: u32,
    /// How it stands.
    pub state: TaskState,
    /// How often replicas had to be asked for, from 1: more than once where devices did not agree or were lost.
    pub round: u32,
    /// The manifest digest (SHA-256) that all its replicas run, once it is resolved.
    pub image: Option<HashText>,
    /// That image's architecture.
    pub arch: Option<ArchText>,
    /// The program's exit code as a shell would give it, of the result that counts.
    pub exit_code: Option<u8>,
    /// How it ended, of the result that counts.
    pub cause: Option<CauseText>,
    /// The root of the result tree that counts.
    pub result_root: Option<HashText>,
    /// The SHA-256 of the result's manifest in the content store.
    pub manifest: Option<HashText>,
    /// Whether standard output is in the root.
    pub stdout_counts: bool,
    /// Owed for it so far.
    pub price: AmountText,
    /// Whether the hub had, or has, a second device check the first, at the operator's expense.
    #[serde(default)]
    pub checked: bool,
    /// Why no device (or not enough) has it, while that is so.
    pub unplaced_reason: Option<Unplaced>,
    /// What a person should know about its end.
    pub explanation: Option<String>,
    /// Devices' leases on it, oldest first.
    pub assignments: Vec<Assignment>,
}

/// Why a task is not placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unplaced {
    /// For a person, with what to do next.
    pub explanation: String,
    /// How many devices were considered.
    pub devices: u32,
    /// How many of them each constraint excluded first, the largest number first.
    pub excluded: Vec<Excluded>,
}

/// Devices that one constraint excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excluded {
    /// The constraint.
    pub constraint: Constraint,
    /// How many devices it excluded.
    pub devices: u32,
}

words! {
    /// What can exclude a device from a task.
    pub enum Constraint {
        /// It is not connected.
        Offline = "offline",
        /// Its state forbids it: revoked, quarantined, draining.
        State = "state",
        /// Another architecture.
        Arch = "arch",
        /// Another class than the task's other replicas.
        Class = "class",
        /// Too little processor, in all or now.
        Cpu = "cpu",
        /// Too little memory, in all or now.
        Memory = "memory",
        /// Too little disk or too few inodes, in all or now.
        Disk = "disk",
        /// Too few processes, in all or now.
        Pids = "pids",
        /// Another region.
        Region = "region",
        /// It asks more than the job may cost.
        Price = "price",
        /// It asks more than may be given away of the buyer's work before the buyer signs for what was spent.
        Confirmation = "confirmation",
        /// Its owner has a replica of the task already.
        Owner = "owner",
        /// Its network has a replica of the task already.
        Subnet = "subnet",
        /// Its reputation does not suffice.
        Reputation = "reputation",
        /// It is owed as much as it is willing to be.
        Exposure = "exposure",
        /// It cannot do what the job needs (network, limits).
        Unsupported = "unsupported",
        /// It refused this task, failed at it, or had it before.
        Tried = "tried",
    }
}

words! {
    /// How an assignment stands.
    pub enum AssignmentState {
        /// Stored and sent; no answer yet.
        Offered = "offered",
        /// The device has it on disk and will do it.
        Accepted = "accepted",
        /// The device has committed to a result that it has not shown.
        Committed = "committed",
        /// The device has shown its result, which is not judged yet.
        Revealed = "revealed",
        /// There is a verdict.
        Judged = "judged",
        /// The device will not do it.
        Refused = "refused",
        /// The device could not.
        Failed = "failed",
        /// The lease ran out.
        Lost = "lost",
        /// The hub took it back.
        Cancelled = "cancelled",
    }
}

/// One device's lease on one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    /// Its name.
    pub id: AssignmentIdText,
    /// Whose.
    pub device: AddressText,
    /// That device's owner at that time.
    pub owner: AddressText,
    /// That device's class.
    pub class: ClassText,
    /// Which round of the task it belongs to.
    pub round: u32,
    /// How it stands.
    pub state: AssignmentState,
    /// How far the device says it is.
    pub phase: Option<PhaseText>,
    /// Thousandths of that phase, where that is known.
    pub permille: Option<u16>,
    /// What was agreed on.
    pub price: AmountText,
    /// What the device committed to.
    pub commitment: Option<HashText>,
    /// The root of the result that it showed.
    pub root: Option<HashText>,
    /// How the task ended there.
    pub cause: Option<CauseText>,
    /// With which exit code.
    pub exit_code: Option<u8>,
    /// What the hub makes of it.
    pub verdict: Option<JudgementText>,
    /// What the hub owes for it.
    pub owed: Option<AmountText>,
    /// What the device says it took.
    pub usage: Option<UsageReport>,
    /// Why the device refused.
    pub refusal: Option<ReasonText>,
    /// Why it is not as wished, for a person.
    pub explanation: Option<String>,
    /// When it was sent.
    pub offered_ms: u64,
    /// When the device accepted it.
    pub started_ms: Option<u64>,
    /// When it was judged, refused, failed, lost or taken back.
    pub ended_ms: Option<u64>,
}

/// What a device says that an assignment took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Processor time in nanoseconds.
    pub cpu_ns: u64,
    /// The most memory at once, in bytes.
    pub peak_memory: u64,
    /// From start to end, in milliseconds.
    pub wall_ms: u64,
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        Self { cpu_ns: usage.cpu_ns, peak_memory: usage.peak_memory, wall_ms: usage.wall_ms }
    }
}
