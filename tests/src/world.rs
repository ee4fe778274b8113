//! A hub, agents and people's commands as real processes in a folder of their own. When a test fails, their logs are
//! printed; when it ends well, nothing of them may be left; in any case everything is ended and removed.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::books;
use crate::leaks::{self, Left};
use crate::program::{self, Done, LOOK, Program, built};

/// One world at a time: they are about what happens when, on machines with few cores.
static ONE: Mutex<()> = Mutex::new(());

/// Ports for listeners: below those that the system gives to outgoing connections, so that a hub that is down for a
/// moment finds its own again.
static PORT: AtomicU32 = AtomicU32::new(0);

/// User ids of each agent's containers.
static UIDS: AtomicU32 = AtomicU32::new(0);
const UID_FIRST: u32 = 0x2000_0000;
const UID_COUNT: u32 = 16 << 16;

/// What a command gets when the test's time is over, so that the reason for a failure can be told.
const LAST: Duration = Duration::from_secs(5);

/// How many bytes of each log are shown when a test fails.
const SHOWN: usize = 6_000;

/// Whether containers with all limits can run here; says why not.
#[must_use]
pub fn can_run(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED {test}: containers with all limits on a bare machine need root");
    false
}

/// The system under test.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    ports: [u16; 4],
    hub: Option<Program>,
    host: &'static str,
    agents: Vec<Agent>,
    settings: Vec<(String, String)>,
    agent_settings: Vec<(String, String)>,
    admin: String,
    deadline: Instant,
    _one: MutexGuard<'static, ()>,
}

/// A device.
#[derive(Debug)]
pub struct Agent {
    /// Its folder's name.
    pub name: String,
    /// Its data.
    pub data: PathBuf,
    uid_base: u32,
    environment: Vec<(String, String)>,
    program: Option<Program>,
}

/// A person at the command line.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their token at the hub.
    pub token: String,
}

// === impl World ===

impl World {
    /// An empty world for a test that must be over after `patience`.
    ///
    /// # Panics
    /// When there is no room.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = TempDir::with_prefix("sosna-e2e-").unwrap();
        let ports = std::array::from_fn(|_| free_port());
        Self {
            dir,
            ports,
            hub: None,
            host: "127.0.0.1",
            agents: Vec::new(),
            settings: Vec::new(),
            agent_settings: Vec::new(),
            admin: String::new(),
            deadline: Instant::now() + patience,
            _one: one,
        }
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

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

    /// Sets something of the configuration of devices that are made from now on: `chain.id`.
    pub fn set_agents(&mut self, key: &str, value: &str) {
        let variable = format!("SOSNA_AGENT_{}", key.to_uppercase().replace('.', "_"));
        self.agent_settings.push((variable, value.to_owned()));
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

    /// The admin.
    #[must_use]
    pub fn admin(&self) -> Person {
        Person { token: self.admin.clone() }
    }

    /// Adds a buyer with credit.
    #[must_use]
    pub fn buyer(&self, name: &str, credit: &str) -> Person {
        let mut command = self.hub_command(&self.hub_data());
        let token = self.run(command.args(["user", "add", name, "--role", "buyer"])).ok().to_owned();
        if credit != "0" {
            let _ = self.cli(&self.admin(), &["ledger", "credit", name, credit]).ok();
        }
        Person { token }
    }

    /// A token for devices of an owner, whose key is made where there is none, and who is admitted.
    #[must_use]
    pub fn owner_token(&self, owner: &str, uses: u32) -> String {
        let key = self.dir().join(format!("{owner}.key"));
        let key = key.to_str().unwrap();
        let address = self.cli(&self.admin(), &["owner", "key", "--key", key]).ok().to_owned();
        let uses = uses.to_string();
        // The hub learns of an owner by the first delegation.
        let token =
            self.cli(&self.admin(), &["owner", "delegate", "--key", key, "--uses", &uses]).ok().to_owned();
        let _ = self.cli(&self.admin(), &["owner", "admit", &address]).ok();
        token
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
        let mut command = Command::new(built("sosna-agent"));
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

    /// Runs a command to its end, within the test's time.
    #[must_use]
    pub fn run(&self, command: &mut Command) -> Done {
        program::run(command, self.dir(), self.left().max(LAST))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The web address.
    #[must_use]
    pub fn http(&self) -> String {
        let is_encrypted =
            self.settings.iter().any(|(key, value)| key == "SOSNA_HUB_HTTPS" && value == "true");
        let scheme = if is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", sosna_host::address::join(self.host, self.ports[0]))
    }

    /// Runs `sosna` for somebody.
    #[must_use]
    pub fn cli(&self, who: &Person, arguments: &[&str]) -> Done {
        let mut command = Command::new(built("sosna"));
        command
            .args(arguments)
            .env("SOSNA_HUB", self.http())
            .env("SOSNA_TOKEN", &who.token)
            .env("HOME", self.dir())
            .env("XDG_CONFIG_HOME", self.dir().join("config"))
            .current_dir(self.dir());
        self.run(&mut command)
    }

    /// The same with `--json`; the answer.
    ///
    /// # Panics
    /// When it fails or answers something else.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, who: &Person, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        let done = self.cli(who, &arguments);
        serde_json::from_str(done.ok()).unwrap_or_else(|error| panic!("{error} in {done}"))
    }

    /// Submits a job without waiting for it: `sosna run` with these arguments; its id.
    #[must_use]
    #[track_caller]
    pub fn submit(&self, who: &Person, arguments: &[&str]) -> String {
        let arguments: Vec<_> = ["run", "--detach"].iter().chain(arguments).copied().collect();
        self.cli(who, &arguments).ok().to_owned()
    }

    /// A job with tasks and assignments.
    #[must_use]
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.ask(&self.admin(), &["job", id])
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When the test's time is over.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            assert!(Instant::now() < self.deadline, "never came: {what}");
            thread::sleep(LOOK * 2);
        }
    }

