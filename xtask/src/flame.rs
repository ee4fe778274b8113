//! `cargo xtask flame`: where the time goes. Runs what a bench runs under perf, compiled as for release with frame pointers
//! and symbols, and draws a flame graph of each part: width is time, and what lies above was called from below.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Cursor};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inferno::collapse::Collapse as _;
use inferno::collapse::perf::{Folder, Options as Collapsing};
use inferno::flamegraph::{self, Options as Drawing};

use crate::bench::{BenchError, cargo, rootfs};
use crate::exec;
use crate::live::{Line, Live, Mark};
use crate::paths::Tree;
use crate::tools::programs::find;

/// How often perf looks in a second: no divisor of anything that a kernel does by the clock.
const HERTZ: &str = "499";

/// So many parts of its work the hub's bench has recorded.
const PARTS: usize = 3;

/// Of what graphs can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// One hub while devices say what must be durable, are given work, and bring results.
    Hub,
    /// A container from start to exit, by `oci run` and the agent's whole way; the kernel's part with it.
    Containers,
}

/// Draws graphs of these into `target/bench/flame`.
///
/// # Errors
/// When it does not compile or run, and when there is no perf.
pub fn run(tree: &Tree, subjects: &[Subject]) -> Result<(), Box<dyn Error>> {
    let folder = tree.target().join("bench/flame");
    fs::create_dir_all(&folder)?;
    let live = Live::new(12);
    for subject in subjects {
        let name = match subject {
            Subject::Hub => "hub",
            Subject::Containers => "containers",
        };
        let line = live.line(name);
        let drawn = match subject {
            Subject::Hub => hub(tree, &folder, &line),
            Subject::Containers => containers(tree, &folder, &line),
        };
        match drawn {
            Ok(graphs) => {
                line.end(Mark::Good, "drawn");
                graphs.iter().for_each(|graph| live.say(&graph.display().to_string()));
            }
            Err(error) => {
                line.end(Mark::Bad, &error.to_string());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The bench of the hub records by itself, part by part.
fn hub(tree: &Tree, folder: &Path, line: &Line) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let perf = find(tree, "linux-perf", "usr/bin/perf")?;
    build(tree, line, &["--package", "sosna-hub", "--package", "sosna", "--bins"])?;
    build(tree, line, &["--package", "sosna-swarm", "--example", "hub"])?;
    line.step("recording");
    let records = tree.target().join("bench/records");
    let _ = fs::remove_dir_all(&records);
    fs::create_dir_all(&records)?;
    let mut bench = Command::new(built(tree, "examples/hub"));
    bench
        .arg("100")
        .envs([("SOSNA_BENCH_PERF", perf.as_os_str()), ("SOSNA_BENCH_RECORDS", records.as_os_str())]);
    bench.env("SOSNA_BENCH_HERTZ", HERTZ);
    insist(bench.current_dir(tree.root()))?;
    let mut graphs = Vec::new();
    for entry in fs::read_dir(&records)? {
        let record = entry?.path();
        let part = record.file_stem().unwrap_or_default().to_string_lossy();
        let graph = folder.join(format!("hub-{part}.svg"));
        draw(&perf, &record, &graph, &format!("a hub: {part}"))?;
        graphs.push(graph);
    }
    if graphs.len() < PARTS {
        let said = "perf recorded nothing; may it look at other processes (kernel.perf_event_paranoid)?";
        return Err(BenchError::Program { program: perf.display().to_string(), said: said.to_owned() }.into());
    }
    graphs.sort();
    Ok(graphs)
}

fn containers(tree: &Tree, folder: &Path, line: &Line) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err(BenchError::NotRoot("containers are made as a device makes them").into());
    }
    let perf = find(tree, "linux-perf", "usr/bin/perf")?;
    build(tree, line, &["--package", "sosna-runtime", "--example", "bench-containers"])?;
    let rootfs = rootfs(tree)?;
    line.step("recording");
    let record = tree.target().join("bench/containers.data");
    let mut recorded = Command::new(&perf);
    recorded.args(["record", "-F", HERTZ, "-g", "-o"]).arg(&record).arg("--");
    recorded.arg(built(tree, "examples/bench-containers")).args(["--runs", "200", "--rootfs"]).arg(&rootfs);
    insist(&mut recorded)?;
    let graph = folder.join("containers.svg");
    draw(&perf, &record, &graph, "containers, from start to exit")?;
    Ok(vec![graph])
}

/// A target folder of its own: other flags than everything else has.
fn target(tree: &Tree) -> PathBuf {
    tree.target().join("flame")
}

fn built(tree: &Tree, path: &str) -> PathBuf {
    target(tree).join("release").join(path)
}

fn build(tree: &Tree, line: &Line, what: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut command = exec::cargo();
    command.args(["build", "--release", "--target-dir"]).arg(target(tree)).args(what);
    command.env("RUSTFLAGS", "-C force-frame-pointers=yes").env("CARGO_PROFILE_RELEASE_STRIP", "none");
    cargo(tree, line, "flame", &mut command)
}

fn insist(command: &mut Command) -> Result<Vec<u8>, Box<dyn Error>> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(BenchError::Program { program, said }.into())
        }
    }
}

/// From what perf recorded to a picture.
fn draw(perf: &Path, record: &Path, graph: &Path, title: &str) -> Result<(), Box<dyn Error>> {
    let stacks = insist(Command::new(perf).args(["script", "-i"]).arg(record))?;
    let mut folded = Vec::new();
    Folder::from(Collapsing::default()).collapse(BufReader::new(Cursor::new(stacks)), &mut folded)?;
    let mut drawing = Drawing::default();
    drawing.title = title.to_owned();
    drawing.min_width = 0.2;
    flamegraph::from_reader(&mut drawing, folded.as_slice(), BufWriter::new(File::create(graph)?))?;
    Ok(())
}
