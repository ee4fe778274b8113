//! A stage of the tests: one thing that must be green, with its log and its outcome.

use std::error::Error;
use std::io;
use std::process::Command;
use std::time::Duration;

use crate::exec::{self, Log};
use crate::live::Line;
use crate::paths::Tree;
use crate::summary::Summary;

/// No command of cargo may take longer: a test that hangs must not use up a whole run in silence.
pub(crate) const LONGEST: Duration = Duration::from_secs(50 * 60);

/// One stage.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Its name, as in `--stage NAME` and docs/ci-budget.md.
    pub name: &'static str,
    /// Stages without which it makes no sense.
    pub needs: &'static [&'static str],
    /// Does it.
    pub run: fn(&mut Run<'_>) -> Result<Outcome, StageError>,
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It could not run, for this reason.
    Skipped(String),
    /// It does not hold.
    Failed(String),
}

/// A stage that could not be carried out.
pub type StageError = Box<dyn Error>;

/// What a stage has at hand.
#[derive(Debug)]
pub struct Run<'a> {
    /// The work tree.
    pub tree: &'a Tree,
    /// `--all` was given.
    pub all: bool,
    /// The stage was asked for by its name.
    pub named: bool,
    /// Output so far.
    pub log: Log,
    /// What a watcher sees.
    pub line: &'a Line,
    /// Test results so far.
    pub summary: Summary,
    /// Parts of the stage that could not run, with the reasons.
    pub skipped: Vec<String>,
}

impl Run<'_> {
    /// Runs `cargo` in the work tree; true when it succeeded.
    ///
    /// # Errors
    /// When cargo cannot be started.
    pub fn cargo(&mut self, args: &[&str]) -> io::Result<bool> {
        let mut command = exec::cargo();
        command.args(args).current_dir(self.tree.root());
        self.command(&mut command, Some(LONGEST))
    }

    /// Runs any command; true when it succeeded, within the limit where there is one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&mut self, command: &mut Command, limit: Option<Duration>) -> io::Result<bool> {
        let (line, summary) = (self.line, &mut self.summary);
        let status = exec::run(command, limit, &mut self.log, |text| {
            line.now(text);
            summary.feed(text);
        })?;
        Ok(status.success())
    }

    /// Says a step to the watcher and the log.
    pub fn step(&mut self, text: &str) {
        self.line.step(text);
        self.log.line(text);
    }
}

impl Outcome {
    /// Passed when `good`, else failed with this reason.
    #[must_use]
    pub fn when(good: bool, otherwise: &str) -> Self {
        if good { Self::Passed } else { Self::Failed(otherwise.to_owned()) }
    }
}
