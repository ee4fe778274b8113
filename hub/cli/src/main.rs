//! The command line of buyers, owners and operators.

use std::process::ExitCode;

use clap::Parser as _;
use sosna::{args::Cli, commands, show::plain_lines};
use sosna_host::{memory, report};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = memory::keep_private() {
        eprintln!("sosna: keys cannot be kept out of core files: {error}");
        return report::Exit::Failed.into();
    }
    // The one provider of cryptography in this process; a second installation cannot happen here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sosna: cannot start: {error}");
            return report::Exit::Failed.into();
        }
    };
    let done = runtime.block_on(commands::run(cli));
    // Reading files may go on in the background after an error, and nobody waits for it.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sosna: {}", plain_lines(&report::chain(&error)));
            error.exit().into()
        }
    }
}
