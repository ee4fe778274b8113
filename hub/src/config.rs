//! The hub's configuration. The defaults run a hub on this machine's loopback.

use serde::{Deserialize, Serialize};
use sosna_api::text::AmountText;
use sosna_host::config::Config;
use sosna_protocol::Amount;

/// Everything that can be configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// The folder that holds keys, store and content.
    pub data: String,
    /// The address that all listeners bind to.
    pub listen: String,
    /// The name or address under which devices reach the hub; `listen` where empty.
    pub public_address: String,
    /// Whether people are served by HTTPS on loopback too. Beyond it there is never anything else.
    pub https: bool,
    /// Which ports.
    pub ports: Ports,
    /// How long things last.
    pub times: Times,
    /// How new devices are treated.
    pub probation: Probation,
    /// What a job gets that does not ask for more, and may ask for at most.
    pub limits: Limits,
    /// What the content store holds, and for how long.
    pub content: Keep,
    /// Which registries are asked.
    pub registry: Registry,
    /// The chain that devices are paid on.
    pub chain: Chain,
    /// Whether logs are JSON.
    pub log_json: bool,
}

/// Ports of the listeners; 0 takes a free one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// REST and pages.
    pub http: u16,
    /// MQTT for devices with a certificate.
    pub main: u16,
    /// MQTT for devices without.
    pub bootstrap: u16,
    /// Content for devices.
    pub content: u16,
}

/// Durations in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// How often devices show that they live.
    pub beat_ms: u32,
    /// How long a lease lasts after a beat.
    pub lease_ms: u32,
    /// How long an offer waits for an answer.
    pub offer_ms: u32,
    /// How long devices have to show a result once commitments are closed.
    pub reveal_ms: u32,
    /// How long a signed frame to a device holds.
    pub frame_ms: u32,
    /// The least time between two vouchers to a device that is at work.
    pub voucher_ms: u32,
    /// What a device may take for a task beside the task's own time-out: to fetch image and inputs, and to bring the result.
    /// Then the task is given to somebody else, whatever the device says.
    pub beside_ms: u32,
    /// How long a device's certificate holds.
    pub certificate_ms: u64,
    /// How long the listeners' certificate holds; after two thirds of it there is a new one.
    pub listener_certificate_ms: u64,
    /// How long a person's request may take until its head is there, and how long their connection may be idle.
    pub request_ms: u32,
    /// How long the hub waits before it gives a failed task to somebody else.
    pub retry_ms: u32,
    /// How long the hub waits before it asks a device again that would not or could not do a task.
    pub ask_again_ms: u32,
}

/// How devices are treated until they have proved themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probation {
    /// How many right results in a row, each confirmed by another owner's device, end it.
    pub results: u64,
    /// How long payment waits after a verdict.
    pub delay_ms: u32,
    /// How many assignments at once.
    pub assignments: u32,
    /// What the operator spends a day (UTC), in SNM and in quotes, to have results of such devices checked by others where the buyer
    /// did not ask for it; 0 for no checks.
    pub check_budget: AmountText,
}

/// What jobs get.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Files and folders of a task that asks for no number.
    pub inodes: u64,
    /// Processes and threads of a task that asks for no number.
    pub pids: u32,
    /// Bytes of each output stream that are kept of a task that asks for no number.
    pub log_bytes: u64,
    /// The longest time-out.
    pub timeout_ms: u64,
    /// How often a task is tried before it fails.
    pub attempts: u32,
    /// The largest piece of content.
    pub content_bytes: u64,
    /// Connections of people and their programs at once.
    pub connections: usize,
    /// Of those, from one address (of IPv6: one /64); on loopback, where a proxy may stand for many, there is no
    /// such limit.
    pub connections_per_address: usize,
}

/// Which registries are asked for images.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Those that may be on this machine or in a private network: `host` or `host:port`. Others may not, since buyers
    /// choose the images.
    pub private: Vec<String>,
}

/// What the content store (images, inputs, results) holds, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// How long results stay after their job has ended, in milliseconds.
    pub results_ms: u64,
    /// How long images and inputs stay that no unfinished job uses, from when they were last sent, asked for or used.
    pub unused_ms: u64,
    /// How often what nothing needs is removed.
    pub collect_ms: u64,
    /// How many bytes one person may have sent that no unfinished job of theirs uses. Here and below, a piece counts
    /// for 4096 at least.
    pub person_bytes: u64,
    /// How many bytes the store holds at most; 0 for what the disk has.
    pub store_bytes: u64,
    /// How many bytes of the disk stay free: below, nothing more is taken, so that the books can still be written.
    pub free_bytes: u64,
}

