//! The wireless networks that an owner names: `[wifi]` of `device.toml`. The composer writes them by the same rules.
//! A password is never shown: not by `Debug`, not in an error, not where it has the wrong type.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// 802.11's largest name.
const LONGEST_NAME: usize = 32;

/// `[wifi]`: one network in the table itself, further ones in `[[wifi.network]]`, the preferred first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wifi {
    /// Where the device is, by its country's two letters: what may be sent on which channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The network's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssid: Option<String>,
    /// Its password; none for an open network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The network does not tell its name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Further networks.
    #[serde(rename = "network", skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<WifiNetwork>,
}

/// One wireless network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WifiNetwork {
    /// Its name.
    pub ssid: String,
    /// Its password; none for an open network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// It does not tell its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// A password, or the key that was made of one.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Why a network cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WifiError {
    /// Its name.
    #[error("the wireless network's name {0:?} must have 1 to 32 bytes")]
    Name(String),
    /// Its password.
    #[error(
        "the password of the wireless network {0:?} must have 8 to 63 bytes and no control characters, or be a key of \
         64 hexadecimal digits; leave it out for an open network"
    )]
    Password(String),
    /// There is a password and no name.
    #[error("`wifi` has a password and no `ssid`, the name of the network that it belongs to")]
    NoName,
    /// The country.
    #[error("the country {0:?} must be two letters, as DE")]
    Country(String),
}

// === impl Wifi ===

impl Wifi {
    /// All networks, the preferred first.
    #[must_use]
    pub fn networks(&self) -> Vec<WifiNetwork> {
        let first = self.ssid.as_ref().map(|ssid| WifiNetwork {
            ssid: ssid.clone(),
            password: self.password.clone(),
            hidden: self.hidden,
        });
        first.into_iter().chain(self.others.iter().cloned()).collect()
    }

    /// The networks that can be used.
    #[must_use]
    pub fn usable(&self) -> Vec<WifiNetwork> {
        self.networks().into_iter().filter(|network| network.check().is_ok()).collect()
    }

    /// The country in capitals, if it can be one.
    #[must_use]
    pub fn country(&self) -> Option<String> {
        self.country.as_deref().filter(|text| is_country(text)).map(str::to_ascii_uppercase)
    }

    /// All that is wrong.
    #[must_use]
    pub fn errors(&self) -> Vec<WifiError> {
        let country = self.country.iter().filter(|text| !is_country(text)).cloned().map(WifiError::Country);
        let nameless = (self.ssid.is_none() && self.password.is_some()).then_some(WifiError::NoName);
        let networks = self.networks();
        country.chain(nameless).chain(networks.iter().filter_map(|network| network.check().err())).collect()
    }
}

fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

// === impl WifiNetwork ===

impl WifiNetwork {
    /// Whether a card could join it at all.
    ///
    /// # Errors
    /// [`WifiError`].
    pub fn check(&self) -> Result<(), WifiError> {
        if self.ssid.is_empty() || self.ssid.len() > LONGEST_NAME {
            return Err(WifiError::Name(self.ssid.clone()));
        }
        match &self.password {
            Some(secret) if !secret.is_usable() => Err(WifiError::Password(self.ssid.clone())),
            _ => Ok(()),
        }
    }
}

// === impl Secret ===

impl Secret {
    /// Keeps it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Gives it away: to whoever joins the network, and to nobody else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is a key and not a password.
    pub(crate) fn is_key(&self) -> bool {
        self.0.len() == 64 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    fn is_usable(&self) -> bool {
        let is_password = (8..=63).contains(&self.0.len()) && !self.0.chars().any(char::is_control);
        is_password || self.is_key()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// By hand: the usual errors repeat the value that has the wrong type.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a password in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("a password is written in quotes"))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                self.visit_i64(0)
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                self.visit_i64(0)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        toml::from_str::<Wifi>(text).unwrap().errors().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn networks_come_in_their_order() {
        let text = "country = \"de\"\nssid = \"lab\"\npassword = \"very secret\"\n\
            [[network]]\nssid = \"caf\u{e9}\"\nhidden = true\n";
        let wifi: Wifi = toml::from_str(text).unwrap();
        let networks = wifi.usable();
        assert_eq!((networks[0].ssid.as_str(), networks[1].ssid.as_str()), ("lab", "caf\u{e9}"));
        assert!(networks[1].hidden && networks[1].password.is_none());
        assert_eq!((wifi.country().as_deref(), wifi.errors().len()), (Some("DE"), 0));
        assert_eq!(toml::from_str::<Wifi>(&toml::to_string(&wifi).unwrap()).unwrap(), wifi);
        assert!(!format!("{wifi:?}").contains("secret"));
    }

    #[test]
    fn what_no_card_could_join_is_told_without_the_password() {
        let long = "x".repeat(64);
        for (text, part) in [
            ("ssid = \"\"".to_owned(), "1 to 32 bytes"),
            (format!("ssid = \"{}\"", "n".repeat(33)), "1 to 32 bytes"),
            ("ssid = \"lab\"\npassword = \"secret7\"".to_owned(), "8 to 63 bytes"),
            (format!("ssid = \"lab\"\npassword = \"{long}\""), "8 to 63 bytes"),
            ("ssid = \"lab\"\npassword = \"secret\\nx=y\"".to_owned(), "control characters"),
            ("password = \"very secret\"".to_owned(), "no `ssid`"),
            ("country = \"Germany\"".to_owned(), "two letters"),
        ] {
            let found = errors(&text);
            assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
            assert!(!found[0].contains("secret") && !found[0].contains("xxxx"), "{found:?}");
        }
        assert!(errors(&format!("ssid = \"lab\"\npassword = \"{}\"", "0aF9".repeat(16))).is_empty());
        for value in ["12345678", "1234.5678", "true", "[12345678]", "{ a = 12345678 }", "2020-01-01"] {
            let error = toml::from_str::<Wifi>(&format!("password = {value}")).unwrap_err();
            assert!(!error.message().contains("1234"), "{}", error.message());
        }
    }
}
