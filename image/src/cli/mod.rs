//! The command line: arguments in, words and exit codes out. What it does is in the library.

mod args;
mod build;
mod disk;
mod ignition;
mod lock;
mod run;
mod show;

use std::error::Error as _;
use std::process::ExitCode;

use clap::Parser as _;
use sosna_image::Error;

use args::{Args, Command};

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Command::Boards(options) => show::boards(options),
        Command::Build(options) => build::build(&args.packages, options),
        Command::Run(options) => run::run(&args.packages, options),
        Command::Inspect(options) => show::inspect(options),
        Command::Personalise(options) => disk::personalise(options),
        Command::Flash(options) => disk::flash(options),
        Command::Sources(options) => disk::sources(options),
        Command::Publish(options) => disk::publish(options),
        Command::Ignition(options) => ignition::ignition(options),
        Command::Lock(options) => lock::lock(&args.packages, options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(if matches!(error, Error::Refused(_)) { 4 } else { 1 })
        }
    }
}

/// The error with its causes, one a line.
fn report(error: &Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
}
