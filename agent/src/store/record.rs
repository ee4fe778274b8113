//! The records of tasks and receipts, as they lie in the store: JSON, so that an owner can read them.

use serde::{Deserialize, Serialize};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    eip712::{Domain, Receipt},
    identity::{AssignmentId, TaskId},
    message::result::Reveal,
    resources::Resources,
    result::{Cause, Usage},
};

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its name.
    #[serde(with = "text")]
    pub assignment: AssignmentId,
    /// What will be owed for it.
    #[serde(with = "text")]
    pub price: Amount,
    /// What it may use while it is not finished.
    #[serde(with = "resources")]
    pub resources: Resources,
    /// How many bytes of each output stream are kept beside that.
    #[serde(default)]
    pub log_bytes: u64,
    /// How far it is.
    pub state: State,
    /// When it was accepted, milliseconds since 1970.
    pub accepted_ms: u64,
    /// Until when the lease holds.
    pub lease_until_ms: u64,
    /// Whether results stay here until the hub says that commitments are closed.
    pub commits: bool,
    /// How often a container that was lost has been started again while the machine went on.
    pub reruns: u32,
    /// How often it was started again because the machine had been restarted.
    #[serde(default)]
    pub restarts: u32,
    /// How often the hub has asked for content of the result again.
    #[serde(default)]
    pub asked_again: u32,
    /// The machine's boot in which its container was last asked for.
    #[serde(default)]
    pub boot: String,
    /// When the hub closed the commitments: until when the result must be shown.
    pub reveal_by_ms: Option<u64>,
    /// The result, once there is one.
    pub result: Option<ResultRecord>,
    /// When the record came to its end.
    pub ended_ms: Option<u64>,
}

/// How far an assignment is. Everything before a state is on disk when the state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum State {
    /// Accepted; image and inputs are being fetched.
    Waiting,
    /// Its container was asked for.
    Running,
    /// It has a result that is to be delivered.
    Finished,
    /// The result is with the hub, which judges.
    Revealed,
    /// The hub has judged.
    Settled {
        /// Its word.
        judgement: String,
        /// What the hub says to owe.
        #[serde(with = "text")]
        owed: Amount,
    },
    /// There will be no result, and the hub was told.
    Failed {
        /// The cause's word.
        cause: String,
        /// For a person.
        explanation: String,
    },
    /// The hub does not want it any more.
    Dropped {
        /// For a person.
        explanation: String,
    },
}

/// A finished task's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The cause's word.
    pub cause: String,
    /// As a shell would give it.
    pub exit_code: u8,
    /// The result tree's root.
    #[serde(with = "text")]
    pub root: Hash,
    /// The commitment's salt; all zero where there is none.
    #[serde(with = "text")]
    pub salt: Hash,
    /// The manifest's name as content.
    #[serde(with = "text")]
    pub manifest: Hash,
    /// Its bytes.
    pub manifest_length: u64,
    /// What it took.
    pub cpu_ns: u64,
    /// The most memory at once.
    pub peak_memory: u64,
    /// From start to end.
    pub wall_ms: u64,
    /// The device's signature of the receipt.
    #[serde(with = "text")]
    pub receipt: Signature,
    /// Bytes of disk under it until the hub has judged.
    pub kept_bytes: u64,
}

/// A receipt and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// Under which lease.
    #[serde(with = "text")]
    pub assignment: AssignmentId,
    /// Of which task.
    #[serde(with = "text")]
    pub task: TaskId,
    /// For whom.
    #[serde(with = "text")]
    pub hub: Address,
    /// By whom.
    #[serde(with = "text")]
    pub device: Address,
    /// Of which image.
    #[serde(with = "text")]
    pub image: Hash,
    /// The result.
    #[serde(with = "text")]
    pub result: Hash,
    /// What it took.
    pub cpu_ns: u64,
    /// The most memory at once.
    pub peak_memory: u64,
    /// From start to end.
    pub wall_ms: u64,
    /// The price.
    #[serde(with = "text")]
    pub price: Amount,
    /// The chain of the receipt's domain.
    pub chain_id: u64,
    /// The wallet of the receipt's domain.
    #[serde(with = "text")]
    pub wallet: Address,
    /// The device's signature.
    #[serde(with = "text")]
    pub signature: Signature,
    /// When it was signed, milliseconds since 1970.
    pub made_ms: u64,
    /// The hub's judgement, once it came.
    pub judgement: Option<String>,
    /// When a voucher covered it.
    pub covered_ms: Option<u64>,
}

