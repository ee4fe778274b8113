//! `sosna payouts`: what devices are owed by a hub's wallet, and how it comes to them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sosna_api::text::{AddressText, AmountText};

use crate::chain::args::ActArgs;

/// `sosna payouts`.
#[derive(Debug, Args)]
pub struct PayoutsArgs {
    /// Only this device's address, with its proof
    pub device: Option<AddressText>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<PayoutsCommand>,
}

/// How what is owed comes to devices.
#[derive(Debug, Subcommand)]
pub enum PayoutsCommand {
    /// Pay everybody who is owed something by the newest root, many at once
    #[command(after_help = "Examples:
  sosna payouts settle --dry-run
  sosna payouts settle --endpoint https://node.example --key key.json
  sosna payouts settle --only 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  sosna payouts settle --least 5

Anybody may do it, and pays for gas. Devices that have it already are passed over: repeated, the
command pays nothing twice. Whom the hub pays for work elsewhere (`sosna boinc`) is paid as devices
are.")]
    Settle(SettleArgs),
    /// Bring what a device has signed to its hub's wallet: a claim, for the fee that it allows, or a payee
    #[command(after_help = "Examples:
  sosna-agent wallet claim --fee 0.05 > claim.json      # on the device
  sosna payouts relay claim.json --endpoint https://node.example --key key.json
  ssh kitchen-pi sosna-agent wallet claim --fee 0 | sosna payouts relay -
  ssh kitchen-pi sosna-agent wallet payee --share 10 | sosna payouts relay -

Anybody may do it, and pays for gas. A claim pays its sum to the payee that the device has signed,
once; by a root (--by-root) also from a wallet that is suspected or banned. A payee is to whom the
device is paid by `sosna payouts settle` from then on.")]
    Relay(RelayArgs),
}

/// `sosna payouts settle`.
#[derive(Debug, Args)]
pub struct SettleArgs {
    /// Only this device (repeatable)
    #[arg(long, value_name = "DEVICE")]
    pub only: Vec<AddressText>,
    /// Only who is owed so much at least, in SNM: paying costs gas, and what is owed stays owed
    #[arg(long, value_name = "AMOUNT")]
    pub least: Option<AmountText>,
    /// How many devices are paid by one transaction
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub batch: u16,
    /// The share of each payment to keep, in thousandths; each device lets you keep so much at most
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub share: u16,
    /// Show who would be paid what, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How.
    #[command(flatten)]
    pub act: ActArgs,
}

/// `sosna payouts relay`.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// What the device printed; `-` reads it from standard input
    #[arg(value_name = "SIGNED.json")]
    pub claim: PathBuf,
    /// What to keep, in SNM [default: all that the device allows]
    #[arg(long, value_name = "AMOUNT")]
    pub fee: Option<AmountText>,
    /// How.
    #[command(flatten)]
    pub act: ActArgs,
}
