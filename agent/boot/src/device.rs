//! `device.toml`: what an owner says about one device, on the boot partition under `/sosna/`. A person wrote it on
//! another machine and cannot see what this one makes of it: nothing in it may keep a device from starting, and what
//! is not understood is told instead.

pub mod wifi;

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use serde::Deserialize;

use self::wifi::Wifi;

/// Unknown keys of a table.
type Unknown = BTreeMap<String, toml::Value>;

/// The file. Every key may be missing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceConfig {
    /// The device's name in its network; else made from its first network card.
    pub hostname: Option<String>,
    /// The owner's own words, passed on to the agent.
    pub labels: BTreeMap<String, String>,
    /// How the agent gets out.
    pub proxy: Proxy,
    /// Cards and addresses.
    pub network: Network,
    /// Wireless networks.
    pub wifi: Wifi,
    #[serde(flatten)]
    unknown: Unknown,
}

/// An HTTP proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// `http://host:port`, for HTTP and HTTPS.
    pub http: Option<String>,
    /// Hosts and networks that are reached without it.
    pub without: Vec<String>,
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Name servers that come before those that the network offers.
    pub dns: Vec<IpAddr>,
    /// What differs for single cards; the others use DHCP.
    pub interface: Vec<Interface>,
}

/// One network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// Its name (`eth0`) or its hardware address (`52:54:00:12:34:56`).
    pub card: String,
    /// A fixed address with the length of the network's part: `192.168.1.7/24`.
    pub address: Option<Prefix>,
    /// The router for a fixed address.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers for a fixed address.
    pub dns: Vec<IpAddr>,
    /// Traffic costs money.
    pub metered: bool,
    /// Of several ways out, the one with the smallest number is taken.
    pub cost: Option<u32>,
    /// The card is not used.
    pub off: bool,
}

/// An IPv4 address in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    /// The address.
    pub address: Ipv4Addr,
    /// How many of its bits are the network's, 1 to 32.
    pub length: u8,
}

/// Why the file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be read.
    #[error("cannot read {0}")]
    Read(String, #[source] io::Error),
    /// It is not understood.
    #[error("device.toml is not understood and counts as empty: {0}")]
    Parse(String),
}

// === impl DeviceConfig ===

impl DeviceConfig {
    /// Reads the file. One that is not there is an empty one.
    ///
    /// # Errors
    /// [`DeviceError`]: go on with the default.
    pub fn load(path: &Path) -> Result<Self, DeviceError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(DeviceError::Read(path.display().to_string(), error)),
        }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`DeviceError::Parse`].
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        // The parser's first line tells the place; the rest repeats the text, which may hold a password.
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            DeviceError::Parse(format!("{place}{}", error.message()))
        })
    }

    /// What is there and has no effect.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<_> = self
            .unknown
            .keys()
            .take(8)
            .map(|key| format!("device.toml: nobody knows the key `{key}`"))
            .collect();
        if self.network.interface.iter().any(|interface| interface.card.is_empty()) {
            remarks.push(
                "device.toml: an `interface` without `card` has no effect; name it, or its address".into(),
            );
        }
        remarks.extend(self.wifi.errors().iter().map(|error| format!("device.toml: {error}")));
        if let Some(name) = self.hostname.as_deref().filter(|name| !is_hostname(name)) {
            remarks.push(format!(
                "device.toml: {name:?} is no host name: letters, digits and hyphens, at most 63"
            ));
        }
        remarks
    }

    /// The host name, if there is a usable one.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref().filter(|name| is_hostname(name))
    }

    /// What is said about a card.
    #[must_use]
    pub fn interface(&self, name: &str, hardware: &str) -> Interface {
        let is_it = |i: &&Interface| i.card == name || i.card.eq_ignore_ascii_case(hardware);
        self.network.interface.iter().find(is_it).cloned().unwrap_or_default()
    }

    /// The proxy as programs look for it in their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let Some(proxy) = &self.proxy.http else { return Vec::new() };
        let without = ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned);
        let without: Vec<_> = without.chain(self.proxy.without.iter().cloned()).collect();
        [("HTTP_PROXY", proxy.clone()), ("HTTPS_PROXY", proxy.clone()), ("NO_PROXY", without.join(","))]
            .into_iter()
            .flat_map(|(key, value)| [(key.to_owned(), value.clone()), (key.to_lowercase(), value)])
            .collect()
    }
}

fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

// === impl Prefix ===

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refuse = || format!("{text:?} is not an address such as 192.168.1.7/24");
        let (address, length) = text.split_once('/').ok_or_else(refuse)?;
        let (address, length) =
            (address.parse().map_err(|_| refuse())?, length.parse().map_err(|_| refuse())?);
        if (1..=32).contains(&length) { Ok(Self { address, length }) } else { Err(refuse()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_owners_file_is_understood() {
        let config = DeviceConfig::parse(
            r#"
            hostname = "lab-7"
            labels = { room = "cellar" }
            colour = "blue"
            [proxy]
            http = "http://proxy.lan:3128"
            without = ["10.0.0.0/8"]
            [network]
            dns = ["9.9.9.9", "2620:fe::fe"]
            [[network.interface]]
            card = "52:54:00:AB:cd:01"
            address = "192.168.1.7/24"
            gateway = "192.168.1.1"
            metered = true
            cost = 7
            "#,
        )
        .unwrap();
        assert_eq!((config.hostname(), config.labels["room"].as_str()), (Some("lab-7"), "cellar"));
        assert_eq!(config.remarks(), ["device.toml: nobody knows the key `colour`"]);
        let card = config.interface("eth3", "52:54:00:ab:cd:01");
        assert_eq!(card.address, Some(Prefix { address: Ipv4Addr::new(192, 168, 1, 7), length: 24 }));
        assert!(card.metered && card.cost == Some(7) && !card.off);
        assert_eq!(config.interface("eth0", "52:54:00:ab:cd:02"), Interface::default());
        let environment = config.environment();
        assert!(environment.contains(&("https_proxy".into(), "http://proxy.lan:3128".into())));
        assert!(environment.contains(&("NO_PROXY".into(), "localhost,127.0.0.1,::1,10.0.0.0/8".into())));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text_around_it() {
        let error = DeviceConfig::parse("hostname = \"x\"\nwifi = { passphrase = \"secret\" \n").unwrap_err();
        assert!(error.to_string().contains("line 2") && !error.to_string().contains("secret"), "{error}");
        for address in ["192.168.1.7", "192.168.1.7/0", "192.168.1.7/33", "x/24", "::1/64"] {
            let text = format!("[[network.interface]]\ncard = \"eth0\"\naddress = \"{address}\"");
            assert!(DeviceConfig::parse(&text).is_err(), "{address}");
        }
        let config = DeviceConfig::parse("[[network.interface]]\naddress = \"10.0.0.7/8\"").unwrap();
        assert!(config.remarks()[0].contains("without `card`"));
        let config = DeviceConfig::parse("hostname = \"-bad-\"").unwrap();
        assert_eq!(config.hostname(), None);
        assert_eq!(config.remarks().len(), 1);
        assert_eq!(DeviceConfig::load(Path::new("/nowhere/device.toml")).unwrap(), DeviceConfig::default());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[\\[\\]a-z=\"{}. \né0-9/:]{0,80}") {
            let _ = DeviceConfig::parse(&text);
        }
    }
}
