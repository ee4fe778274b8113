//! `sosna boinc`: payments for credit of BOINC projects.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use sosna_api::text::AmountText;

/// `sosna boinc`.
#[derive(Debug, Args)]
pub struct BoincArgs {
    /// At most so many payments
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<BoincCommand>,
}

/// What an operator does.
#[derive(Debug, Subcommand)]
pub enum BoincCommand {
    /// Pay for new credit, in proportion to it
    #[command(after_help = "Examples:
  curl -O https://project.example/stats/user.gz -O https://project.example/stats/host.gz
  sosna boinc pay https://project.example --users user.gz --hosts host.gz --rate 0.001 --dry-run
  sosna boinc pay project.example --users user.gz --hosts host.gz --pot 500 --team 42
  sosna boinc pay project.example --users user.gz --hosts host.gz --rate 0.01 --payees payees.toml

Credit is counted once: repeated with the same export, or an older one, the command pays nothing. A
user is paid to the address in the field URL of the project's account, `ethereum:0x…` or
`https://…?ethereum=0x…`; a file of payees comes before that:

  [users]
  12 = \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\"     # all computers of user 12
  [hosts]
  345 = \"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359\"    # computer 345

The first time that a user is seen, credit is counted from then on; --history pays for all there is.
What is owed comes to people as to devices, by the wallet's roots: `sosna payouts settle`.")]
    Pay(Box<BoincPayArgs>),
    /// Show a payment, computer by computer
    #[command(after_help = "Examples:
  sosna boinc show 3
  sosna boinc show 3 --json | jq '.lines[] | {host, credit, amount}'")]
    Show {
        /// The payment's number
        id: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `sosna boinc pay`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("price").required(true)))]
pub struct BoincPayArgs {
    /// The project's address
    pub project: String,
    /// The project's export of users: user.gz, or unpacked
    #[arg(long, value_name = "FILE")]
    pub users: PathBuf,
    /// The project's export of hosts: host.gz, or unpacked
    #[arg(long, value_name = "FILE")]
    pub hosts: PathBuf,
    /// Pay so much for each credit, in SNM
    #[arg(long, value_name = "AMOUNT", group = "price")]
    pub rate: Option<AmountText>,
    /// Share so much among all, in SNM, in proportion to their new credit
    #[arg(long, value_name = "AMOUNT", group = "price")]
    pub pot: Option<AmountText>,
    /// Pay nothing if it would be more than this in all, in SNM
    #[arg(long, value_name = "AMOUNT")]
    pub most: Option<AmountText>,
    /// Who is paid for whose computers, in TOML
    #[arg(long, value_name = "FILE")]
    pub payees: Option<PathBuf>,
    /// Only users of this team
    #[arg(long, value_name = "ID")]
    pub team: Option<u64>,
    /// Pay users who are seen for the first time for all the credit that they have
    #[arg(long)]
    pub history: bool,
    /// Show who would be paid what, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
