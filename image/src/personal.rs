//! What makes one device's image different from another's: files in the folder `sosna` of the boot partition, which
//! the device reads at its first boot and which anybody can write with a card reader.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::{Deserialize, Serialize};
// The device's own rules, so that what is written here is understood there.
pub use sosna_boot::device::wifi::{Secret, Wifi};
use sosna_host::token::JoinToken;
use sosna_protocol::Address;

use crate::Error;
use crate::block::fat::Fat;
use crate::block::region::Region;
use crate::compose::BOOT;
use crate::inspect::Image;

/// Where the settings are.
pub const SETTINGS: &str = "sosna/device.toml";
/// Where the join token is, until the device has enrolled.
pub const JOIN: &str = "sosna/join";
/// The agent's configuration.
pub const AGENT: &str = "sosna/agent.toml";
/// The agent's name for where earnings go.
pub const PAYOUT_TO: &str = "payout_to";
const README: &str = "sosna/README.txt";

/// A device's own settings. What is not set stays as it is in an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Personal {
    /// The join token.
    pub join: Option<String>,
    /// What `device.toml` says.
    pub settings: Settings,
    /// What `agent.toml` says: prices, limits, where earnings go. Only the agent knows its keys.
    pub agent: toml::Table,
}

/// The file `device.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The device's name in its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What the owner calls the device's properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Wireless networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi: Option<Wifi>,
    /// How the device gets out.
    #[serde(default, skip_serializing_if = "Proxy::is_empty")]
    pub proxy: Proxy,
    /// Cards and addresses.
    #[serde(default, skip_serializing_if = "Network::is_empty")]
    pub network: Network,
}

/// An HTTP proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// For everything that the device fetches, as a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Hosts and networks that are reached without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name servers that come before those that the network offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Cards with settings of their own; the others use DHCP.
    #[serde(default, rename = "interface", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name (`eth0`) or hardware address (`52:54:00:12:34:56`).
    pub card: String,
    /// A fixed address with the length of the network's part (`192.168.1.5/24`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Traffic costs money.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metered: bool,
    /// Of several ways out, the one with the smallest number is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<u32>,
    /// The card is not used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
}

// === impl Personal ===

impl Personal {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what can be checked before a device is sent out with it.
    ///
    /// # Errors
    /// [`Error::Refused`]: what is wrong.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(join) = &self.join {
            join.trim().parse::<JoinToken>().map_err(|error| Error::Refused(error.to_string()))?;
        }
        let settings = &self.settings;
        if let Some(name) = &settings.hostname {
            let label = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty()
                || name.len() > 63
                || !name.chars().all(label)
                || name.starts_with('-')
                || name.ends_with('-')
            {
                return Err(Error::Refused(format!(
                    "the host name `{name}` must have 1 to 63 letters, digits and dashes and neither begin nor end with a dash"
                )));
            }
        }
        if let Some(error) = settings.wifi.iter().flat_map(Wifi::errors).next() {
            return Err(Error::Refused(error.to_string()));
        }
        for interface in &settings.network.interfaces {
            interface.check()?;
        }
        match self.agent.get(PAYOUT_TO) {
            None => Ok(()),
            Some(toml::Value::String(text)) => Self::default().pay_to(text),
            Some(_) => Err(Error::Refused(format!("`{PAYOUT_TO}` must be an address in quotation marks"))),
        }
    }

    /// Writes the files, over what is there: settings that are not set keep their value.
    ///
    /// # Errors
    /// [`Error`]: the settings do not pass [`Personal::check`], the file that is there cannot be read, or no room.
    pub fn write<T: Read + Write + Seek>(&self, fat: &Fat<T>) -> Result<(), Error> {
        self.check()?;
        if fat.read(README)?.is_none() {
            fat.write(README, include_bytes!("../assets/README.txt"))?;
        }
        if let Some(join) = &self.join {
            fat.write(JOIN, format!("{}\n", join.trim()).as_bytes())?;
        }
        if self.settings != Settings::default() {
            let mut settings = Self::settings(fat)?;
            settings.merge(&self.settings);
            let text = toml::to_string(&settings).map_err(|error| Error::malformed(SETTINGS, error))?;
            fat.write(SETTINGS, text.as_bytes())?;
        }
        if !self.agent.is_empty() {
            let mut agent = Self::agent(fat)?;
            merge(&mut agent, &self.agent);
            fat.write(AGENT, agent.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Makes the device's earnings go to the address that `text` names.
    ///
    /// # Errors
    /// [`Error::Refused`]: it is none, or mistyped.
    pub fn pay_to(&mut self, text: &str) -> Result<(), Error> {
        let address = Address::of_person(text)
            .map_err(|error| Error::Refused(format!("earnings cannot go to {text}: {error}")))?;
        self.agent.insert(PAYOUT_TO.to_owned(), address.checksummed().as_str().into());
        Ok(())
    }

    /// The agent's configuration that an image has.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn agent<T: Read + Write + Seek>(fat: &Fat<T>) -> Result<toml::Table, Error> {
        let Some(bytes) = fat.read(AGENT)? else { return Ok(toml::Table::new()) };
        String::from_utf8_lossy(&bytes).parse().map_err(|error| Error::malformed(AGENT, error))
    }

    /// The settings that an image has.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn settings<T: Read + Write + Seek>(fat: &Fat<T>) -> Result<Settings, Error> {
        let Some(bytes) = fat.read(SETTINGS)? else { return Ok(Settings::default()) };
        toml::from_str(&String::from_utf8_lossy(&bytes)).map_err(|error| Error::malformed(SETTINGS, error))
    }
}

