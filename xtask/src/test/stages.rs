//! The stages themselves, in the order in which they run: what fails fast comes first, and everything from
//! `build` on uses one profile and one set of features, so that nothing is compiled twice.

use std::time::Duration;

use super::{contracts, report};
use crate::dist::{self, Architecture, DistError};
use crate::exec;
use crate::rotation;
use crate::stage::{LONGEST, Outcome, Run, Stage, StageError};
use crate::tools::bare::{self, Bare};
use crate::tools::cargo::{CARGO_DENY, Found};
use crate::tools::programs::path_with_programs;

pub(super) const STAGES: &[Stage] = &[
    Stage { name: "fmt", needs: &[], run: fmt },
    Stage { name: "build", needs: &[], run: build },
    Stage { name: "clippy", needs: &["build"], run: clippy },
    Stage { name: "deny", needs: &[], run: deny },
    Stage { name: "contracts", needs: &[], run: contracts::run },
    Stage { name: "static", needs: &["build"], run: programs },
    Stage { name: "test", needs: &["build"], run: test },
    Stage { name: "twice", needs: &["static"], run: twice },
    Stage { name: "demo", needs: &["build"], run: demo },
    Stage { name: "demo-vm", needs: &["build"], run: demo_vm },
    Stage { name: "demo-chain", needs: &["build"], run: demo_chain },
    Stage { name: "no-std", needs: &[], run: no_std },
    Stage { name: "fuzz", needs: &["build"], run: fuzz },
    Stage { name: "buildroot", needs: &[], run: buildroot },
];

/// Building the targets and running each for its time; more means that one hangs.
const FUZZ_AT_MOST: Duration = Duration::from_secs(30 * 60);

/// The protocol on a microcontroller.
const FIRMWARE: &str = "sosna-firmware";
/// It takes seconds; more means that it hangs.
const FIRMWARE_AT_MOST: Duration = Duration::from_secs(120);

pub(super) type Result = std::result::Result<Outcome, StageError>;

fn fmt(run: &mut Run<'_>) -> Result {
    let good = run.cargo(&["fmt", "--all", "--check", "--", "--color=never"])?;
    Ok(Outcome::when(good, "`cargo fmt --all` puts it right"))
}

fn build(run: &mut Run<'_>) -> Result {
    Ok(Outcome::when(run.cargo(&["build", "--workspace", "--all-targets"])?, "it does not compile"))
}

fn clippy(run: &mut Run<'_>) -> Result {
    let good = run.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    Ok(Outcome::when(good, "clippy has objections"))
}

fn deny(run: &mut Run<'_>) -> Result {
    let program = match CARGO_DENY.find(run.tree) {
        Found::Here(program) => program,
        Found::Install(mut command) => {
            run.step("installing cargo-deny (once)");
            if !run.command(&mut command, None)? {
                return Ok(Outcome::Failed("cargo-deny could not be installed".into()));
            }
            CARGO_DENY.tidy(run.tree)?;
            match CARGO_DENY.find(run.tree) {
                Found::Here(program) => program,
                Found::Install(_) => return Ok(Outcome::Failed("cargo-deny does not start".into())),
            }
        }
    };
    let deny = |run: &mut Run<'_>, args: &[&str], limit| {
        let mut command = std::process::Command::new(&program);
        exec::clean(&mut command);
        command.current_dir(run.tree.root()).args(["--color", "never", "--log-level", "warn"]).args(args);
        run.command(&mut command, limit)
    };
    if !deny(run, &["check", "--hide-inclusion-graph", "bans", "licenses", "sources"], None)? {
        return Ok(Outcome::Failed("a dependency is not allowed: see deny.toml".into()));
    }
    let before = run.log.lines().len();
    if !deny(run, &["fetch", "db"], Some(Duration::from_secs(120)))? {
        let lines = &run.log.lines()[before..];
        let reason =
            lines.iter().rev().map(|l| l.trim()).find(|l| !l.is_empty()).unwrap_or("no reason given");
        run.skipped.push(format!("advisories: their database cannot be reached ({reason})"));
        return Ok(Outcome::Passed);
    }
    let good = deny(run, &["check", "--disable-fetch", "advisories"], None)?;
    Ok(Outcome::when(good, "an advisory speaks about a dependency: see deny.toml"))
}

/// The demo takes a minute; more than this means that it hangs.
const DEMO_AT_MOST: Duration = Duration::from_secs(15 * 60);

fn demo(run: &mut Run<'_>) -> Result {
    // By cargo: the program that runs now may have been replaced by the build.
    let mut command = exec::cargo();
    command.current_dir(run.tree.root()).args(["xtask", "demo"]);
    let good = run.command(&mut command, Some(DEMO_AT_MOST))?;
    Ok(Outcome::when(good, "the demo did not show what it is to show"))
}

