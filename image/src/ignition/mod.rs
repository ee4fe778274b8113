//! A configuration that turns a stock Fedora CoreOS or Flatcar into a device: as Ignition 3.4, which the machine
//! reads, or as Butane, which people edit and `butane` translates.
//! Source: Ignition's "Configuration Specification v3.4.0"; Butane's for `fcos` 1.5.0 and `flatcar` 1.1.0.

mod yaml;

use std::io::Write as _;

use data_encoding::BASE64;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sosna_apt::digest;

use crate::Error;
use crate::personal::{Network, Personal};

/// Which system is to be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Fedora CoreOS.
    Fcos,
    /// Flatcar.
    Flatcar,
}

/// Where the machine gets the agent from.
#[derive(Debug, Clone)]
pub enum Agent {
    /// It is part of the configuration: the program's bytes.
    Embedded(Vec<u8>),
    /// It is downloaded and refused when its hash differs.
    Download {
        /// Where it is.
        url: String,
        /// The program's SHA-256 in hex.
        sha256: String,
    },
}

/// A configuration.
#[derive(Debug)]
pub struct Config {
    variant: Variant,
    agent: Agent,
    personal: Personal,
}

/// Clouds take less than this as user data.
pub const LARGE: usize = 256 << 10;

// === impl Variant ===

impl Variant {
    /// A folder for programs that updates leave alone.
    fn agent_path(self) -> &'static str {
        match self {
            Self::Fcos => "/usr/local/bin/sosna-agent",
            Self::Flatcar => "/opt/bin/sosna-agent",
        }
    }

    fn butane(self) -> (&'static str, &'static str) {
        match self {
            Self::Fcos => ("fcos", "1.5.0"),
            Self::Flatcar => ("flatcar", "1.1.0"),
        }
    }
}

// === impl Config ===

impl Config {
    /// Checks what is given.
    ///
    /// # Errors
    /// [`Error::Refused`]: a token or name that no device could use, an address that is not HTTP, a hash that is none,
    /// or settings that this system takes from elsewhere.
    pub fn new(variant: Variant, agent: Agent, personal: Personal) -> Result<Self, Error> {
        personal.check()?;
        let refuse = |reason: &str| Err(Error::Refused(reason.to_owned()));
        if let Agent::Download { url, sha256 } = &agent {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return refuse("the agent's address must begin with https:// or http://");
            }
            if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return refuse("the agent's SHA-256 must be 64 hexadecimal digits");
            }
        }
        let settings = &personal.settings;
        if settings.wifi.is_some() || settings.network != Network::default() || !settings.labels.is_empty() {
            return refuse(
                "on CoreOS the network is set up by its own means; only join token, host name and proxy are taken",
            );
        }
        Ok(Self { variant, agent, personal })
    }

    /// The Ignition configuration.
    ///
    /// # Errors
    /// [`Error::Malformed`], when the agent cannot be packed: never seen.
    pub fn ignition(&self) -> Result<String, Error> {
        let document = json!({
            "ignition": { "version": "3.4.0" },
            "storage": self.storage(&|text| json!({ "source": data_url(text.as_bytes(), false) }))?,
            "systemd": self.systemd(),
        });
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Error::malformed("the configuration", error))?;
        Ok(format!("{text}\n"))
    }

    /// The Butane configuration.
    ///
    /// # Errors
    /// As above.
    pub fn butane(&self) -> Result<String, Error> {
        let (variant, version) = self.variant.butane();
        let document = json!({
            "variant": variant,
            "version": version,
            "storage": self.storage(&|text| json!({ "inline": text }))?,
            "systemd": self.systemd(),
        });
        Ok(yaml::write(&document))
    }

    fn storage(&self, text: &dyn Fn(&str) -> Value) -> Result<Value, Error> {
        let agent = match &self.agent {
            Agent::Embedded(program) => json!({
                "source": data_url(&gzip(program)?, true),
                "compression": "gzip",
                // Of the unpacked file, as the specification says.
                "verification": { "hash": format!("sha256-{}", digest::of(program).hex()) },
            }),
            Agent::Download { url, sha256 } => json!({
                "source": url,
                "verification": { "hash": format!("sha256-{}", sha256.to_ascii_lowercase()) },
            }),
        };
        let mut files = vec![json!({ "path": self.variant.agent_path(), "mode": 0o755, "contents": agent })];
        if let Some(name) = &self.personal.settings.hostname {
            files.push(json!({
                "path": "/etc/hostname", "mode": 0o644, "overwrite": true, "contents": text(&format!("{name}\n")),
            }));
        }
        let mut environment = String::new();
        if let Some(join) = &self.personal.join {
            environment.push_str(&format!("SOSNA_AGENT_JOIN={}\n", join.trim()));
        }
        if let Some(proxy) = &self.personal.settings.proxy.http {
            environment.push_str(&format!("HTTPS_PROXY={proxy}\nHTTP_PROXY={proxy}\n"));
        }
        if !environment.is_empty() {
            files.push(json!({
                "path": "/etc/sosna/agent.env", "mode": 0o600, "overwrite": true, "contents": text(&environment),
            }));
        }
        let folders = [("/etc/sosna", 0o755), ("/var/lib/sosna-agent", 0o700)];
        let folders: Vec<_> = folders.map(|(path, mode)| json!({ "path": path, "mode": mode })).to_vec();
        Ok(json!({ "directories": folders, "files": files }))
    }

    fn systemd(&self) -> Value {
        let unit =
            include_str!("../../assets/sosna-agent.service").replace("@AGENT@", self.variant.agent_path());
        json!({ "units": [{ "name": "sosna-agent.service", "enabled": true, "contents": unit }] })
    }
}

fn data_url(bytes: &[u8], program: bool) -> String {
    let kind = if program { "application/octet-stream" } else { "text/plain" };
    format!("data:{kind};base64,{}", BASE64.encode(bytes))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer
        .write_all(bytes)
        .and_then(|()| writer.finish())
        .map_err(|error| Error::malformed("the agent", error))
}
