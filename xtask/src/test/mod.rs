//! `cargo xtask test`: everything that must be green, stage by stage, each measured against its budget.

mod contracts;
mod report;
mod stages;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::exec::Log;
use crate::live::{Live, Mark};
use crate::paths::Tree;
use crate::stage::{Outcome, Run, Stage};
use crate::summary::Summary;

/// What was asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Also what is too slow for every run.
    pub all: bool,
    /// These stages only; all when empty.
    pub stages: Vec<String>,
}

/// Wrong usage.
#[derive(Debug, thiserror::Error)]
#[error("there is no stage {name}; the stages are {known}", known = names().join(", "))]
pub struct UnknownStage {
    name: String,
}

/// The names of all stages, in their order.
#[must_use]
pub fn names() -> Vec<&'static str> {
    stages::STAGES.iter().map(|s| s.name).collect()
}

#[derive(Debug)]
struct Done {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
    summary: Summary,
    skipped: Vec<String>,
}

/// Runs the stages and prints the report; true when all that ran holds.
///
/// # Errors
/// [`UnknownStage`] when a stage was asked for that does not exist.
pub fn run(tree: &Tree, options: &Options) -> Result<bool, UnknownStage> {
    let chosen: Vec<&Stage> = if options.stages.is_empty() {
        stages::STAGES.iter().collect()
    } else {
        let find = |name: &String| {
            let stage = stages::STAGES.iter().find(|s| s.name == name);
            stage.ok_or_else(|| UnknownStage { name: name.clone() })
        };
        options.stages.iter().map(find).collect::<Result<_, _>>()?
    };
    let budget = Budget::read(&tree.root().join("docs/ci-budget.md"));
    let width = chosen.iter().map(|s| s.name.len()).max().unwrap_or(0);
    let live = Live::new(width);
    let mut done: Vec<Done> = Vec::new();
    let mut failed: BTreeMap<&str, ()> = BTreeMap::new();
    for stage in chosen {
        let result = match stage.needs.iter().find(|need| failed.contains_key(**need)) {
            Some(need) => {
                let outcome = Outcome::Failed(format!("not run: {need} failed"));
                live.line(stage.name).end(Mark::Bad, &format!("not run: {need} failed"));
                Done {
                    name: stage.name,
                    outcome,
                    took: Duration::ZERO,
                    summary: Summary::default(),
                    skipped: vec![],
                }
            }
            None => one(tree, stage, options, &live),
        };
        if matches!(result.outcome, Outcome::Failed(_)) {
            failed.insert(stage.name, ());
        }
        done.push(result);
    }
    report::print(&done, &budget);
    Ok(failed.is_empty())
}

fn one(tree: &Tree, stage: &Stage, options: &Options, live: &Live) -> Done {
    let begun = Instant::now();
    let line = live.line(stage.name);
    line.step("running");
    let finished = |outcome, summary, skipped| Done {
        name: stage.name,
        outcome,
        took: begun.elapsed(),
        summary,
        skipped,
    };
    let log = match Log::begin(&tree.logs().join(format!("{}.log", stage.name))) {
        Ok(log) => log,
        Err(error) => {
            let reason = format!("the log cannot be written: {error}");
            line.end(Mark::Bad, &reason);
            return finished(Outcome::Failed(reason), Summary::default(), vec![]);
        }
    };
    let mut run = Run {
        tree,
        all: options.all,
        named: !options.stages.is_empty(),
        log,
        line: &line,
        summary: Summary::default(),
        skipped: Vec::new(),
    };
    let outcome = (stage.run)(&mut run).unwrap_or_else(|error| Outcome::Failed(report::chain(&*error)));
    let Run { log, summary, skipped, .. } = run;
    match &outcome {
        Outcome::Passed => line.end(Mark::Good, &skipped.join("; ")),
        Outcome::Skipped(reason) => line.end(Mark::Skipped, reason),
        Outcome::Failed(reason) => {
            line.end(Mark::Bad, reason);
            live.say(&report::excerpt(&log));
        }
    }
    finished(outcome, summary, skipped)
}
