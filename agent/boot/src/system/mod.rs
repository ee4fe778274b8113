//! PID 1 of the slot: turns a bare kernel into a system, starts the agent as a child, keeps both alive and ends the
//! machine in order. The agent's `main` calls [`run`] first of all where [`requested`] says so.
//!
//! Every step may fail without ending the boot: a device that cannot be reached but says why on its console is worth
//! more than one that restarts for ever. Only what would be wrong is left out: without its data area the agent does not
//! start, because it would be somebody else.

mod button;
pub(crate) mod child;
mod entropy;
mod prepare;
mod report;
mod signals;
mod supervise;
mod watchdog;

use std::{
    ffi::OsString,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

pub use report::{BOOT, BootReport};

use crate::{
    bootimage::{self, Verdict},
    clock, console,
    first::{BEGAN, STAGE},
    modules::{self, Events, ModuleError, Modules},
    net::{self, wifi},
    power,
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
/// The folder in it in which the agent, which has no rights, may tell something: links and the like in there are nothing.
pub const TOLD: &str = "agent";
/// Where the agent keeps its things.
pub const AGENT_DATA: &str = "/data/agent";
/// The owner's join token, if there is one: in memory, for root only.
pub const JOIN: &str = "/run/sosna/join";
/// Made by the agent once its enrolment is on the disk, with the milliseconds since the kernel's start in it: then the
/// token is removed from the boot partition.
pub const ENROLLED: &str = "/run/sosna/agent/enrolled";
/// What the network costs, for the agent: the cards and which one is the way out, as JSON.
pub const NETWORK: &str = "/run/sosna/network.json";

/// A device without a hub is checked, too.
const UNTIL_CHECK: Duration = Duration::from_secs(60);

/// Whether this process was started by the first stage as PID 1, or by that to become the supplicant of a wireless
/// card.
#[must_use]
pub fn requested() -> bool {
    let stage = std::env::var_os(STAGE);
    stage.is_some_and(|stage| stage == wifi::PART || (stage == "2" && std::process::id() == 1))
}

/// Is PID 1 until the machine ends, or what PID 1 wants.
pub fn run(config: Config) -> ! {
    if std::env::var_os(STAGE).is_some_and(|stage| stage == wifi::PART) {
        wifi::become_supplicant();
    }
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
    let mut prepared = prepare::prepare(&config.identity, &shared);
    report::write(&shared);
    if let Some((modules, events)) = prepared.drivers.take() {
        follow_hardware(modules, events, shared.clone());
    }
    if let Some(disk) = prepared.disk.clone() {
        check_boot_image(disk, shared.clone());
    }
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

/// Hardware that is plugged in later gets its driver; the network finds its card by itself then.
fn follow_hardware(modules: Modules, events: Events, shared: Shared) {
    let follow = move || {
        let told = |wrong: &[ModuleError]| {
            wrong.iter().for_each(|error| shared.remark(console::chain(error)));
            shared.facts().modules = modules::count();
            report::write(&shared);
        };
        let Err(error) = modules.follow(&events, told);
        shared.remark(format!("hardware that comes later gets no driver: {error}"));
    };
    let _ = thread::Builder::new().name("drivers".into()).stack_size(256 * 1024).spawn(follow);
}

/// Compares the boot image with what the slot says of it, once the device has done what it was started for.
fn check_boot_image(disk: String, shared: Shared) {
    let check = move || {
        let begun = Instant::now();
        let is_settled = |shared: &Shared| {
            let facts = shared.facts();
            facts.held || facts.health.as_ref().is_some_and(|health| health.connected)
        };
        while !is_settled(&shared) && begun.elapsed() < UNTIL_CHECK {
            thread::sleep(Duration::from_millis(500));
        }
        // Behind everybody else, but not for ever: the boot partition is in use meanwhile.
        // SAFETY: no memory is passed; 0 is this thread.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
        let verdict = bootimage::check(&disk);
        let text = verdict.to_string();
        if let Verdict::Differs(_) = verdict {
            shared
                .remark(format!("WARNING: the boot image is not what this system was composed with: {text}"));
        } else {
            console::say(&format!("the boot image is {text}"));
        }
        shared.facts().boot_image = text;
        report::write(&shared);
    };
    let _ = thread::Builder::new().name("boot-image".into()).stack_size(256 * 1024).spawn(check);
}
