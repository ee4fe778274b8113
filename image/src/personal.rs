//! What makes one device's image different from another's: files in the folder `sosna` of the boot partition, which
//! the device reads at its first boot and which anybody can write with a card reader.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sosna_host::token::JoinToken;

use crate::Error;
use crate::block::fat::Fat;
use crate::block::region::Region;
use crate::compose::BOOT;
use crate::inspect::Image;

/// Where the settings are.
pub const SETTINGS: &str = "sosna/device.toml";
/// Where the join token is, until the device has enrolled.
pub const JOIN: &str = "sosna/join";
const README: &str = "sosna/README.txt";

/// A device's own settings. What is not set stays as it is in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Personal {
    /// The join token.
    pub join: Option<String>,
    /// What `device.toml` says.
    pub settings: Settings,
}

/// The file `device.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The device's name in its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// An HTTP proxy for everything that the device fetches, as a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What the owner calls the device's properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The wireless network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wifi: Option<Wifi>,
    /// Interfaces with fixed addresses; the others use DHCP.
    #[serde(default, rename = "network", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
}

/// A wireless network.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// Its name.
    pub ssid: String,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Never shows the password.
impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wifi").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

/// An interface with fixed addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name (`eth0`).
    pub interface: String,
    /// Address and length of the prefix (`192.168.1.5/24`).
    pub address: String,
    /// Where everything else is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
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
            if name.is_empty() || name.len() > 63 || !name.chars().all(label) || name.starts_with('-') {
                return Err(Error::Refused(format!(
                    "the host name `{name}` must have 1 to 63 letters, digits and dashes and begin with no dash"
                )));
            }
        }
        if let Some(wifi) = &settings.wifi {
            let password = wifi.password.as_ref().map_or(8, String::len);
            if wifi.ssid.is_empty() || wifi.ssid.len() > 32 || !(8..=63).contains(&password) {
                return Err(Error::Refused(
                    "the wireless network's name has 1 to 32 bytes, its password 8 to 63".to_owned(),
                ));
            }
        }
        for network in &settings.networks {
            network.check()?;
        }
        Ok(())
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
        Ok(())
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

// === impl Settings ===

impl Settings {
    fn merge(&mut self, other: &Self) {
        let take = |into: &mut Option<String>, from: &Option<String>| {
            if from.is_some() {
                into.clone_from(from);
            }
        };
        take(&mut self.hostname, &other.hostname);
        take(&mut self.proxy, &other.proxy);
        if other.wifi.is_some() {
            self.wifi.clone_from(&other.wifi);
        }
        self.labels.extend(other.labels.clone());
        for network in &other.networks {
            self.networks.retain(|old| old.interface != network.interface);
            self.networks.push(network.clone());
        }
    }
}

// === impl Network ===

impl Network {
    /// Reads `eth0=192.168.1.5/24,gateway=192.168.1.1,dns=9.9.9.9`.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::Refused(format!(
                "`{text}` is not INTERFACE=ADDRESS/PREFIX[,gateway=ADDRESS][,dns=ADDRESS]…"
            ))
        };
        let mut parts = text.split(',');
        let (interface, address) = parts.next().and_then(|first| first.split_once('=')).ok_or_else(refuse)?;
        let mut network = Self {
            interface: interface.to_owned(),
            address: address.to_owned(),
            gateway: None,
            dns: Vec::new(),
        };
        for part in parts {
            match part.split_once('=') {
                Some(("gateway", value)) => network.gateway = Some(value.to_owned()),
                Some(("dns", value)) => network.dns.push(value.to_owned()),
                _ => return Err(refuse()),
            }
        }
        network.check()?;
        Ok(network)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Refused(format!("{}: {what}", self.interface)));
        let name = &self.interface;
        if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace()) {
            return refuse("this is no name of a network interface");
        }
        let ip = |text: &str| text.parse::<std::net::IpAddr>().ok();
        let sound = self.address.split_once('/').is_some_and(|(address, prefix)| {
            let most = if address.contains(':') { 128 } else { 32 };
            ip(address).is_some() && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
        });
        if !sound {
            return refuse("the address is to be written as 192.168.1.5/24");
        }
        if self.gateway.iter().chain(&self.dns).any(|text| ip(text).is_none()) {
            return refuse("gateway and name servers are addresses, not names");
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
        more.settings.networks.push(Network::parse("eth0=10.0.0.2/8,gateway=10.0.0.1,dns=9.9.9.9").unwrap());
        more.write(&fat).unwrap();
        let settings = Personal::settings(&fat).unwrap();
        assert_eq!(settings.hostname.as_deref(), Some("second"));
        assert_eq!(settings.labels["room"], "lab");
        assert_eq!(settings.networks[0].dns, ["9.9.9.9"]);
        assert!(fat.read(README).unwrap().is_some());
        assert!(fat.read(JOIN).unwrap().is_none());
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
        assert!(
            with(|p| p.settings.wifi = Some(Wifi { ssid: "x".into(), password: Some("short".into()) }))
                .is_err()
        );
        assert!(with(|p| p.settings.wifi = Some(Wifi { ssid: "x".into(), password: None })).is_ok());
        for text in [
            "eth0",
            "eth0=10.0.0.1",
            "eth0=10.0.0.1/33",
            "e/0=10.0.0.1/8",
            "eth0=10.0.0.1/8,gateway=x",
            "eth0=10.0.0.1/8,a=b",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
        assert!(Network::parse("eth0=fd00::1/64,gateway=fd00::2").is_ok());
    }

    #[test]
    fn passwords_are_not_shown() {
        let wifi = Wifi { ssid: "net".into(), password: Some("very secret".into()) };
        assert!(!format!("{wifi:?}").contains("secret"));
    }
}