/// The chain that devices are paid on, and the hub's wallet there. Without it vouchers are the record, and nothing else
/// changes. Books are kept for one wallet, from their first start on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chain {
    /// The chain's number; 0 for none.
    pub id: u64,
    /// The address of the hub's wallet, which takes vouchers of this hub's key.
    pub wallet: String,
    /// Nodes that are asked, the first that answers: JSON-RPC by HTTP or HTTPS. Where there are several, what has
    /// happened counts when two say so.
    pub endpoints: Vec<String>,
    /// The address of the escrow in which buyers deposit for this wallet; empty where their deposits are no credit here.
    pub escrow: String,
    /// What may be given away of a buyer's work, in SNM and in quotes, beyond what the buyer has signed for.
    pub buyer_exposure: AmountText,
    /// The least time between two transactions by which the wallet is paid what one buyer has signed for.
    pub redeem_ms: u64,
    /// The least that such a transaction is worth, in SNM and in quotes. One whose buyer has announced to take back its
    /// deposit waits for neither.
    pub redeem_least: AmountText,
    /// How long a node may think before the next is asked.
    pub patience_ms: u32,
    /// How many blocks a transaction is in or under before it counts.
    pub confirmations: u64,
    /// How often the chain is asked.
    pub poll_ms: u32,
    /// The least time between two roots, each of which commits the wallet to all vouchers until then.
    pub root_ms: u64,
    /// The most that a unit of gas may cost; while it costs more, nothing is sent.
    pub most_gwei: u64,
    /// After how long a transaction that is in no block offers more for gas.
    pub raise_ms: u64,
    /// Whether a root is posted over one that these books do not know: only where they are known to be whole.
    pub over_unknown_root: bool,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            id: 0,
            wallet: String::new(),
            endpoints: Vec::new(),
            escrow: String::new(),
            buyer_exposure: Amount::from_units(10 * Amount::SNM.units()).into(),
            redeem_ms: 86_400_000,
            redeem_least: Amount::SNM.into(),
            patience_ms: 15_000,
            confirmations: 12,
            poll_ms: 5_000,
            root_ms: 86_400_000,
            most_gwei: 100,
            raise_ms: 90_000,
            over_unknown_root: false,
        }
    }
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            data: "sosna-hub".to_owned(),
            listen: "127.0.0.1".to_owned(),
            public_address: String::new(),
            https: false,
            ports: Ports::default(),
            times: Times::default(),
            probation: Probation::default(),
            limits: Limits::default(),
            content: Keep::default(),
            registry: Registry::default(),
            chain: Chain::default(),
            log_json: false,
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 8080, main: 8883, bootstrap: 8884, content: 8885 }
    }
}

impl Default for Times {
    fn default() -> Self {
        Self {
            beat_ms: 10_000,
            lease_ms: 60_000,
            offer_ms: 20_000,
            reveal_ms: 300_000,
            frame_ms: 600_000,
            voucher_ms: 60_000,
            beside_ms: 3_600_000,
            certificate_ms: 7 * 86_400_000,
            listener_certificate_ms: 30 * 86_400_000,
            request_ms: 30_000,
            retry_ms: 1_000,
            ask_again_ms: 30_000,
        }
    }
}

impl Default for Probation {
    fn default() -> Self {
        Self { results: 10, delay_ms: 600_000, assignments: 8, check_budget: Amount::SNM.into() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inodes: 16_384,
            pids: 256,
            log_bytes: 1 << 20,
            timeout_ms: 7 * 86_400_000,
            attempts: 8,
            content_bytes: 16 << 30,
            connections: 2048,
            connections_per_address: 256,
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            results_ms: 30 * 86_400_000,
            unused_ms: 86_400_000,
            collect_ms: 3_600_000,
            person_bytes: 32 << 30,
            store_bytes: 0,
            free_bytes: 256 << 20,
        }
    }
}

impl Config for HubConfig {
    const ENVIRONMENT: &'static str = "SOSNA_HUB";
    const ADDRESSES: &'static [&'static str] = &["chain.endpoints"];
}
