//! `sosna deposits`: a buyer's money on the chain, at a hub.

use std::time::Duration;

use clap::{Args, Subcommand};
use sosna_api::text::{AddressText, AmountText};

use super::Withdrawal;
use crate::{
    chain::args::{SignArgs, SignerArgs},
    quantity,
};

/// `sosna deposits`.
#[derive(Debug, Args)]
pub struct DepositsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<DepositsCommand>,
}

/// What a buyer does with a deposit.
#[derive(Debug, Subcommand)]
pub enum DepositsCommand {
    /// Deposit for the hub: credit for jobs, which stays yours until you sign
    #[command(after_help = "Examples:
  sosna deposits put 50 --escrow 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --key key.json
  sosna deposits put 12.5 --endpoint https://node.example --json     # SOSNA_ESCROW, SOSNA_KEY

The first time, the key's account is made known to the hub as yours, by a signature. The hub counts
a deposit when it is under enough blocks. The escrow's address is not taken from the hub: whoever
names it gets the money.")]
    Put(PutArgs),
    /// Sign for what was spent, so that the hub is paid for it and goes on
    #[command(after_help = "Examples:
  sosna deposits confirm --key key.json
  sosna deposits confirm --most 20 --json
  sosna deposits confirm --ahead 5               # trust the hub with 5 SNM of work to come
  sosna deposits confirm --follow --most 100     # until interrupted: sign as work is done

A signature is for all that you ever owe this hub; it needs no gas and no node. Nothing is signed
that the hub's own ledger does not say, or that the deposit does not have.")]
    Confirm(ConfirmArgs),
    /// Announce to take back what is left; a week later `take-back` does
    #[command(after_help = "Examples:
  sosna deposits notice --endpoint https://node.example --key key.json
  sosna deposits notice --wallet 0x5aAe… --escrow 0x5aAe…     # the hub need not answer")]
    Notice(LeaveArgs),
    /// Take back what is left, once that was announced a week ago
    #[command(after_help = "Examples:
  sosna deposits take-back all --endpoint https://node.example --key key.json
  sosna deposits take-back 12.5 --wallet 0x5aAe… --escrow 0x5aAe…")]
    TakeBack(TakeBackArgs),
}

/// Where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Chain")]
pub struct EscrowArgs {
    /// The JSON-RPC address of a node of the chain
    #[arg(long, value_name = "URL", env = "SOSNA_ENDPOINT", hide_env_values = true)]
    pub endpoint: Option<String>,
    /// The contract in which buyers deposit
    #[arg(long, value_name = "ADDRESS", env = "SOSNA_ESCROW", hide_env_values = true)]
    pub escrow: Option<AddressText>,
}

/// `sosna deposits put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// How much more, in SNM
    pub amount: AmountText,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub chain: EscrowArgs,
    /// Who.
    #[command(flatten)]
    pub sign: SignArgs,
}

/// `sosna deposits confirm`.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// Sign for so much more than was spent, in SNM: the hub may then take it before it has worked for it
    #[arg(long, value_name = "AMOUNT")]
    pub ahead: Option<AmountText>,
    /// The most to sign for, in SNM, of all that was ever spent
    #[arg(long, value_name = "AMOUNT")]
    pub most: Option<AmountText>,
    /// Go on signing as more is spent, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// How often to look with --follow
    #[arg(long, value_name = "T", default_value = "5s", value_parser = quantity::duration)]
    pub every: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Who.
    #[command(flatten)]
    pub signer: SignerArgs,
}

/// `sosna deposits notice`.
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// The wallet of the hub [default: the hub is asked]
    #[arg(long, value_name = "ADDRESS")]
    pub wallet: Option<AddressText>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub chain: EscrowArgs,
    /// Who.
    #[command(flatten)]
    pub sign: SignArgs,
}

/// `sosna deposits take-back`.
#[derive(Debug, Args)]
pub struct TakeBackArgs {
    /// How much, in SNM; `all` for all that the hub was not paid
    pub amount: Withdrawal,
    /// The rest.
    #[command(flatten)]
    pub leave: LeaveArgs,
}
