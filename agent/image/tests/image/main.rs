//! Images against this crate as an agent uses it: layers built to attack, servers that lie, disks that are full. The
//! unpacker is this very program started again, so `main` is ours and the tests are in a list.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod confined;
mod layers;
mod make;
mod mutual;
mod overlay;
mod probes;
mod pulls;
mod registry;
mod server;
mod store;
mod tree;

use std::{panic::catch_unwind, process::ExitCode, time::Instant};

/// A test that cannot run here says why instead of passing silently.
#[derive(Debug)]
pub(crate) enum Ran {
    Passed,
    Skipped(String),
}

pub(crate) type Test = (&'static str, fn() -> Ran);

fn main() -> ExitCode {
    sosna_layers::helper::run_if_requested();
    probes::run_if_requested();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |name: &str| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| if exact { name == *filter } else { name.contains(filter.as_str()) })
    };
    let lists = [
        confined::TESTS,
        layers::TESTS,
        mutual::TESTS,
        overlay::TESTS,
        probes::TESTS,
        pulls::TESTS,
        registry::TESTS,
        store::TESTS,
    ];
    let mut failed = Vec::new();
    let mut counts = (0, 0);
    for (name, test) in lists.into_iter().flatten().filter(|(name, _)| chosen(name)) {
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
            continue;
        }
        let start = Instant::now();
        match catch_unwind(test) {
            Ok(Ran::Passed) => {
                counts.0 += 1;
                println!("test {name} ... ok ({} ms)", start.elapsed().as_millis());
            }
            Ok(Ran::Skipped(reason)) => {
                counts.1 += 1;
                eprintln!("SKIPPED {name}: {reason}");
            }
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(name);
            }
        }
    }
    println!("\n{} passed, {} skipped, {} failed: {failed:?}", counts.0, counts.1, failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
