//! `cargo xtask bench`: what the product promises in numbers, measured against its peers in the same run. A bench
//! prints what it measured and never fails because a figure is bad: a busy machine must not turn anything red.

mod agent;
mod containers;
mod curves;
mod examples;
mod figure;
mod promises;

use std::error::Error;
use std::path::PathBuf;

pub(crate) use containers::rootfs;
pub use figure::{Figure, Measured};

use crate::exec::{self, Log};
use crate::live::{Line, Live, Mark};
use crate::paths::Tree;
use crate::tables;

/// What a bench measured, or why it could not.
type Outcome = Result<Vec<Measured>, Box<dyn Error>>;

/// One bench.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    run: fn(&Tree, &Line) -> Outcome,
}

/// All of them.
pub const BENCHES: &[Bench] = &[
    Bench {
        name: "agent",
        about: "the static agent's size; its memory idle and with a task",
        run: agent::measure,
    },
    Bench {
        name: "containers",
        about: "a container from start to exit, against crun and runc",
        run: containers::measure,
    },
    Bench {
        name: "device",
        about: "an emulated device from power on to enrolled; its memory, and what it writes while idle",
        run: examples::device,
    },
    Bench {
        name: "payouts",
        about: "paying 100,000 devices: tree, proofs, gas through a deployed wallet",
        run: examples::payouts,
    },
    Bench {
        name: "placements",
        about: "replicas that the scheduler places a second over 10,000 devices",
        run: examples::placements,
    },
    Bench {
        name: "ingest",
        about: "telemetry a second through the hub's broker, against mosquitto",
        run: examples::ingest,
    },
    Bench {
        name: "hub",
        about: "one hub and up to 18,000 devices: connections, a herd, durable writes, attacks, dispatch, verified tasks, telemetry",
        run: examples::hub,
    },
];

/// A name that no bench has.
#[derive(Debug, thiserror::Error)]
#[error("there is no bench `{name}`; there are: {}", BENCHES.iter().map(|one| one.name).collect::<Vec<_>>().join(", "))]
pub struct Unknown {
    name: String,
}

/// What can go wrong in any bench.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// What is measured does not compile.
    #[error("it does not compile; the compiler's words are in {log}", log = log.display())]
    Build {
        /// Cargo's output.
        log: PathBuf,
    },
    /// A program that measures failed.
    #[error("`{program}` failed: {said}")]
    Program {
        /// Which.
        program: String,
        /// Its last words.
        said: String,
    },
    /// It printed something that is no figure.
    #[error("`{line}` is not a figure")]
    NoFigure {
        /// What it printed.
        line: String,
        /// Why it cannot be read.
        #[source]
        source: serde_json::Error,
    },
    /// What shall be measured did not come about in time.
    #[error("{0}")]
    Late(String),
    /// Only root can measure it.
    #[error("it needs root: {0}")]
    NotRoot(&'static str),
}

/// Runs benches one after the other (all of them when none is named) and prints a table, or a line of JSON for each
/// figure. True when every one of them could be measured.
///
/// # Errors
/// [`Unknown`].
pub fn run(tree: &Tree, names: &[String], json: bool) -> Result<bool, Unknown> {
    let find = |name: &String| {
        BENCHES.iter().find(|one| one.name == name).ok_or_else(|| Unknown { name: name.clone() })
    };
    let chosen: Vec<&Bench> = match names.is_empty() {
        true => BENCHES.iter().collect(),
        false => names.iter().map(find).collect::<Result<_, _>>()?,
    };
    let live = if json { Live::quiet(12) } else { Live::new(12) };
    let mut good = true;
    let mut figures: Vec<Figure> = Vec::new();
    for bench in chosen {
        let line = live.line(bench.name);
        match (bench.run)(tree, &line) {
            Ok(measured) => {
                line.end(Mark::Good, bench.about);
                figures.extend(measured.into_iter().map(|one| promises::judge(bench.name, one)));
            }
            Err(error) => {
                good = false;
                line.end(Mark::Bad, &chain(error.as_ref()));
            }
        }
    }
    if json {
        for figure in &figures {
            // Its fields are numbers and text: nothing that JSON cannot hold.
            live.say(&serde_json::to_string(figure).unwrap_or_default());
        }
    } else if !figures.is_empty() {
        live.say("");
        live.say(&table(&figures));
    }
    Ok(good)
}

fn table(figures: &[Figure]) -> String {
    let rows = figures.iter().map(|one| {
        let peer = one.measured.peer.as_deref().zip(one.measured.peer_value);
        vec![
            one.bench.clone(),
            one.measured.metric.clone(),
            figure::short(one.measured.value),
            one.measured.unit.clone(),
            peer.map(|(name, value)| format!("{name} {}", figure::short(value))).unwrap_or_default(),
            one.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            one.promise.clone().unwrap_or_default(),
            match one.holds {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => String::new(),
            },
        ]
    });
    let headings = ["bench", "metric", "value", "unit", "peer", "ratio", "promise", "holds"];
    tables::table(&headings, &[2, 5], rows)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Compiles something, for the log and for whoever watches.
pub(crate) fn cargo(
    tree: &Tree,
    line: &Line,
    name: &str,
    command: &mut std::process::Command,
) -> Result<(), Box<dyn Error>> {
    let mut log = Log::begin(&tree.logs().join(format!("bench-{name}-build.log")))?;
    command.current_dir(tree.root());
    line.step("compiling");
    let status = exec::run(command, None, &mut log, |text| line.now(text))?;
    match status.success() {
        true => Ok(()),
        false => Err(BenchError::Build { log: log.path().to_path_buf() }.into()),
    }
}
