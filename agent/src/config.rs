//! What an owner can set. Every key has a default that suits a machine nobody looked at; a text that is empty
//! means "find out". It holds values only: what they lead to is decided where they are used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sosna_host::config::{Config, ConfigError, Loaded};
use sosna_protocol::{Amount, amount::AmountError, resources::Ask};

/// The configuration of `sosna-agent`; a section is a table of the TOML file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentConfig {
    /// The folder that holds everything this device keeps.
    pub data: PathBuf,
    /// A file with a join token, read where the device is not enrolled and no token was given.
    pub join_file: PathBuf,
    /// What people see it called at its hub, from its enrolment on; else the machine's host name.
    pub name: String,
    /// The address that earnings go to; "" for the one that `wallet payout-to` has set, else the device's own.
    pub payout_to: String,
    /// What the device asks for its work.
    pub ask: AskConfig,
    /// What it lends at most.
    pub limits: LimitsConfig,
    /// How much it is willing to be owed.
    pub exposure: ExposureConfig,
    /// The chain that its hub pays on.
    pub chain: ChainConfig,
    /// What its way to the hub costs.
    pub network: NetworkConfig,
    /// How it pulls images.
    pub registry: RegistryConfig,
    /// How containers are kept apart.
    pub containers: ContainersConfig,
    /// What it tells.
    pub log: LogConfig,
    /// The folder where the image that the agent is part of tells about disk and network; empty elsewhere.
    pub system: PathBuf,
}

/// The price list, in SNM. Hours, because people compare by them; the protocol counts in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskConfig {
    /// For one core for an hour.
    pub core_hour: String,
    /// For one GiB of memory for an hour.
    pub gib_hour: String,
    /// The least that any task costs.
    pub minimum: String,
}

/// The device's limits; 0 and "" stand for what the machine has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsConfig {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory for tasks, such as "512MiB"; else all but a reserve for the system.
    pub memory: String,
    /// Disk for tasks' own files and for results that wait to be delivered, never more than is free; else half of it.
    pub disk: String,
    /// Disk for images.
    pub images: String,
    /// Disk that is never lent: below it no work is accepted, so that receipts can still be written.
    pub disk_reserve: String,
    /// Processes and threads of all tasks together.
    pub pids: u32,
}

/// The largest debt that the device lets a hub run up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExposureConfig {
    /// In SNM; "" for what the whole device earns in a day at its own ask.
    pub limit: String,
    /// The same while the hub has signed for nothing yet, or its wallet on a chain is not checked; "" for what the whole
    /// device earns in an hour, or 1 SNM where that is more.
    pub start: String,
}

/// Where the device sees for itself whether its hub's wallet can pay. All or nothing; without it a hub that settles on a
/// chain is trusted up to `exposure.start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChainConfig {
    /// The chain's number (EIP-155), such as 1 for Ethereum.
    pub id: u64,
    /// The address of the list of hubs (HubRegistry).
    pub registry: String,
    /// Nodes of the chain (JSON-RPC), by https addresses of different hosts, or http in one's own network. At least two
    /// must say the same.
    pub endpoints: Vec<String>,
    /// How long each may think, in milliseconds.
    pub patience_ms: u32,
    /// How often they are asked, in milliseconds; ten times more seldom where traffic costs money.
    pub poll_ms: u32,
}

/// The network. Within its own image the device knows by itself whether the card that is the way out is metered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// Whether traffic costs money.
    pub metered: bool,
    /// What one task may then make the device download, such as "16MiB"; others are left to other devices.
    pub metered_download: String,
}

/// Pulling images. Registries on this very machine are spoken to without TLS; content is verified by digest anyway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    /// A private file of JSON: `{"host": {"username": "…", "password": "…"}}`.
    pub credentials: PathBuf,
    /// Registries that may be on this machine or in a private network: `host` or `host:port`. Others may not, since
    /// strangers choose the images.
    pub private: Vec<String>,
}

/// Containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainersConfig {
    /// The folder of short-lived state, on a file system that a reboot empties; "" for one under /run.
    pub state: PathBuf,
    /// The first user id on this machine that containers may have; 0 to choose one of 256 ranges above 2^30 by the
    /// device's name, so that agents that share a machine are apart as a rule.
    pub uid_base: u32,
    /// How many from there on; each container takes 65,536.
    pub uid_count: u32,
}

/// Logs go to stderr; SOSNA_AGENT_LOG filters them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// One JSON object a line, for machines.
    pub json: bool,
}

/// A value of the configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Not an amount.
    #[error("the setting `{key}` is not an amount of SNM")]
    Amount {
        /// Which setting.
        key: &'static str,
        /// Why not.
        #[source]
        source: AmountError,
    },
    /// Not a size.
    #[error(
        "the setting `{key}` is {text:?}; write a number of bytes with KiB, MiB, GiB or TiB, such as 512MiB"
    )]
    Size {
        /// Which setting.
        key: &'static str,
        /// What stands there.
        text: String,
    },
    /// Users that others are.
    #[error(
        "the settings `containers.uid_base` and `containers.uid_count` name the users {first} to {last}, and \
         {taken_first} to {taken_last} are agents' own; leave `containers.uid_base` at 0, or choose others"
    )]
    Users {
        /// The first that containers would be.
        first: u32,
        /// The last.
        last: u64,
        /// The first that is taken.
        taken_first: u32,
        /// The last.
        taken_last: u32,
    },
}

