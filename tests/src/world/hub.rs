//! The hub of a world: its settings, its process, and how it ends.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::World;
use crate::program::{LOOK, Program, built};

/// Ports for listeners: below those that the system gives to outgoing connections, so that a hub that is down for a
/// moment finds its own again.
static PORT: AtomicU32 = AtomicU32::new(0);

// === impl World ===

impl World {
    /// The hub's data folder.
    #[must_use]
    pub fn hub_data(&self) -> PathBuf {
        self.dir().join("hub")
    }

    /// Lets the hub listen somewhere else on this machine.
    pub fn listen_on(&mut self, host: &'static str) {
        self.host = host;
    }

    /// The hub's configuration, made where there is none: short times, fixed ports, and nothing spent to have new
    /// devices checked.
    fn hub_config(&self) -> PathBuf {
        let path = self.dir().join("hub.toml");
        let [http, main, bootstrap, content] = self.ports;
        let text = format!(
            "listen = \"{}\"\n[ports]\nhttp = {http}\nmain = {main}\nbootstrap = {bootstrap}\ncontent = {content}\n\
             [times]\nbeat_ms = 500\nlease_ms = 5000\noffer_ms = 4000\nreveal_ms = 20000\nvoucher_ms = 500\n\
             retry_ms = 200\n[probation]\ndelay_ms = 500\ncheck_budget = \"0\"\n[content]\nfree_bytes = 1048576\n",
            self.host
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// The hub's process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn hub_process(&self) -> u32 {
        self.hub.as_ref().unwrap().id()
    }

    /// A command of `sosna-hub` on a data folder.
    #[must_use]
    pub fn hub_command(&self, data: &Path) -> Command {
        let mut command = Command::new(built("sosna-hub"));
        command.arg("--data").arg(data).arg("--config").arg(self.hub_config()).current_dir(self.dir());
        command.envs(self.settings.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Sets something of the hub's configuration for its next start: `times.request_ms`.
    pub fn set_hub(&mut self, key: &str, value: &str) {
        let variable = format!("SOSNA_HUB_{}", key.to_uppercase().replace('.', "_"));
        self.settings.push((variable, value.to_owned()));
    }

    /// Sets a variable of the environment of the hub's next start, and of nothing else.
    pub fn set_hub_environment(&mut self, environment: &[(&str, String)]) {
        self.hub_environment =
            environment.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
    }

    /// Starts the hub, or a hub that has ended by itself, again and again until it serves.
    ///
    /// # Panics
    /// When it does not within the test's time.
    pub fn insist_on_hub(&mut self) {
        let data = self.hub_data();
        let running = data.join("running.json");
        while self.hub_has_ended() || !running.is_file() {
            assert!(self.has_time(), "the hub never serves:\n{}", self.hub_log());
            if self.hub_has_ended() {
                let _ = fs::remove_file(&running);
                let mut command = self.hub_command(&data);
                command.arg("serve").envs(self.hub_environment.iter().map(|(key, value)| (key, value)));
                self.hub = Some(Program::start(&mut command, &self.dir().join("hub.log")));
            }
            self.rest();
        }
        self.admin = fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
    }

    fn hub_has_ended(&mut self) -> bool {
        self.hub.as_mut().is_none_or(|hub| hub.ended().is_some())
    }

    /// Starts the hub on `data` and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_hub_on(&mut self, data: &Path) {
        assert!(self.hub.is_none(), "one hub at a time");
        let running = data.join("running.json");
        // A hub that was killed left this behind.
        let _ = fs::remove_file(&running);
        let program = Program::start(self.hub_command(data).arg("serve"), &self.dir().join("hub.log"));
        let hub = self.hub.insert(program);
        let end = Instant::now() + Duration::from_secs(20);
        while !running.is_file() {
            if let Some(status) = hub.ended() {
                panic!("the hub ended with {status}:\n{}", hub.said());
            }
            assert!(Instant::now() < end, "the hub does not serve:\n{}", hub.said());
            thread::sleep(LOOK);
        }
        self.admin = fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
    }

    /// Starts another hub beside the one that runs, with the same settings, on `data` and ports of its own.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_other_hub(&self, data: &Path) -> Program {
        let mut command = self.hub_command(data);
        for port in ["HTTP", "MAIN", "BOOTSTRAP", "CONTENT"] {
            command.env(format!("SOSNA_HUB_PORTS_{port}"), free_port().to_string());
        }
        Program::start(command.arg("serve"), &self.dir().join("other-hub.log"))
    }

    /// Starts the hub.
    pub fn start_hub(&mut self) {
        self.start_hub_on(&self.hub_data());
    }

    /// SIGKILL for the hub.
    ///
    /// # Panics
    /// When none runs.
    pub fn kill_hub(&mut self) {
        self.hub.take().unwrap().kill();
    }

    /// The hub crashes.
    ///
    /// # Panics
    /// When none runs.
    pub fn crash_hub(&mut self, signal: Signal) {
        self.hub.take().unwrap().crash(signal);
    }

    /// An orderly end of the hub.
    ///
    /// # Panics
    /// When none runs, or it does not end well.
    pub fn stop_hub(&mut self) {
        self.hub.take().unwrap().stop();
    }

    /// What the hub's log says.
    #[must_use]
    pub fn hub_log(&self) -> String {
        fs::read_to_string(self.dir().join("hub.log")).unwrap_or_default()
    }
}

pub(super) fn free_port() -> u16 {
    loop {
        let next = PORT.fetch_add(1, Ordering::Relaxed) + std::process::id().wrapping_mul(16);
        let port = u16::try_from(16_000 + next % 14_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
