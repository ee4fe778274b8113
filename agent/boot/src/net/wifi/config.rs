//! What the supplicant reads: wpa_supplicant.conf(5).

use std::fmt::Write as _;

use crate::device::wifi::{Secret, Wifi, WifiNetwork};

/// The configuration's text, with the passwords in it.
pub(super) fn text(wifi: &Wifi, networks: &[WifiNetwork], control: &str) -> String {
    // Both ways of WPA3 to agree on a key; nobody's printer is looked for.
    let mut text = format!("ctrl_interface={control}\np2p_disabled=1\nsae_pwe=2\n");
    if let Some(country) = wifi.country() {
        let _ = writeln!(text, "country={country}");
    }
    for (number, network) in networks.iter().enumerate() {
        let name: String = network.ssid.bytes().map(|byte| format!("{byte:02x}")).collect();
        // The first of the list is preferred.
        let _ = write!(text, "network={{\n\tssid={name}\n\tpriority={}\n", networks.len() - number);
        if network.hidden {
            text.push_str("\tscan_ssid=1\n");
        }
        text.push_str(&keys(network.password.as_ref()));
        text.push_str("}\n");
    }
    text
}

fn keys(password: Option<&Secret>) -> String {
    match password {
        None => "\tkey_mgmt=NONE\n".to_owned(),
        // A key is of no use to WPA3, which needs the password itself.
        Some(key) if key.is_key() => {
            format!("\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tieee80211w=1\n\tpsk={}\n", key.reveal())
        }
        // Up to the last quotation mark of the line, whatever is between.
        Some(password) => {
            format!(
                "\tkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n\tieee80211w=1\n\tpsk=\"{}\"\n",
                password.reveal()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_supplicant_is_told_everything_and_nothing_can_be_slipped_in() {
        let key = "ab".repeat(32);
        let wifi: Wifi = toml::from_str(&format!(
            "country = \"de\"\nssid = \"la\\\"b}}\"\npassword = \"say \\\"#hi\\\" 8\"\nhidden = true\n\
             [[network]]\nssid = \"b\"\npassword = \"{key}\"\n[[network]]\nssid = \"c\"\n"
        ))
        .unwrap();
        let text = text(&wifi, &wifi.usable(), "/run/wifi/control");
        assert!(text.starts_with("ctrl_interface=/run/wifi/control\n") && text.contains("\ncountry=DE\n"));
        assert!(text.contains("\tssid=6c6122627d\n\tpriority=3\n\tscan_ssid=1\n"), "{text}");
        assert!(text.contains("SAE\n\tieee80211w=1\n\tpsk=\"say \"#hi\" 8\"\n"), "{text}");
        assert!(text.contains(&format!("SHA256\n\tieee80211w=1\n\tpsk={key}\n")), "{text}");
        assert!(text.contains("\tssid=63\n\tpriority=1\n\tkey_mgmt=NONE\n"), "{text}");
        assert_eq!(text.matches("network={").count(), 3);
    }
}
