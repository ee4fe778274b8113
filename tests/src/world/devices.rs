//! The devices of a world: agents as processes, what they say and sign, and how they end.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::World;
use crate::books;
use crate::leaks::{self, Left};
use crate::program::{Done, Program, built};

/// User ids of each agent's containers.
static UIDS: AtomicU32 = AtomicU32::new(0);
const UID_FIRST: u32 = 0x2000_0000;
const UID_COUNT: u32 = 16 << 16;

/// A device.
#[derive(Debug)]
pub struct Agent {
    /// Its folder's name.
    pub name: String,
    /// Its data.
    pub data: PathBuf,
    uid_base: u32,
    environment: Vec<(String, String)>,
    pub(super) program: Option<Program>,
}

// === impl World ===

impl World {
    /// Sets something of the configuration of devices that are made from now on: `chain.id`.
    pub fn set_agents(&mut self, key: &str, value: &str) {
        let variable = format!("SOSNA_AGENT_{}", key.to_uppercase().replace('.', "_"));
        self.agent_settings.push((variable, value.to_owned()));
    }

    /// Devices are run by another program of this workspace, around the same library.
    pub const fn set_agent_program(&mut self, name: &'static str) {
        self.agent_program = name;
    }

    /// Makes a device and starts it; it enrols by the token.
    pub fn add_agent(&mut self, token: &str, environment: &[(&str, &str)]) -> usize {
        let place = self.agents.len();
        let name = format!("a{place}");
        let own = environment.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let environment = self.agent_settings.iter().cloned().chain(own).collect();
        let agent = self.new_agent(name, environment);
        self.agents.push(agent);
        self.start_agent(place, Some(token));
        place
    }

    /// Makes a second device of all that a device keeps, as a copied card would be, and starts it.
    ///
    /// # Panics
    /// When the device does not run, or cannot be copied.
    pub fn clone_agent(&mut self, place: usize) -> usize {
        // Whole files only.
        self.agents[place].program.take().unwrap().stop();
        let twin = self.agents.len();
        let (name, environment) = (format!("a{twin}"), self.agents[place].environment.clone());
        let agent = self.new_agent(name, environment);
        let copied = self.run(Command::new("cp").arg("-a").arg(&self.agents[place].data).arg(&agent.data));
        assert_eq!(copied.code, Some(0), "{copied}");
        self.agents.push(agent);
        self.start_agent(place, None);
        self.start_agent(twin, None);
        twin
    }

    fn new_agent(&self, name: String, environment: Vec<(String, String)>) -> Agent {
        let uid_base = UID_FIRST + UIDS.fetch_add(1, Ordering::Relaxed) * UID_COUNT;
        Agent { data: self.dir().join(&name), name, uid_base, environment, program: None }
    }