    /// Waits for a job's end.
    #[must_use]
    #[track_caller]
    pub fn until_over(&self, id: &str) -> Value {
        let mut job = Value::Null;
        self.until("the job's end", || {
            job = self.job(id);
            ["succeeded", "failed", "cancelled"].contains(&books::text(&job["state"]))
        });
        job
    }

    /// Waits until so many devices are connected.
    #[track_caller]
    pub fn until_online(&self, count: usize) {
        self.until("devices online", || {
            let devices = self.ask(&self.admin(), &["devices"]);
            books::items(&devices["devices"]).iter().filter(|device| device["online"] == true).count()
                == count
        });
    }

    /// Every job in full.
    #[must_use]
    pub fn jobs(&self) -> Vec<Value> {
        let jobs = self.ask(&self.admin(), &["jobs", "--limit", "1000"]);
        // The command prints either the list or an object around it.
        let list = if jobs.is_array() { &jobs } else { &jobs["jobs"] };
        books::items(list).iter().map(|job| self.job(books::text(&job["id"]))).collect()
    }

    /// Waits until every device holds vouchers for all it earned, then asserts that the books balance.
    #[track_caller]
    pub fn assert_books(&self) {
        let admin = self.admin();
        self.until("vouchers for everything", || {
            let devices = self.ask(&admin, &["devices"]);
            let settled = self.jobs().iter().all(|job| {
                books::assignments(job)
                    .all(|assignment| assignment["verdict"] != "accepted" || !assignment["owed"].is_null())
                    && books::units(&job["price"]["reserved"]) == 0
            });
            settled && books::all_held(&devices)
        });
        let devices = self.ask(&admin, &["devices"]);
        let ledger = self.ask(&admin, &["ledger", "--limit", "1000"]);
        books::assert_balanced(&self.jobs(), &ledger, &devices);
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

    /// A device's name.
    #[must_use]
    pub fn address(&self, place: usize) -> String {
        books::text(&self.agent_status(place)["device"]).to_owned()
    }

    /// A device as its hub sees it.
    #[must_use]
    pub fn device(&self, address: &str) -> Value {
        self.ask(&self.admin(), &["device", address])
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

    /// Asserts that no container has left anything, stops everything in order, and asserts that nothing at all is left.
    ///
    /// # Panics
    /// When something is.
    pub fn finish(self) {
        self.finish_but(&[]);
    }

    /// The same, where the test itself has mounted something at these places.
    ///
    /// # Panics
    /// When something else is left.
    pub fn finish_but(mut self, own: &[&Path]) {
        let mut names: BTreeSet<String> = if self.hub.is_some() {
            let jobs = self.jobs();
            jobs.iter().flat_map(books::assignments).map(|one| books::text(&one["id"]).to_owned()).collect()
        } else {
            BTreeSet::new()
        };
        for agent in &self.agents {
            names.extend(leaks::containers(&agent.data));
        }
        let agents: Vec<_> = self.agents.iter_mut().filter_map(|agent| agent.program.take()).collect();
        let left = |world: &Self| {
            let mut left = Left::find(world.dir(), &names);
            left.mounts.retain(|mount| !own.contains(&mount.as_path()));
            // The programs themselves run yet.
            left.processes
                .retain(|(_, line)| !line.contains("sosna-hub") && !line.contains("sosna-agent run"));
            left
        };
        self.until("an end without leaks", || {
            let left = left(&self);
            if !left.is_empty() && Instant::now() + Duration::from_secs(1) > self.deadline {
                panic!("containers left {left:#?}");
            }
            left.is_empty()
        });
        for agent in agents {
            agent.stop();
        }
        if self.hub.is_some() {
            self.stop_hub();
        }
        let mut left = Left::find(self.dir(), &names);
        left.mounts.retain(|mount| !own.contains(&mount.as_path()));
        assert!(left.is_empty(), "{left:#?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failed = thread::panicking();
        self.hub = None;
        let mut names = BTreeSet::new();
        for agent in &mut self.agents {
            agent.program = None;
            names.extend(leaks::containers(&agent.data));
        }
        Left::find(self.dir.path(), &names).remove();
        if failed {
            let entries = fs::read_dir(self.dir.path()).into_iter().flatten().filter_map(Result::ok);
            let mut logs: Vec<_> = entries
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
                .collect();
            logs.sort();
            for log in logs {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let mut from = text.len().saturating_sub(SHOWN);
                while !text.is_char_boundary(from) {
                    from += 1;
                }
                eprintln!("=== the end of {}\n{}", log.display(), &text[from..]);
            }
        }
    }
}

fn free_port() -> u16 {
    loop {
        let next = PORT.fetch_add(1, Ordering::Relaxed) + std::process::id().wrapping_mul(16);
        let port = u16::try_from(16_000 + next % 14_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
