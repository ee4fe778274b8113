//! `sosna-image`: composes, personalises, inspects, runs and flashes images of the device's operating system.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