    /// The command that runs a device.
    fn agent_command(&self, agent: &Agent, token: Option<&str>) -> Command {
        let mut command = Command::new(built(self.agent_program));
        command.args(["run", "--data"]).arg(&agent.data).current_dir(self.dir());
        command.args(token.into_iter().flat_map(|token| ["--join", token]));
        command
            .env("SOSNA_AGENT_LIMITS_CPU_MILLIS", "4000")
            .env("SOSNA_AGENT_LIMITS_MEMORY", "1GiB")
            .env("SOSNA_AGENT_LIMITS_DISK", "1GiB")
            .env("SOSNA_AGENT_LIMITS_IMAGES", "256MiB")
            .env("SOSNA_AGENT_CONTAINERS_UID_BASE", agent.uid_base.to_string())
            .env("SOSNA_AGENT_CONTAINERS_UID_COUNT", UID_COUNT.to_string())
            .env("SOSNA_AGENT_CONTAINERS_STATE", self.dir().join(format!("{}-state", agent.name)))
            .envs(agent.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts a device that is not running.
    ///
    /// # Panics
    /// When it runs.
    pub fn start_agent(&mut self, place: usize, token: Option<&str>) {
        let agent = &self.agents[place];
        assert!(agent.program.is_none(), "it runs");
        let log = self.agent_log_path(place);
        let program = Program::start(&mut self.agent_command(agent, token), &log);
        self.agents[place].program = Some(program);
    }

    /// Starts devices that have ended by themselves again, each by its token.
    ///
    /// # Panics
    /// When a device cannot be started.
    pub fn revive_agents(&mut self, tokens: &[String]) {
        for (place, token) in tokens.iter().enumerate().take(self.agents.len()) {
            let agent = &mut self.agents[place];
            if agent.program.as_mut().is_none_or(|program| program.ended().is_some()) {
                agent.program = None;
                self.start_agent(place, Some(token));
            }
        }
    }

    /// Runs a device that must give up by itself, in a folder of its own.
    #[must_use]
    pub fn try_agent(&self, name: &str, token: Option<&str>) -> Done {
        let agent = self.new_agent(name.to_owned(), Vec::new());
        self.run(&mut self.agent_command(&agent, token))
    }

    /// SIGKILL for a device's agent; its containers live on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_agent(&mut self, place: usize) {
        self.agents[place].program.take().unwrap().kill();
    }

    /// A device's agent crashes.
    ///
    /// # Panics
    /// When it does not run.
    pub fn crash_agent(&mut self, place: usize, signal: Signal) {
        self.agents[place].program.take().unwrap().crash(signal);
    }

    /// A device's machine is gone for good: agent, containers and all they had.
    ///
    /// # Panics
    /// When it does not run.
    pub fn bury_agent(&mut self, place: usize) {
        self.kill_agent(place);
        let data = self.agents[place].data.clone();
        // Again and again: a shim that was just starting a container goes on until it is ended itself.
        self.until("nothing of the device", || {
            let left = Left::find(&data, &leaks::containers(&data));
            left.remove();
            left.is_empty()
        });
        fs::remove_dir_all(&data).unwrap();
    }

    /// A device.
    #[must_use]
    pub fn agent(&self, place: usize) -> &Agent {
        &self.agents[place]
    }

    /// What a device's log says.
    #[must_use]
    pub fn agent_log(&self, place: usize) -> String {
        fs::read_to_string(self.agent_log_path(place)).unwrap_or_default()
    }

    fn agent_log_path(&self, place: usize) -> PathBuf {
        self.dir().join(format!("{}.log", self.agents[place].name))
    }

    /// The process of a device that runs.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn agent_process(&self, place: usize) -> u32 {
        self.agents[place].program.as_ref().unwrap().id()
    }

    /// What a device says about itself.
    #[must_use]
    pub fn agent_status(&self, place: usize) -> Value {
        let mut command = Command::new(built("sosna-agent"));
        let done = self.run(command.args(["status", "--json", "--data"]).arg(&self.agents[place].data));
        serde_json::from_str(done.ok()).unwrap()
    }

    /// What a device signs for the chain (`sosna-agent wallet claim` or `payee`).
    ///
    /// # Panics
    /// When it signs none.
    #[must_use]
    #[track_caller]
    pub fn agent_signs(&self, place: usize, what: &[&str]) -> Value {
        let mut command = Command::new(built("sosna-agent"));
        command.arg("wallet").args(what).args(["--days", "3650"]).arg("--data").arg(&self.agents[place].data);
        serde_json::from_str(self.run(&mut command).ok()).unwrap()
    }

    /// Whether a device has no open task.
    #[must_use]
    pub fn agent_idle(&self, place: usize) -> bool {
        books::items(&self.agent_status(place)["tasks"]).is_empty()
    }

    /// Waits until a device's agent has ended by itself; its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn agent_ends(&mut self, place: usize) -> Option<i32> {
        let patience = self.left();
        let mut program = self.agents[place].program.take().unwrap();
        program.wait(patience).code()
    }

    /// A device's name.
    #[must_use]
    pub fn address(&self, place: usize) -> String {
        books::text(&self.agent_status(place)["device"]).to_owned()
    }
}
