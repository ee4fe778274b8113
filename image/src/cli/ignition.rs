//! `sosna-image ignition`.

use std::fs;

use sosna_image::Error;
use sosna_image::ignition::{Agent, Config, LARGE, Variant};
use sosna_image::personal::{Personal, Proxy, Settings};

use super::args::{IgnitionArgs, Language, System};

pub(super) fn ignition(args: &IgnitionArgs) -> Result<(), Error> {
    let agent = match (&args.agent, &args.agent_url, &args.agent_sha256) {
        (Some(path), ..) => Agent::Embedded(fs::read(path).map_err(Error::io("read", path))?),
        (None, Some(url), Some(sha256)) => Agent::Download { url: url.clone(), sha256: sha256.clone() },
        _ => return Err(Error::Refused("give --agent, or --agent-url with --agent-sha256".to_owned())),
    };
    let settings = Settings {
        hostname: args.hostname.clone(),
        proxy: Proxy { http: args.proxy.clone(), without: Vec::new() },
        ..Settings::default()
    };
    let personal = Personal { join: args.join.clone(), settings, ..Personal::default() };
    let variant = match args.system {
        System::Fcos => Variant::Fcos,
        System::Flatcar => Variant::Flatcar,
    };
    let config = Config::new(variant, agent, personal)?;
    let text = match args.format {
        Language::Ignition => config.ignition()?,
        Language::Butane => config.butane()?,
    };
    if text.len() > LARGE {
        eprintln!(
            "note: {} KiB; clouds take less as user data: serve the agent by --agent-url, or the file by HTTP",
            text.len() >> 10
        );
    }
    match &args.output {
        Some(path) => fs::write(path, text).map_err(Error::io("write", path)),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
