//! `sosna-agent`: see the library. Nothing is wrapped here.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As the first program of a device this never returns; nothing may come before it.
    sosna_agent::system::run_if_requested();
    sosna_agent::cli::main(sosna_agent::Hooks::default)
}