/// Emulated machines on two cores; more means that one hangs.
const DEMO_VM_AT_MOST: Duration = Duration::from_secs(45 * 60);

fn demo_vm(run: &mut Run<'_>) -> Result {
    // Not where the stage itself was asked for: then it is wanted.
    if !run.all && !run.named {
        return Ok(Outcome::Skipped("too slow for every run; `--all` or `--stage demo-vm` runs it".into()));
    }
    if Architecture::here() != Some(Architecture::X86_64) {
        return Ok(Outcome::Skipped("the machines' programs are made on x86_64 only".into()));
    }
    let mut command = exec::cargo();
    command.current_dir(run.tree.root()).args(["xtask", "demo", "--vm"]);
    let good = run.command(&mut command, Some(DEMO_VM_AT_MOST))?;
    Ok(Outcome::when(good, "the demo with machines did not show what it is to show"))
}

/// A minute or two; more means that something hangs.
const DEMO_CHAIN_AT_MOST: Duration = Duration::from_secs(15 * 60);

fn demo_chain(run: &mut Run<'_>) -> Result {
    // Its parts are tested in every run (`tests/tests/{chain,endpoints,owners_chain}.rs`); the whole comes with the
    // shortest of the turns.
    let turn = rotation::kind().filter(|_| !run.all && !run.named);
    if let Some(kind) = turn.filter(|kind| *kind != rotation::ARMV7) {
        let reason = format!("comes with armv7's turn, now it is {kind}'s; `--all` or its name runs it");
        return Ok(Outcome::Skipped(reason));
    }
    let mut command = exec::cargo();
    command.current_dir(run.tree.root()).args(["xtask", "demo", "--chain"]);
    let good = run.command(&mut command, Some(DEMO_CHAIN_AT_MOST))?;
    Ok(Outcome::when(good, "the demo on a chain did not show what it is to show"))
}

/// What images are made of; the tests that boot them come after it. Made is what they need: kinds of devices take turns
/// ([`rotation::KINDS`]).
fn programs(run: &mut Run<'_>) -> Result {
    let Some(here) = Architecture::here() else {
        return Ok(Outcome::Skipped("no device's programs are made for this kind of processor".into()));
    };
    let turn = rotation::kind().filter(|_| !run.all && !run.named);
    for architecture in Architecture::ALL {
        let is_needed = match (architecture, turn) {
            (_, None) => true,
            (Architecture::X86_64, Some(kind)) => kind == rotation::PC,
            (Architecture::Armv7, Some(kind)) => kind == rotation::ARMV7,
            (Architecture::Aarch64, Some(kind)) => kind != rotation::PC && kind != rotation::ARMV7,
        };
        // Where no ARM machine has the turn, the compiler reads what one gets: numbers of 32 bits and another C library
        // break first there, and an ARM machine's turn may be many commits away.
        let is_read = architecture == Architecture::Armv7 && turn == Some(rotation::PC);
        if !is_needed && !is_read {
            let kind = turn.unwrap_or_default();
            run.step(&format!("not {architecture}: the turn is {kind}'s at this commit; --all makes all"));
            continue;
        }
        let line = run.line;
        line.step(&format!("{architecture}: compiling"));
        let made = match is_needed {
            true => dist::programs(run.tree, architecture, |text| line.now(text)).map(Some),
            false => dist::compiles(run.tree, architecture, |text| line.now(text)).map(|()| None),
        };
        let made = match made {
            Ok(Some(made)) => made,
            Ok(None) => {
                run.step(&format!("{architecture} compiles, and is not made: --all makes all"));
                continue;
            }
            Err(error @ (DistError::Compiler(_) | DistError::Zig(_))) if architecture != here => {
                run.skipped.push(format!("{architecture}: {}", report::chain(&error)));
                continue;
            }
            Err(error) => return Ok(Outcome::Failed(report::chain(&error))),
        };
        let proven = match dist::prove(run.tree, &made) {
            Ok(proven) => proven,
            Err(error) => return Ok(Outcome::Failed(report::chain(&error))),
        };
        for path in [&made.agent, &made.init] {
            let bytes = std::fs::metadata(path)?.len();
            run.step(&format!("{} has {:.2} MB, {proven}", path.display(), bytes as f64 / 1e6));
        }
    }
    Ok(Outcome::Passed)
}

