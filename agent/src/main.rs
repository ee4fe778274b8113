//! `sosna-agent`: see the library. Nothing is wrapped here.

use std::process::ExitCode;

fn main() -> ExitCode {
    sosna_agent::cli::main(sosna_agent::Hooks::default)
}
