//! Benches that are programs of their own, beside the crate that they measure: each prints a line of JSON for each
//! figure.

use std::error::Error;
use std::process::{Command, Stdio};

use super::{BenchError, Measured, cargo, curves};
use crate::dist::{self, Architecture};
use crate::exec;
use crate::live::Line;
use crate::paths::Tree;
use crate::tools::programs::path_with_programs;

pub(super) fn placements(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    build(tree, line, "sosna-hub", "placements")?;
    run(tree, line, &mut example(tree, "placements"))
}

pub(super) fn payouts(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    build(tree, line, "sosna-contracts", "payouts")?;
    run(tree, line, &mut example(tree, "payouts"))
}

pub(super) fn ingest(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    line.now("looking for mosquitto");
    let path = path_with_programs(tree)?;
    build(tree, line, "sosna-broker", "ingest")?;
    run(tree, line, example(tree, "ingest").env("PATH", path))
}

/// A hub as it is shipped, and a crowd of devices; what its broker takes beside what mosquitto does.
pub(super) fn hub(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    let mut command = exec::cargo();
    command.args(["build", "--release", "--package", "sosna-hub", "--package", "sosna", "--bins"]);
    cargo(tree, line, "hub", &mut command)?;
    build(tree, line, "sosna-swarm", "hub")?;
    let mut figures = run(tree, line, &mut example(tree, "hub"))?;
    figures.extend(ingest(tree, line)?);
    let folder = tree.target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let plot = folder.join("hub.svg");
    if curves::draw(&figures, &plot)? {
        line.step(&format!("curves: {}", plot.display()));
    }
    Ok(figures)
}

/// Whole machines: everything but them is compiled as for the tests.
pub(super) fn device(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    line.step("compiling the programs of devices");
    if let Some(here) = Architecture::here() {
        dist::programs(tree, here, |text| line.now(text))?;
    }
    let mut command = exec::cargo();
    command.args(["build", "--workspace", "--bins", "--example", "bench-device"]);
    cargo(tree, line, "device", &mut command)?;
    run(tree, line, &mut Command::new(tree.target().join("debug/examples/bench-device")))
}

/// Compiles an example as it would be shipped.
pub(super) fn build(tree: &Tree, line: &Line, package: &str, example: &str) -> Result<(), Box<dyn Error>> {
    let mut command = exec::cargo();
    command.args(["build", "--release", "--package", package, "--example", example]);
    cargo(tree, line, example, &mut command)
}

/// The compiled example.
pub(super) fn example(tree: &Tree, name: &str) -> Command {
    Command::new(tree.target().join("release/examples").join(name))
}

/// Runs a program that measures, and reads its figures.
pub(super) fn run(tree: &Tree, line: &Line, command: &mut Command) -> Result<Vec<Measured>, Box<dyn Error>> {
    line.step("measuring");
    let name = command.get_program().display().to_string();
    let output = command.current_dir(tree.root()).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !output.status.success() {
        return Err(BenchError::Program { program: name, said }.into());
    }
    for remark in said.lines().filter(|text| text.starts_with("SKIPPED")) {
        line.step(remark);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.lines().filter(|text| !text.trim().is_empty()).map(|text| {
        serde_json::from_str(text)
            .map_err(|source| BenchError::NoFigure { line: text.to_owned(), source }.into())
    });
    figures.collect()
}