// === impl AgentConfig ===

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            data: "/var/lib/sosna-agent".into(),
            join_file: PathBuf::new(),
            name: String::new(),
            payout_to: String::new(),
            ask: AskConfig::default(),
            limits: LimitsConfig::default(),
            exposure: ExposureConfig::default(),
            chain: ChainConfig::default(),
            network: NetworkConfig::default(),
            registry: RegistryConfig::default(),
            containers: ContainersConfig::default(),
            log: LogConfig::default(),
            system: PathBuf::new(),
        }
    }
}

impl Config for AgentConfig {
    const ENVIRONMENT: &'static str = "SOSNA_AGENT";
    const ADDRESSES: &'static [&'static str] = &["chain.endpoints"];
}

impl AgentConfig {
    /// Loads file, environment and flags.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(
        file: Option<&std::path::Path>,
        flags: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Loaded<Self>, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        sosna_host::config::load(file, environment, flags)
    }
}

// === impl AskConfig ===

impl Default for AskConfig {
    fn default() -> Self {
        Self { core_hour: "0.036".into(), gib_hour: "0.0036".into(), minimum: "0".into() }
    }
}

impl AskConfig {
    /// The price list as the protocol has it. An hour's price that is no multiple of 3600 rounds up.
    ///
    /// # Errors
    /// [`ValueError::Amount`].
    pub fn ask(&self) -> Result<Ask, ValueError> {
        let second = |key, text: &str| {
            let hour = amount(key, text)?;
            Ok(Amount::from_units(hour.units().div_ceil(3600)))
        };
        Ok(Ask {
            core_second: second("ask.core_hour", &self.core_hour)?,
            gib_second: second("ask.gib_hour", &self.gib_hour)?,
            minimum: amount("ask.minimum", &self.minimum)?,
        })
    }
}

// === impl LimitsConfig ===

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            cpu_millis: 0,
            memory: String::new(),
            disk: String::new(),
            images: String::new(),
            disk_reserve: "64MiB".into(),
            pids: 4096,
        }
    }
}

// === impl ChainConfig ===

impl Default for ChainConfig {
    fn default() -> Self {
        Self { id: 0, registry: String::new(), endpoints: Vec::new(), patience_ms: 15_000, poll_ms: 60_000 }
    }
}

// === impl NetworkConfig ===

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { metered: false, metered_download: "16MiB".into() }
    }
}

// === impl ContainersConfig ===

impl Default for ContainersConfig {
    fn default() -> Self {
        // 64 containers at a time.
        Self { state: PathBuf::new(), uid_base: 0, uid_count: 1 << 22 }
    }
}

/// Reads an amount of SNM.
///
/// # Errors
/// [`ValueError::Amount`].
pub fn amount(key: &'static str, text: &str) -> Result<Amount, ValueError> {
    text.trim().parse().map_err(|source| ValueError::Amount { key, source })
}

/// Reads a size in bytes; `None` where the text is empty.
///
/// # Errors
/// [`ValueError::Size`].
pub fn size(key: &'static str, text: &str) -> Result<Option<u64>, ValueError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(None);
    }
    let wrong = || ValueError::Size { key, text: text.to_owned() };
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1_u64 << 40,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn prices_by_the_hour_become_prices_by_the_second() {
        let ask = AskConfig::default().ask().unwrap();
        assert_eq!(ask.core_second, "0.00001".parse().unwrap());
        assert_eq!(ask.gib_second, "0.000001".parse().unwrap());
        let odd =
            AskConfig { core_hour: "0.000000000000003601".into(), ..AskConfig::default() }.ask().unwrap();
        assert_eq!(odd.core_second, Amount::from_units(2), "no seller is paid a fraction less");
        let wrong = AskConfig { minimum: "a lot".into(), ..AskConfig::default() }.ask().unwrap_err();
        assert!(wrong.to_string().contains("ask.minimum"));
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("limits.memory", "").unwrap(), None);
        assert_eq!(size("limits.memory", "512MiB").unwrap(), Some(512 << 20));
        assert_eq!(size("limits.memory", "10 G").unwrap(), Some(10 << 30));
        assert_eq!(size("limits.memory", "123").unwrap(), Some(123));
        for wrong in ["MiB", "-1", "1.5GiB", "12 parsec", "99999999999999TiB"] {
            assert!(size("limits.memory", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn access_keys_of_nodes_are_not_printed() {
        let nodes =
            "https://me:secret@a.example:8545/v3/secret?x=secret,http://127.0.0.1:8545,b.example/secret";
        let environment = [("SOSNA_AGENT_CHAIN_ENDPOINTS".to_owned(), nodes.to_owned())];
        let loaded = sosna_host::config::load::<AgentConfig>(None, environment, []).unwrap();
        assert_eq!(loaded.value.chain.endpoints.join(","), nodes);
        let printed = loaded.print();
        let shown = r#"["https://a.example:8545/…", "http://127.0.0.1:8545", "b.example/…"]"#;
        assert!(printed.contains(shown) && !printed.contains("secret"), "{printed}");
    }

    #[test]
    fn defaults_load_and_unknown_keys_name_their_neighbour() {
        let loaded = sosna_host::config::load::<AgentConfig>(None, [], [("data", "/d".to_owned())]).unwrap();
        assert_eq!(loaded.value.data, PathBuf::from("/d"));
        assert!(loaded.print().contains("ask.core_hour"));
        let environment = [("SOSNA_AGENT_ASK_CORE_HOUR".to_owned(), "1".to_owned())];
        let loaded = sosna_host::config::load::<AgentConfig>(None, environment, []).unwrap();
        assert_eq!(loaded.value.ask.core_hour, "1");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[ask]\ncore_hours = \"1\"").unwrap();
        let error = sosna_host::config::load::<AgentConfig>(Some(file.path()), [], []).unwrap_err();
        assert!(error.to_string().contains("did you mean `ask.core_hour`"), "{error}");
    }
}
