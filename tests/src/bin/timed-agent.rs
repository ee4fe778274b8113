//! A device whose time a test moves: the shipped agent's library with a clock that is as far ahead of the machine's as
//! a file says. Used by tests that live through days; it is no part of any product.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use sosna_agent::Hooks;
use sosna_host::clock::{Clock, SystemClock};
use sosna_tests::time::AHEAD;

/// The machine's clock, so many seconds ahead as the file says.
#[derive(Debug)]
struct Ahead {
    file: PathBuf,
    machine: SystemClock,
}

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let seconds: u64 = text.trim().trim_start_matches('+').parse().unwrap_or(0);
        self.machine.now_ms() + seconds * 1000
    }
}

fn main() -> ExitCode {
    sosna_agent::cli::main(|| {
        let file = std::env::var_os(AHEAD).map(PathBuf::from);
        let clock =
            file.map(|file| Arc::new(Ahead { file, machine: SystemClock::default() }) as Arc<dyn Clock>);
        Hooks { clock, ..Hooks::default() }
    })
}