/// The same toolchain gives the same bytes: one architecture, built again in another folder. Which, goes by commit.
fn twice(run: &mut Run<'_>) -> Result {
    if !run.all {
        return Ok(Outcome::Skipped("only with --all: it compiles everything once more".into()));
    }
    let digit = last_digit_of_commit(run).unwrap_or_default();
    let architecture = Architecture::ALL[digit as usize % Architecture::ALL.len()];
    run.step(&format!("{architecture}, by the last digit of the commit's hash"));
    let line = run.line;
    let made = dist::programs(run.tree, architecture, |text| line.now(text));
    let differing = made.and_then(|made| dist::twice(run.tree, &made, |text| line.now(text)));
    match differing {
        Ok(differing) if differing.is_empty() => Ok(Outcome::Passed),
        Ok(differing) => Ok(Outcome::Failed(format!("these differ: {}", differing.join("; ")))),
        Err(error @ (DistError::Compiler(_) | DistError::Zig(_))) => {
            Ok(Outcome::Skipped(report::chain(&error)))
        }
        Err(error) => Ok(Outcome::Failed(report::chain(&error))),
    }
}

/// By which what is too slow for every run takes turns.
fn last_digit_of_commit(run: &Run<'_>) -> Option<u32> {
    let mut git = std::process::Command::new("git");
    let said = git.current_dir(run.tree.root()).args(["rev-parse", "HEAD"]).output().ok()?;
    let hash = String::from_utf8_lossy(&said.stdout).into_owned();
    hash.trim().chars().next_back()?.to_digit(16)
}

fn test(run: &mut Run<'_>) -> Result {
    // --show-output: a test that cannot run says so, and libtest hides what a passed test says.
    let mut command = exec::cargo();
    command
        .args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"])
        .current_dir(run.tree.root());
    if run.all {
        command.env("SOSNA_TEST_ALL", "1");
    }
    run.step("looking for the programs that tests run");
    match path_with_programs(run.tree) {
        Ok(path) => drop(command.env("PATH", path)),
        Err(error) => run.step(&format!("some tests will be skipped: {error}")),
    }
    let good = run.command(&mut command, Some(LONGEST))?;
    Ok(Outcome::when(good, "a test failed"))
}

fn no_std(run: &mut Run<'_>) -> Result {
    run.line.now("looking for a compiler");
    let bare = Bare::obtain(run.tree)?;
    run.step(&format!("with {}", bare.describe()));
    if !run.command(&mut bare.build(run.tree, FIRMWARE)?, None)? {
        return Ok(Outcome::Failed("sosna-protocol needs a standard library or an allocator".into()));
    }
    run.line.now("looking for an emulator");
    let firmware = bare::built(run.tree, FIRMWARE);
    let before = run.log.lines().len();
    let good = run.command(&mut bare::emulate(run.tree, &firmware)?, Some(FIRMWARE_AT_MOST))?;
    // How much flash and memory it took.
    run.log.lines()[before..].iter().for_each(|line| run.line.step(line));
    Ok(Outcome::when(
        good,
        "on a microcontroller the protocol's answers are other ones, or it needs more than there is",
    ))
}

fn fuzz(run: &mut Run<'_>) -> Result {
    if !run.tree.root().join("protocol/fuzz").is_dir() {
        return Ok(Outcome::Skipped("there is no protocol/fuzz yet".into()));
    }
    // For each target.
    let seconds = if run.all { "120" } else { "15" };
    let mut command = exec::cargo();
    command
        .args(["run", "--quiet", "--package", "sosna-protocol-fuzz", "--", "--seconds", seconds])
        .current_dir(run.tree.root());
    let good = run.command(&mut command, Some(FUZZ_AT_MOST))?;
    Ok(Outcome::when(good, "a target crashed, or the targets do not build"))
}

/// Buildroot reads all its packages once for each question and board; more means that it asks for something.
const BUILDROOT_AT_MOST: Duration = Duration::from_secs(15 * 60);

fn buildroot(run: &mut Run<'_>) -> Result {
    let Some(folder) = std::env::var_os("BUILDROOT_DIR").filter(|f| !f.is_empty()) else {
        return Ok(Outcome::Skipped("BUILDROOT_DIR does not name an unpacked release of Buildroot".into()));
    };
    let mut command = std::process::Command::new(run.tree.root().join("buildroot/utils/check"));
    command.current_dir(run.tree.root()).arg(folder);
    // Not `Run::command`: what the check skips is a part of this stage, not one of cargo's tests.
    let line = run.line;
    let good =
        exec::run(&mut command, Some(BUILDROOT_AT_MOST), &mut run.log, |text| line.now(text))?.success();
    let skipped = run.log.lines().iter().filter_map(|l| l.strip_prefix("SKIPPED "));
    run.skipped.extend(skipped.map(str::to_owned));
    Ok(Outcome::when(good, "Buildroot does not take the tree in buildroot/ as it is"))
}