/// What was seen of the hub's wallet on its chain: what stays true when nobody can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletRecord {
    /// The chain.
    pub chain_id: u64,
    /// The wallet.
    #[serde(with = "text")]
    pub wallet: Address,
    /// What it had paid to this device in all.
    #[serde(with = "text")]
    pub paid: Amount,
    /// How often this device has said to whom it is paid.
    pub payee_nonce: u64,
    /// This device's lines of the roots that are on the chain.
    pub lines: Vec<PayoutLine>,
}

/// What a root on the chain commits to this device, with the way up that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutLine {
    /// The root.
    #[serde(with = "text")]
    pub root: Hash,
    /// How many lines its tree has.
    pub count: u32,
    /// All that the device was ever owed by it.
    #[serde(with = "text")]
    pub cumulative: Amount,
    /// The hashes beside the way up, from the line on.
    #[serde(with = "texts")]
    pub path: Vec<Hash>,
}

// === impl WalletRecord ===

impl WalletRecord {
    /// Of what the hub signs for it.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, wallet: self.wallet }
    }
}

// === impl TaskRecord ===

impl TaskRecord {
    /// Whether it takes up room: it is to run, or runs.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        matches!(self.state, State::Waiting | State::Running)
    }

    /// Bytes of disk that its output may still take.
    #[must_use]
    pub const fn promised_output(&self) -> u64 {
        if self.is_active() { self.log_bytes.saturating_mul(2) } else { 0 }
    }

    /// Whether the hub still expects something of it, or we of the hub.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Running | State::Finished | State::Revealed)
    }
}

// === impl ResultRecord ===

impl ResultRecord {
    /// What it took.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        Usage { cpu_ns: self.cpu_ns, peak_memory: self.peak_memory, wall_ms: self.wall_ms }
    }

    /// What is said of it to the hub; `None` where the record is damaged.
    #[must_use]
    pub fn reveal(&self, assignment: AssignmentId) -> Option<Reveal> {
        Some(Reveal {
            assignment,
            cause: Cause::from_word(&self.cause)?,
            exit_code: self.exit_code,
            root: self.root,
            salt: self.salt,
            manifest: self.manifest,
            manifest_length: self.manifest_length,
            usage: self.usage(),
            receipt: self.receipt,
        })
    }
}

// === impl ReceiptRecord ===

impl ReceiptRecord {
    /// The structure that was signed.
    #[must_use]
    pub const fn receipt(&self) -> Receipt {
        Receipt {
            hub: self.hub,
            device: self.device,
            assignment: self.assignment,
            task: self.task,
            image: self.image,
            result: self.result,
            usage: Usage { cpu_ns: self.cpu_ns, peak_memory: self.peak_memory, wall_ms: self.wall_ms },
            price: self.price,
        }
    }

    /// Whether the hub has accepted the work, owes for it, and has not yet signed for it.
    #[must_use]
    pub fn is_uncovered(&self) -> bool {
        self.covered_ms.is_none()
            && self.is_worth_something()
            && self.judgement.as_deref() == Some("accepted")
    }

    /// Whether anything was agreed to be owed for it. What costs nothing waits for no voucher.
    #[must_use]
    pub fn is_worth_something(&self) -> bool {
        self.price > Amount::ZERO
    }

    /// The domain that it was signed in.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, wallet: self.wallet }
    }
}

/// Values with a text of their own, in JSON.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A list of them.
mod texts {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(T::to_string))
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

mod resources {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use sosna_protocol::resources::Resources;

    pub(super) fn serialize<S: Serializer>(value: &Resources, serializer: S) -> Result<S::Ok, S::Error> {
        (value.cpu_millis, value.memory, value.disk, value.inodes, value.pids).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Resources, D::Error> {
        let (cpu_millis, memory, disk, inodes, pids) = Deserialize::deserialize(deserializer)?;
        Ok(Resources { cpu_millis, memory, disk, inodes, pids })
    }
}