/// Writes settings into a finished image, in place. With `forget` its join token goes.
///
/// # Errors
/// [`Error`]: no image of ours, or as [`Personal::write`].
pub fn personalise(image: &Path, personal: &Personal, forget: bool) -> Result<(), Error> {
    personal.check()?;
    let opened = Image::open(image)?;
    let partition = opened.partition(BOOT)?;
    let file = File::options().read(true).write(true).open(image).map_err(Error::io("write", image))?;
    let copy = file.try_clone().map_err(Error::io("open", image))?;
    let fat = Fat::open(Region::new(copy, partition.start, partition.bytes))?;
    if forget {
        fat.remove(JOIN)?;
    }
    personal.write(&fat)?;
    fat.finish()?;
    file.sync_all().map_err(Error::io("write", image))
}

/// Sets what `new` has, and leaves everything else.
fn merge(old: &mut toml::Table, new: &toml::Table) {
    for (key, value) in new {
        match (old.get_mut(key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            _ => {
                old.insert(key.clone(), value.clone());
            }
        }
    }
}

// === impl Settings ===

impl Settings {
    fn merge(&mut self, other: &Self) {
        if other.hostname.is_some() {
            self.hostname.clone_from(&other.hostname);
        }
        if let Some(wifi) = &other.wifi {
            let mut wifi = wifi.clone();
            let old = self.wifi.take().unwrap_or_default();
            wifi.country = wifi.country.or(old.country.clone());
            // A country alone leaves the networks as they are.
            if wifi.networks().is_empty() {
                wifi = Wifi { country: wifi.country, ..old };
            }
            self.wifi = Some(wifi);
        }
        if !other.proxy.is_empty() {
            self.proxy = other.proxy.clone();
        }
        self.labels.extend(other.labels.clone());
        if !other.network.dns.is_empty() {
            self.network.dns.clone_from(&other.network.dns);
        }
        for interface in &other.network.interfaces {
            self.network.interfaces.retain(|old| old.card != interface.card);
            self.network.interfaces.push(interface.clone());
        }
    }
}

// === impl Proxy ===

impl Proxy {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Network ===

impl Network {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Interface ===

impl Interface {
    /// Reads `eth0=192.168.1.5/24,gateway=192.168.1.1,dns=9.9.9.9`.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::Refused(format!("`{text}` is not CARD=ADDRESS/PREFIX[,gateway=ADDRESS][,dns=ADDRESS]…"))
        };
        let mut parts = text.split(',');
        let (card, address) = parts.next().and_then(|first| first.split_once('=')).ok_or_else(refuse)?;
        let mut found = Self { card: card.to_owned(), address: Some(address.to_owned()), ..Self::default() };
        for part in parts {
            match part.split_once('=') {
                Some(("gateway", value)) => found.gateway = Some(value.parse().map_err(|_| refuse())?),
                Some(("dns", value)) => found.dns.push(value.parse().map_err(|_| refuse())?),
                _ => return Err(refuse()),
            }
        }
        found.check()?;
        Ok(found)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Refused(format!("{}: {what}", self.card)));
        if self.card.is_empty()
            || self.card.len() > 17
            || self.card.contains(|c: char| c == '/' || c.is_whitespace())
        {
            return refuse("this is neither a name nor a hardware address of a network card");
        }
        let sound = |text: &String| {
            text.split_once('/').is_some_and(|(address, prefix)| {
                address.parse::<Ipv4Addr>().is_ok()
                    && prefix.parse::<u8>().is_ok_and(|n| (1..=32).contains(&n))
            })
        };
        if !self.address.iter().all(sound) {
            return refuse("the address is to be written as 192.168.1.5/24");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn settings_are_added_to_what_is_there() {
        let mut memory = vec![0; 80 << 20];
        let fat = Fat::format(&mut memory, 1).unwrap();
        let mut personal = Personal::default();
        personal.settings.hostname = Some("first".into());
        personal.settings.labels.insert("room".into(), "lab".into());
        personal.write(&fat).unwrap();
        let mut more = Personal::default();
        more.settings.hostname = Some("second".into());
        more.settings
            .network
            .interfaces
            .push(Interface::parse("eth0=10.0.0.2/8,gateway=10.0.0.1,dns=9.9.9.9").unwrap());
        more.write(&fat).unwrap();
        let settings = Personal::settings(&fat).unwrap();
        assert_eq!(settings.hostname.as_deref(), Some("second"));
        assert_eq!(settings.labels["room"], "lab");
        assert_eq!(settings.network.interfaces[0].dns[0].to_string(), "9.9.9.9");
        assert!(fat.read(README).unwrap().is_some());
        assert!(fat.read(JOIN).unwrap().is_none());
    }

    #[test]
    fn the_agents_settings_are_merged_key_by_key() {
        let mut memory = vec![0; 80 << 20];
        let fat = Fat::format(&mut memory, 1).unwrap();
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let first = table("[ask]\ncore_hour = \"1\"\nminimum = \"2\"\n[limits]\npids = 7\n");
        Personal { agent: first, ..Personal::default() }.write(&fat).unwrap();
        let mut second = Personal { agent: table("[ask]\nminimum = \"3\"\n"), ..Personal::default() };
        let owner = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert!(second.pay_to(&owner.replace("aAeb", "AAeb")).unwrap_err().to_string().contains("checksum"));
        second.pay_to(&owner.to_lowercase()).unwrap();
        second.write(&fat).unwrap();
        let found = Personal::agent(&fat).unwrap();
        assert_eq!(found["ask"]["core_hour"].as_str(), Some("1"));
        assert_eq!(found["ask"]["minimum"].as_str(), Some("3"));
        assert_eq!(found["limits"]["pids"].as_integer(), Some(7));
        assert_eq!(found[PAYOUT_TO].as_str(), Some(owner), "written with its checksum");
        let wrong = Personal { agent: table("payout_to = 7"), ..Personal::default() };
        assert!(wrong.check().is_err());
    }

    #[test]
    fn what_no_device_could_use_is_refused() {
        let with = |change: fn(&mut Personal)| {
            let mut personal = Personal::default();
            change(&mut personal);
            personal.check()
        };
        assert!(with(|p| p.join = Some("sosna1abc".into())).is_err());
        assert!(with(|p| p.settings.hostname = Some("a b".into())).is_err());
        assert!(with(|p| p.settings.hostname = Some("-a".into())).is_err());
        assert!(with(|p| p.settings.wifi = Some(wifi("x", Some("short")))).is_err());
        assert!(with(|p| p.settings.wifi = Some(wifi("x", None))).is_ok());
        for text in [
            "eth0",
            "eth0=10.0.0.1",
            "eth0=10.0.0.1/33",
            "e/0=10.0.0.1/8",
            "eth0=10.0.0.1/8,gateway=x",
            "eth0=10.0.0.1/8,a=b",
        ] {
            assert!(Interface::parse(text).is_err(), "{text}");
        }
        assert!(Interface::parse("52:54:00:12:34:56=10.0.0.1/8").is_ok());
    }

    fn wifi(ssid: &str, password: Option<&str>) -> Wifi {
        let password = password.map(|password| Secret::new(password.to_owned()));
        Wifi { ssid: Some(ssid.to_owned()), password, ..Wifi::default() }
    }

    #[test]
    fn wireless_networks_are_replaced_and_their_country_stays() {
        let mut memory = vec![0; 80 << 20];
        let fat = Fat::format(&mut memory, 1).unwrap();
        let write = |change: Wifi| {
            let mut personal = Personal::default();
            personal.settings.wifi = Some(change);
            personal.write(&fat).unwrap();
            Personal::settings(&fat).unwrap().wifi.unwrap()
        };
        write(wifi("old", Some("very secret")));
        let kept = write(Wifi { country: Some("DE".into()), ..Wifi::default() });
        assert_eq!((kept.ssid.as_deref(), kept.country.as_deref()), (Some("old"), Some("DE")));
        assert!(kept.password.is_some());
        let new = write(wifi("new", None));
        assert_eq!((new.ssid.as_deref(), new.country.as_deref()), (Some("new"), Some("DE")));
        assert!(new.password.is_none());
        let text = String::from_utf8(fat.read(SETTINGS).unwrap().unwrap()).unwrap();
        let device = sosna_boot::device::DeviceConfig::parse(&text).unwrap();
        assert_eq!((device.wifi.usable().len(), device.remarks().len()), (1, 0), "{text}");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert!(!format!("{:?}", wifi("net", Some("very secret"))).contains("secret"));
    }
}
