//! PID 1 of the slot: turns a bare kernel into a system, starts the agent as a child, keeps both alive and ends the
//! machine in order. The agent's `main` calls [`run`] first of all where [`requested`] says so.
//!
//! Every step may fail without ending the boot: a device that cannot be reached but says why on its console is worth
//! more than one that restarts for ever. Only what would be wrong is left out: without its data area the agent does not
//! start, because it would be somebody else.

mod button;
mod child;
mod entropy;
mod prepare;
mod report;
mod signals;
mod supervise;
mod watchdog;

use std::{ffi::OsString, path::PathBuf, thread};

pub use report::{BOOT, BootReport};

use crate::{
    clock, console,
    first::{BEGAN, STAGE},
    net, power,
    status::{self, Health, Shared},
};

/// What PID 1 is told by the program that it is part of.
#[derive(Debug, Clone)]
pub struct Config {
    /// The agent; it is this very program, as a rule.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment beyond `PATH` and what `device.toml` says about proxies.
    pub environment: Vec<(String, String)>,
    /// The file whose absence would make the agent a new device. Once it was there and is not any more, the agent does
    /// not start.
    pub identity: PathBuf,
    /// Asks the running agent how it stands; may take seconds, and is called from a thread of its own.
    pub health: fn() -> Option<Health>,
}

/// What PID 1 and the agent tell each other, in memory.
pub const FOLDER: &str = "/run/sosna";
/// Where the agent keeps its things.
pub const AGENT_DATA: &str = "/data/agent";
/// The owner's join token, if there is one: in memory, for root only.
pub const JOIN: &str = "/run/sosna/join";
/// Made by the agent once its enrolment is on the disk, with the milliseconds since the kernel's start in it: then the
/// token is removed from the boot partition.
pub const ENROLLED: &str = "/run/sosna/enrolled";
/// What the network costs, for the agent: the cards and which one is the way out, as JSON.
pub const NETWORK: &str = "/run/sosna/network.json";

/// Whether this process was started by the first stage as PID 1.
#[must_use]
pub fn requested() -> bool {
    std::process::id() == 1 && std::env::var_os(STAGE).is_some_and(|stage| stage == "2")
}

/// Is PID 1 until the machine ends.
pub fn run(config: Config) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        console::say(&format!("the system broke down and restarts: {panic}"));
        power::now(power::End::Restart)
    }));
    let signals = match signals::Signals::note(&supervise::SIGNALS) {
        Ok(signals) => signals,
        Err(error) => panic!("signals cannot be noted: {error}"),
    };
    // Ctrl-Alt-Del becomes a signal, too.
    let _ = nix::sys::reboot::set_cad_enabled(false);
    let shared = Shared::default();
    shared.facts().times.began = std::env::var(BEGAN).ok().and_then(|began| began.parse().ok());
    shared.facts().times.system = Some(clock::since_start_ms());
    let prepared = prepare::prepare(&config.identity, &shared);
    report::write(&shared);
    let pulse = net::start(&prepared.device, &shared);
    let (facts, health) = (shared.clone(), config.health);
    let show = move || status::show(&facts, health);
    let _ = thread::Builder::new().name("status".into()).stack_size(256 * 1024).spawn(show);

    let mut environment = vec![("PATH".to_owned(), "/usr/bin:/usr/sbin".to_owned())];
    environment.extend(prepared.device.environment());
    environment.extend(config.environment);
    let child = child::Child::new(config.program, config.arguments, environment);
    let end = supervise::Supervisor::new(signals, child, pulse, shared, &prepared, config.identity).run();
    power::now(end)
}
