//! `sosna-hub`: runs a hub, and looks after it.

mod commands;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use sosna_host::{
    memory,
    report::{self, Exit},
};

use crate::commands::CommandError;

/// Aggregates devices, matches jobs to them, verifies their results and keeps the books.
#[derive(Debug, Parser)]
#[command(
    name = "sosna-hub",
    version,
    after_help = "Examples:
  sosna-hub serve                                   a hub on this machine's loopback
  sosna-hub serve --listen 0.0.0.0 --public-address hub.example.org
  sosna-hub token --uses 10 --ttl 24h               a join token for ten devices
  sosna-hub user add alice --role buyer             somebody who may submit jobs"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
}

/// Where the hub is.
#[derive(Debug, Args)]
struct Place {
    /// The folder that holds the hub's keys, store and content [default: sosna-hub]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration in force, with where each value comes from, and exit
    #[arg(long, global = true)]
    print_config: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub
    Serve {
        /// The address that all listeners bind to [default: 127.0.0.1]
        #[arg(long, value_name = "ADDR")]
        listen: Option<String>,
        /// The name or address under which devices reach the hub [default: the address it listens on]
        #[arg(long, value_name = "HOST")]
        public_address: Option<String>,
    },
    /// Print a join token for new devices of the hub's own default owner
    #[command(after_help = "Examples:
  sosna-hub token
  sosna-hub token --uses 100 --ttl 7d --label region=eu")]
    Token {
        /// How many devices may use it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it holds: 90s, 5m, 24h, 7d
        #[arg(long, default_value = "24h", value_parser = commands::duration)]
        ttl: std::time::Duration,
        /// A label for devices that enrol by it (KEY=VALUE), several times if wanted
        #[arg(long, value_name = "K=V", value_parser = commands::pair)]
        label: Vec<(String, String)>,
    },
    /// People and their access tokens
    #[command(subcommand)]
    User(User),
    /// Write a consistent copy of everything into a file; the hub may run meanwhile
    Backup {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Restore a backup into an empty data folder
    Restore {
        /// What `backup` wrote
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum User {
    /// Add somebody and print the access token, once
    Add {
        /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`
        name: String,
        /// admin, operator, buyer or owner
        #[arg(long)]
        role: String,
    },
    /// Everybody
    List {
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Remove somebody; their jobs and credit stay
    Remove {
        /// Whom
        name: String,
    },
    /// Print a new access token for somebody; the old one ends
    #[command(name = "token-for")]
    TokenFor {
        /// Whom
        name: String,
    },
}

fn main() -> ExitCode {
    // SAFETY: it is the first thing that this program does.
    unsafe { sosna_hub::heap::prepare() };
    // The tree holds two providers; without this the first builder would panic.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("sosna-hub: another cryptographic provider is in place already");
        return Exit::Failed.into();
    }
    let cli = Cli::parse();
    if let Err(error) = memory::keep_private() {
        eprintln!("sosna-hub: the hub's key cannot be kept out of core files: {error}");
        return Exit::Failed.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sosna-hub: the program cannot start its threads: {error}");
            return Exit::Failed.into();
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sosna-hub: {}", report::chain(&error));
            CommandError::exit(&error).into()
        }
    }
}
