//! `sosna hubs`: wallets of hubs on a chain, for their owners and for anybody who looks.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use sosna_api::text::{AddressText, AmountText};

use crate::chain::args::{ActArgs, ChainArgs};

/// The registry's own bounds, in bytes.
const LONGEST_NAME: usize = 64;
const LONGEST_ENDPOINT: usize = 256;

/// What can be done about hubs' wallets.
#[derive(Debug, Subcommand)]
pub enum HubsCommand {
    /// List every hub of the registry
    #[command(after_help = "Examples:
  sosna hubs list --endpoint https://node.example --factory 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  sosna hubs list --json | jq -r '.hubs[] | select(.standing == \"trusted\") | .endpoint'")]
    List(HubsListArgs),
    /// Show a hub's wallet, and what its owner says of the hub
    #[command(after_help = "Examples:
  sosna hubs show 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  sosna hubs show 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --json | jq -r .free

With --factory (or SOSNA_FACTORY) the wallet must be one of that factory's.")]
    Show(HubsShowArgs),
    /// Give a hub a wallet: make it, fund it, register it, describe it (owners)
    #[command(after_help = "Examples:
  sosna hubs register --hub-key 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed \\
    --name 'Pine hub' --url https://hub.example:8443 --fund 1000 --key owner.json

Each step looks first at what is on the chain and is left out when it is done, so the command can be
repeated after any failure and does nothing twice. The last lines are for hub.toml.")]
    Register(Box<RegisterArgs>),
    /// Say something else of a hub in the registry (owners)
    #[command(after_help = "Examples:
  sosna hubs describe 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --url https://hub.example
  sosna hubs describe 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --details about.md

What is not given stays as it is.")]
    Describe(DescribeArgs),
    /// End a wallet's period that is over: what was frozen and locked is free (owners)
    #[command(after_help = "Examples:
  sosna hubs payday 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed

The DAO gets its fee of what was locked. `sosna hubs register` begins the next period.")]
    Payday(PaydayArgs),
    /// Take tokens out of a wallet, between its periods (owners)
    #[command(after_help = "Examples:
  sosna hubs withdraw 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed 100
  sosna hubs withdraw 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed all \\
    --to 0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359

Never what is committed to devices. With an amount the command takes that much each time it is run.")]
    Withdraw(WithdrawArgs),
}

/// `sosna hubs list`.
#[derive(Debug, Args)]
pub struct HubsListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub chain: ChainArgs,
}

/// `sosna hubs show`.
#[derive(Debug, Args)]
pub struct HubsShowArgs {
    /// The wallet's address
    pub wallet: AddressText,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub chain: ChainArgs,
}

/// `sosna hubs register`.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The address of the hub's key, which `sosna-hub serve` prints
    #[arg(long, value_name = "ADDRESS")]
    pub hub_key: AddressText,
    /// The hub's name
    #[arg(long, value_parser = name)]
    pub name: String,
    /// Where devices and buyers reach it
    #[arg(long, value_parser = endpoint)]
    pub url: String,
    /// A longer description, of which the registry gets the SHA-256; the hub's owner publishes it
    #[arg(long, value_name = "FILE")]
    pub details: Option<PathBuf>,
    /// What the wallet shall hold at least, in SNM; what is missing is sent from the owner's account
    #[arg(long, value_name = "AMOUNT")]
    pub fund: Option<AmountText>,
    /// How.
    #[command(flatten)]
    pub act: ActArgs,
}

/// `sosna hubs describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The wallet's address
    pub wallet: AddressText,
    /// What is to be said.
    #[command(flatten)]
    pub words: DescriptionArgs,
    /// How.
    #[command(flatten)]
    pub act: ActArgs,
}

/// What can be said of a hub.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct DescriptionArgs {
    /// The hub's name
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    /// Where devices and buyers reach it
    #[arg(long, value_parser = endpoint)]
    pub url: Option<String>,
    /// A longer description, of which the registry gets the SHA-256; the hub's owner publishes it
    #[arg(long, value_name = "FILE")]
    pub details: Option<PathBuf>,
}

/// `sosna hubs payday`.
#[derive(Debug, Args)]
pub struct PaydayArgs {
    /// The wallet's address
    pub wallet: AddressText,
    /// How.
    #[command(flatten)]
    pub act: ActArgs,
}

/// `sosna hubs withdraw`.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    /// The wallet's address
    pub wallet: AddressText,
    /// How much, in SNM; `all` for all that is free
    pub amount: Withdrawal,
    /// To whom, if not to the owner
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<AddressText>,
    /// How.
    #[command(flatten)]
    pub act: ActArgs,
}

/// How much is taken out of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// All that is free.
    All,
    /// So much.
    Amount(AmountText),
}

impl FromStr for Withdrawal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::Amount).map_err(|error| format!("{error}; or say `all`")),
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(format!("a hub's name has 1 to {LONGEST_NAME} bytes, on one line"));
    }
    Ok(text.to_owned())
}

fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_good = reqwest::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty()
    });
    if !is_good || text.len() > LONGEST_ENDPOINT || text.chars().any(char::is_control) {
        return Err(format!(
            "it looks like https://hub.example:8443, and has at most {LONGEST_ENDPOINT} bytes"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_would_not_take_is_refused_here() {
        for text in ["", " ", "two\nlines", &"x".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(name(" Pine hub "), Ok("Pine hub".to_owned()));
        let long = format!("https://hub.example/{}", "x".repeat(250));
        for text in ["", "hub.example", "ftp://hub.example", "https://me@hub.example", &long] {
            assert!(endpoint(text).is_err(), "{text}");
        }
        assert_eq!(endpoint("https://hub.example:8443"), Ok("https://hub.example:8443".to_owned()));
        assert_eq!("all".parse(), Ok(Withdrawal::All));
        assert!(matches!("1.5".parse(), Ok(Withdrawal::Amount(_))));
        assert!("some".parse::<Withdrawal>().is_err());
    }
}
