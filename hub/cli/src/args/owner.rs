//! `sosna owner`: an owner's key, and what it signs.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use sosna_api::text::AddressText;

use super::label;
use crate::quantity;

/// `sosna owner`.
#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// Show your owner's address; the first time, make the key
    #[command(after_help = "Examples:
  sosna owner key
  sosna owner key --key ./second.key

The key is kept in ~/.config/sosna/owner.key, readable by you alone. Who has it owns your
devices: keep a copy where only you can get it.")]
    Key {
        /// Where the key is, if not in the usual place.
        #[command(flatten)]
        key: KeyArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a join token for your devices, signed with your key
    #[command(after_help = "Examples:
  sosna owner delegate > join-token
  sosna owner delegate --uses 4 --ttl 1h --label region=eu")]
    Delegate {
        /// How many devices may use it
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it holds: 90s, 5m, 2h
        #[arg(long, value_name = "T", default_value = "24h", value_parser = quantity::duration)]
        ttl: Duration,
        /// A label for devices that use it (repeatable)
        #[arg(long = "label", value_name = "K=V", value_parser = label)]
        labels: Vec<(String, String)>,
        /// Where the key is, if not in the usual place.
        #[command(flatten)]
        key: KeyArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let an owner count as one of their own (operators)
    #[command(after_help = "Examples:
  sosna owner admit 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed

The hub need not have heard of the owner yet: owners tell their address (`sosna owner key`).")]
    Admit {
        /// The owner's address
        address: AddressText,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List owners (operators)
    #[command(after_help = "Examples:
  sosna owner list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where an owner's key is.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The key's file, if not ~/.config/sosna/owner.key
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}
