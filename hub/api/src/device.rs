//! Devices: what they are, what they have, how they have done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sosna_protocol::resources::{Ask, Resources};
use utoipa::ToSchema;

use crate::{
    text::{
        AddressText, AmountText, AssignmentIdText, ClassText, HashText, JobIdText, PhaseText, SignatureText,
        TaskIdText,
    },
    word::words,
};

words! {
    /// What a device may do here.
    pub enum DeviceState {
        /// New: its first results are replicated, its payment delayed.
        Probation = "probation",
        /// Everything.
        Trusted = "trusted",
        /// Something is wrong with its identity or its results: nothing until an operator decides.
        Quarantined = "quarantined",
        /// Nothing, for good.
        Revoked = "revoked",
        /// It finishes what it has and gets nothing new.
        Draining = "draining",
    }
}

/// A device in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its name: its key's address.
    pub address: AddressText,
    /// Whose it is.
    pub owner: AddressText,
    /// A name for people, chosen by who set the device up.
    pub hostname: String,
    /// Architecture and level.
    pub class: ClassText,
    /// What it may do here.
    pub state: DeviceState,
    /// Whether it is connected.
    pub online: bool,
    /// When the hub last heard of it.
    pub last_seen_ms: Option<u64>,
    /// When it was enrolled.
    pub enrolled_ms: u64,
    /// The agent's version.
    pub agent: String,
    /// All that it lends; absent before its first session.
    pub total: Option<ResourceAmounts>,
    /// What of it is free now.
    pub free: Option<ResourceAmounts>,
    /// Its price list; absent before its first session.
    pub ask: Option<PriceList>,
    /// How it has done.
    pub reputation: Reputation,
    /// All that the hub ever owed it.
    pub earned: AmountText,
    /// The cumulative amount of its latest voucher.
    pub vouchered: AmountText,
    /// The cumulative amount of the latest voucher that it has confirmed.
    pub held: AmountText,
    /// Limits that it cannot enforce, each with the reason.
    pub missing_limits: Vec<String>,
    /// What it is willing to be owed without a voucher, where it says so.
    #[serde(default)]
    pub exposure_limit: Option<AmountText>,
    /// What operators call it: `region` and others.
    pub labels: BTreeMap<String, String>,
    /// What its owner says about it; nothing is decided by it.
    #[serde(default)]
    pub owner_labels: BTreeMap<String, String>,
    /// The image that its agent is part of, by its own word; absent on any other system.
    #[serde(default)]
    pub system: Option<DeviceSystem>,
    /// Whether its traffic costs money: it leaves large downloads to others.
    #[serde(default)]
    pub metered: bool,
    /// How many open assignments it has.
    pub assignments: u32,
}

/// The image that a device runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceSystem {
    /// The board that the image is made for.
    pub board: String,
    /// The slot that runs, `a` or `b`.
    pub slot: String,
    /// The image's version.
    pub version: String,
    /// Whether the boot image is what it was composed as: `sound`, `unchecked`, or what differs.
    pub boot_image: String,
}

/// An amount of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceAmounts {
    /// Thousandths of a processor core.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
    /// Files and folders.
    pub inodes: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl From<Resources> for ResourceAmounts {
    fn from(from: Resources) -> Self {
        let Resources { cpu_millis, memory, disk, inodes, pids } = from;
        Self { cpu_millis, memory, disk, inodes, pids }
    }
}

impl From<ResourceAmounts> for Resources {
    fn from(from: ResourceAmounts) -> Self {
        let ResourceAmounts { cpu_millis, memory, disk, inodes, pids } = from;
        Self { cpu_millis, memory, disk, inodes, pids }
    }
}

/// A device's price list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PriceList {
    /// For one core for one second.
    pub core_second: AmountText,
    /// For one GiB of memory for one second.
    pub gib_second: AmountText,
    /// The least that any task costs.
    pub minimum: AmountText,
}

impl From<Ask> for PriceList {
    fn from(ask: Ask) -> Self {
        Self {
            core_second: ask.core_second.into(),
            gib_second: ask.gib_second.into(),
            minimum: ask.minimum.into(),
        }
    }
}

/// How a device has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Reputation {
    /// Results that were right.
    pub valid: u64,
    /// Results that were wrong.
    pub invalid: u64,
    /// Right ones that others confirmed, since the last wrong one.
    pub consecutive_valid: u64,
    /// Leases that ran out, refused or failed assignments.
    pub lost: u64,
    /// In thousandths, 0 to 1000: what the scheduler goes by.
    pub score: u16,
}

/// `GET /v1/devices/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceDetail {
    /// The device as in lists.
    #[serde(flatten)]
    pub device: Device,
    /// Its open assignments.
    pub current: Vec<CurrentAssignment>,
    /// How it has done with each class of images that it ever ran: a registry's repository, or the manifest of an
    /// image that was uploaded.
    #[serde(default)]
    pub classes: Vec<ClassReputation>,
    /// Receipts that it showed after the hub was restored from a backup, and that the books did not know.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Its latest voucher: what the hub owes it in all, in the hub's signature, for whoever keeps it for the device.
    #[serde(default)]
    pub voucher: Option<Voucher>,
}

/// A voucher: the EIP-712 structure `Voucher(address device,uint256 cumulative,bytes32 receipts)` in the domain `Sosna`,
/// version 1, of this chain and wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Voucher {
    /// To whom.
    pub device: AddressText,
    /// All that was ever earned, up to this voucher.
    pub cumulative: AmountText,
    /// The root of the receipts that it is the first to cover.
    pub receipts: HashText,
    /// The chain, 0 for none.
    pub chain_id: u64,
    /// The hub's wallet there, or its own address.
    pub wallet: AddressText,
    /// The hub's.
    pub signature: SignatureText,
    /// When it was signed.
    pub issued_ms: u64,
    /// When the device said that it holds it.
    pub held_ms: Option<u64>,
}

/// How a device has done with one class of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassReputation {
    /// The class.
    pub class: String,
    /// How it has done.
    #[serde(flatten)]
    pub reputation: Reputation,
}

/// A receipt that a device showed after a restoration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// Over which assignment.
    pub assignment: AssignmentIdText,
    /// What the device says was agreed on.
    pub price: AmountText,
    /// Whether the hub's own signature proves that it is owed.
    pub proven: bool,
    /// Whether a voucher names it.
    pub vouchered: bool,
    /// When it was shown.
    pub shown_ms: u64,
    /// Why it is proven or not.
    pub explanation: String,
}

/// What a device is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CurrentAssignment {
    /// The lease.
    pub assignment: AssignmentIdText,
    /// On this task.
    pub task: TaskIdText,
    /// Its index.
    pub index: u32,
    /// Of this job.
    pub job: JobIdText,
    /// How far the device says it is.
    pub phase: Option<PhaseText>,
    /// When it was sent.
    pub offered_ms: u64,
    /// Until when the lease holds.
    pub lease_until_ms: u64,
}

/// `GET /v1/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// By the time of their enrolment.
    pub devices: Vec<Device>,
}

/// `POST /v1/devices/{address}/drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// `false` gives it work again.
    pub draining: bool,
}

/// `POST /v1/devices/{address}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/devices/{address}/label`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Labels to set; `null` removes one. The others stay.
    pub labels: BTreeMap<String, Option<String>>,
}
