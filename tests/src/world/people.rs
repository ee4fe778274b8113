//! People of a world, at the command line, and what they see there.

use std::process::Command;

use serde_json::Value;

use super::World;
use crate::books;
use crate::program::{Done, built};

/// A person at the command line.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their token at the hub.
    pub token: String,
}

// === impl World ===

impl World {
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

    /// Adds a buyer, if the hub's folder lets itself be written now.
    #[must_use]
    pub fn try_buyer(&self, name: &str) -> Option<Person> {
        let mut command = self.hub_command(&self.hub_data());
        let done = self.run(command.args(["user", "add", name, "--role", "buyer"]));
        (done.code == Some(0)).then(|| Person { token: done.ok().to_owned() })
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
        self.run(&mut self.cli_command(who, arguments))
    }

    /// `sosna` for somebody, not started yet.
    #[must_use]
    pub fn cli_command(&self, who: &Person, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("sosna"));
        command
            .args(arguments)
            .env("SOSNA_HUB", self.http())
            .env("SOSNA_TOKEN", &who.token)
            .env("HOME", self.dir())
            .env("XDG_CONFIG_HOME", self.dir().join("config"))
            .current_dir(self.dir());
        command
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

    /// Waits for a job's end.
    ///
    /// # Panics
    /// When the test's time is over; says what of the job is open.
    #[must_use]
    #[track_caller]
    pub fn until_over(&self, id: &str) -> Value {
        loop {
            let job = self.job(id);
            if ["succeeded", "failed", "cancelled"].contains(&books::text(&job["state"])) {
                return job;
            }
            if !self.has_time() {
                let tasks = books::items(&job["tasks"]).iter();
                let open: Vec<_> = tasks.filter(|task| task["state"] != "succeeded").collect();
                panic!("never came: the end of job {id}, of which these are open: {open:#?}");
            }
            self.rest();
        }
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

    /// A device as its hub sees it.
    #[must_use]
    pub fn device(&self, address: &str) -> Value {
        self.ask(&self.admin(), &["device", address])
    }
}
