//! The contracts: their layout, their tests, how much these cover, gas, what is committed of them, and Slither's opinion.

use std::fs;
use std::time::Duration;

use super::report::chain;
use super::stages::Result;
use crate::contracts::{ContractsError, artifacts, coverage, slither};
use crate::stage::{Outcome, Run};
use crate::tools::foundry::Foundry;

/// It takes a minute; with `--all` many.
const FORGE_AT_MOST: Duration = Duration::from_secs(30 * 60);
const ANSWERS: &str = "docs/contracts.md";

/// All of it, in the order in which it fails soonest.
pub(super) fn run(run: &mut Run<'_>) -> Result {
    let line = run.line;
    let foundry = match Foundry::obtain(run.tree, &mut run.log, &mut |text| line.now(text)) {
        Ok(foundry) => foundry,
        Err(error) => return Ok(Outcome::Failed(chain(&error))),
    };
    for part in [layout, committed, tests, gas, covered, opinion] {
        let outcome = part(run, &foundry)?;
        if outcome != Outcome::Passed {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Passed)
}

fn forge(
    run: &mut Run<'_>,
    foundry: &Foundry,
    what: &str,
    args: &[&str],
    environment: &[(&str, &str)],
) -> std::io::Result<bool> {
    let mut command = foundry.forge(what);
    command.args(args).envs(environment.iter().copied());
    run.command(&mut command, Some(FORGE_AT_MOST))
}

fn layout(run: &mut Run<'_>, foundry: &Foundry) -> Result {
    run.step("their layout");
    let good = forge(run, foundry, "fmt", &["--check"], &[])?;
    Ok(Outcome::when(good, "`forge fmt` in contracts/ puts it right"))
}

fn committed(run: &mut Run<'_>, foundry: &Foundry) -> Result {
    run.step("interfaces and code that are committed, against what the sources compile to");
    Ok(match artifacts::stale(foundry, &mut run.log) {
        Ok(stale) if stale.is_empty() => Outcome::Passed,
        Ok(stale) => Outcome::Failed(format!(
            "the sources compile to something else than {}; `cargo xtask contracts` writes them anew",
            stale.join(", ")
        )),
        Err(error) => Outcome::Failed(chain(&error)),
    })
}

fn tests(run: &mut Run<'_>, foundry: &Foundry) -> Result {
    run.step("unit, fuzz and invariant tests");
    let more = [
        ("FOUNDRY_FUZZ_RUNS", "5000"),
        ("FOUNDRY_INVARIANT_RUNS", "2000"),
        ("FOUNDRY_INVARIANT_DEPTH", "128"),
    ];
    let environment = if run.all { &more[..] } else { &[] };
    let good = forge(run, foundry, "test", &["--no-match-contract", "Gas"], environment)?;
    Ok(Outcome::when(good, "a test of the contracts failed"))
}

fn gas(run: &mut Run<'_>, foundry: &Foundry) -> Result {
    run.step("gas, against the figures in contracts/snapshots");
    let args = ["--match-contract", "Gas", "--isolate", "--gas-snapshot-check", "true"];
    let good = forge(run, foundry, "test", &args, &[])?;
    Ok(Outcome::when(
        good,
        "a payment costs another amount of gas; contracts/README.md says how the new figures are written",
    ))
}

fn covered(run: &mut Run<'_>, foundry: &Foundry) -> Result {
    run.step("how much of them the tests run");
    let mut command = foundry.forge("coverage");
    // What the invariants run adds nothing but time; what is counted is the contracts, not the tests.
    command.args(["--no-match-contract", "Gas|Invariants", "--no-match-coverage", "^(tests|node_modules)"]);
    // Not counted among the tests: they have been.
    let line = run.line;
    let status = crate::exec::run(&mut command, Some(FORGE_AT_MOST), &mut run.log, |text| line.now(text))?;
    let Some(coverage) = coverage::read(run.log.lines()).filter(|_| status.success()) else {
        return Ok(Outcome::Failed("forge does not say how much of the contracts the tests run".into()));
    };
    run.step(&coverage.to_string());
    let good = coverage.shares[0] >= coverage::LEAST;
    Ok(Outcome::when(good, &format!("the tests run less than {} % of the contracts' lines", coverage::LEAST)))
}

fn opinion(run: &mut Run<'_>, foundry: &Foundry) -> Result {
    run.step("Slither");
    let line = run.line;
    let found = slither::findings(run.tree, foundry, &mut run.log, &mut |text| line.now(text));
    let found = match found {
        Ok(found) => found,
        Err(error @ ContractsError::Slither { .. }) => {
            run.skipped.push(format!("Slither: {}", chain(&error)));
            return Ok(Outcome::Passed);
        }
        Err(error) => return Ok(Outcome::Failed(chain(&error))),
    };
    let answers = fs::read_to_string(run.tree.root().join(ANSWERS))?;
    let open = slither::unanswered(&found, &answers);
    run.step(&format!("Slither: {} findings of weight, {} unanswered", found.len(), open.len()));
    let open: Vec<String> = open.iter().map(|one| format!("{} in {}", one.check, one.place)).collect();
    Ok(Outcome::when(
        open.is_empty(),
        &format!("Slither finds what is neither mended nor answered in {ANSWERS}: {}", open.join("; ")),
    ))
}
