//! What the demo reads of the hub's and the devices' answers: only what it judges by.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `sosna job ID --json`.
#[derive(Debug, Deserialize)]
pub(super) struct JobView {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) price: PriceView,
    #[serde(default)]
    pub(super) tasks: Vec<TaskView>,
    pub(super) explanation: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PriceView {
    pub(super) spent: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct TaskView {
    pub(super) index: usize,
    pub(super) state: String,
    pub(super) result_root: Option<String>,
    pub(super) explanation: Option<String>,
    pub(super) assignments: Vec<AssignmentView>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AssignmentView {
    pub(super) device: String,
    pub(super) owner: String,
    pub(super) root: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) owed: Option<String>,
}

/// `sosna devices --json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct DeviceView {
    pub(super) address: String,
    pub(super) hostname: String,
    pub(super) class: String,
    pub(super) online: bool,
    pub(super) system: Option<SystemView>,
    pub(super) total: Option<TotalView>,
    #[serde(default)]
    pub(super) missing_limits: Vec<String>,
    pub(super) earned: String,
    pub(super) vouchered: String,
    pub(super) held: String,
    pub(super) reputation: ReputationView,
}

/// The image that a device says it runs.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SystemView {
    pub(super) board: String,
    pub(super) slot: String,
    pub(super) version: String,
    pub(super) boot_image: String,
}

/// What it lends.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TotalView {
    pub(super) cpu_millis: u32,
    pub(super) memory: u64,
}

/// `sosna device ADDRESS --json`.
#[derive(Debug, Deserialize)]
pub(super) struct DetailView {
    pub(super) voucher: Option<VoucherView>,
}

#[derive(Debug, Deserialize)]
pub(super) struct VoucherView {
    pub(super) cumulative: String,
    pub(super) chain_id: u64,
    pub(super) wallet: String,
    pub(super) receipts: String,
    pub(super) signature: String,
    /// When the device said that it holds it.
    pub(super) held_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ReputationView {
    pub(super) valid: u32,
    pub(super) invalid: u32,
    pub(super) score: u32,
}

/// A list that may come bare or in an object under its name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum DeviceList {
    Bare(Vec<DeviceView>),
    Named(BTreeMap<String, Vec<DeviceView>>),
}

impl DeviceList {
    pub(super) fn devices(self) -> Vec<DeviceView> {
        match self {
            Self::Bare(devices) => devices,
            Self::Named(mut named) => named.remove("devices").unwrap_or_default(),
        }
    }
}

/// `sosna-agent status --json`.
#[derive(Debug, Deserialize)]
pub(super) struct StatusView {
    pub(super) device: Option<String>,
    pub(super) hub: Option<String>,
    #[serde(default)]
    pub(super) walls: Vec<String>,
    #[serde(default)]
    pub(super) missing_limits: Vec<String>,
    pub(super) earnings: EarningsView,
    /// What it sees of the hub's wallet on a chain.
    #[serde(default)]
    pub(super) wallet: Option<SeenView>,
}

/// A hub's wallet, as a device sees it for itself.
#[derive(Debug, Deserialize)]
pub(super) struct SeenView {
    pub(super) is_checked: bool,
    pub(super) words: String,
    pub(super) unbacked: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct EarningsView {
    pub(super) voucher: String,
    pub(super) signed: Option<SignedView>,
    #[serde(default)]
    pub(super) lines: Vec<LineView>,
}

/// What a root on the chain commits to a device, as it keeps it.
#[derive(Debug, Deserialize)]
pub(super) struct LineView {
    pub(super) cumulative: String,
}

/// A voucher as its device shows it.
#[derive(Debug, Deserialize)]
pub(super) struct SignedView {
    pub(super) chain_id: u64,
    pub(super) wallet: String,
    pub(super) units: String,
    pub(super) receipts: String,
    pub(super) signature: String,
}
