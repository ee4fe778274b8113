//! A hub, agents and people's commands as real processes in a folder of their own. When a test fails, their logs are
//! printed; when it ends well, nothing of them may be left; in any case everything is ended and removed.

mod devices;
mod hub;
mod people;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::books;
use crate::leaks::{self, Left};
use crate::program::{self, Done, LOOK, Program};
pub use devices::Agent;
use hub::free_port;
pub use people::Person;

/// One world at a time: they are about what happens when, on machines with few cores.
static ONE: Mutex<()> = Mutex::new(());

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
    hub_environment: Vec<(String, String)>,
    agent_settings: Vec<(String, String)>,
    agent_program: &'static str,
    admin: String,
    deadline: Instant,
    _one: MutexGuard<'static, ()>,
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
            hub_environment: Vec::new(),
            agent_settings: Vec::new(),
            agent_program: "sosna-agent",
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

    /// Runs a command to its end, within the test's time.
    #[must_use]
    pub fn run(&self, command: &mut Command) -> Done {
        program::run(command, self.dir(), self.left().max(LAST))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When the test's time is over.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            assert!(self.has_time(), "never came: {what}");
            self.rest();
        }
    }

    /// Whether the test's time is not over yet.
    #[must_use]
    pub fn has_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// Until it is worth looking again.
    pub fn rest(&self) {
        thread::sleep(LOOK * 2);
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
            let agent = format!("{} run", world.agent_program);
            left.processes.retain(|(_, line)| !line.contains("sosna-hub") && !line.contains(&agent));
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
