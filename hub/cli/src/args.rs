//! What can be written on the command line, and what `--help` says about it.

mod boinc;
mod deposits;
mod hubs;
mod owner;
mod payouts;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use sosna_api::{
    job::{JobState, Verification},
    text::{AmountText, ArchText, NetworkText, StreamText},
};

pub use boinc::{BoincArgs, BoincCommand, BoincPayArgs};
pub use deposits::{
    ConfirmArgs, DepositsArgs, DepositsCommand, EscrowArgs, LeaveArgs, PutArgs, TakeBackArgs,
};
pub use hubs::{
    DescribeArgs, DescriptionArgs, HubsCommand, HubsListArgs, HubsShowArgs, PaydayArgs, RegisterArgs,
    WithdrawArgs, Withdrawal,
};
pub use owner::{KeyArgs, OwnerCommand};
pub use payouts::{PayoutsArgs, PayoutsCommand, RelayArgs, SettleArgs};

use crate::{connect::ConnectArgs, image::ImageArg, job, job::InputArg, quantity};

/// What a task gets where nothing else is said.
pub mod defaults {
    /// One core.
    pub const CPU_MILLIS: u32 = 1000;
    /// 512 MiB.
    pub const MEMORY: u64 = 512 << 20;
    /// 1 GiB.
    pub const DISK: u64 = 1 << 30;
    /// One hour.
    pub const TIMEOUT_MS: u64 = 3_600_000;
}

/// A job's file, as `sosna submit --help` shows it.
pub const JOB_FILE: &str = r#"name = "tiles"
image = "oci:./image"            # or a registry reference, oci-archive:FILE, docker-archive:FILE
command = ["render", "/in/scene.pov", "/out"]
tasks = 12
verify = "replicate:2"
cpu = 1
memory = "512M"
disk = "1G"
timeout = "10m"
inputs = ["scene.pov:/in/scene.pov"]
outputs = ["/out"]
max_price = "1.5"
env = { QUALITY = "9" }
"#;

/// Runs containers on other people's devices, checks their results and pays for them
#[derive(Debug, Parser)]
#[command(name = "sosna", version, propagate_version = true, subcommand_required = true)]
#[command(
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:
  sosna login https://hub.example:8443 --token-file token --authority 5f3c…
  sosna run --tasks 4 registry.example/tool:1 -- sh -c 'echo $SOSNA_TASK_INDEX'
  sosna jobs
  sosna results 0190d4c2 -o out

Exit codes: 0 done, 1 failed (run: the task's own code), 2 wrong usage, 3 no such thing,
4 refused (permission, policy or funds), 5 nobody answers."
)]
pub struct Cli {
    /// Which hub, as whom.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep a hub's address and your token for the commands to come
    #[command(after_help = "Examples:
  sosna login http://127.0.0.1:8080 --token-file ~/hub/admin-token
  sosna login https://hub.example:8443 --token-file token --authority 5f3c…
  echo $TOKEN | sosna login https://hub.example --token-file -")]
    Login(LoginArgs),
    /// Submit a job, stream its output, wait for its end
    #[command(after_help = "Examples:
  sosna run registry.example/hello:1
  sosna run --tasks 12 --verify replicate:2 --output /out oci:./image -- render /out
  sosna run --input scene.pov:/in/scene.pov --memory 2GiB --timeout 10m docker-archive:tool.tar
  sosna run --detach --max-price 2.5 registry.example/long:1

Each task sees its number in SOSNA_TASK_INDEX (from 0) and their count in SOSNA_TASK_COUNT.
The exit code is that of the first task that failed.")]
    Run(Box<RunArgs>),
    /// Submit a job from a TOML file
    #[command(after_help = SUBMIT_HELP)]
    Submit(SubmitArgs),
    /// List jobs, newest first
    #[command(after_help = "Examples:
  sosna jobs
  sosna jobs --state running --json")]
    Jobs(JobsArgs),
    /// Show a job, its tasks, and who did them
    #[command(after_help = "Examples:
  sosna job 0190d4c2                 # the beginning of an id is enough
  sosna job 0190d4c2 --json | jq '.tasks[].assignments[] | {device, verdict}'")]
    Job(JobArgs),
    /// Show what a job's tasks wrote
    #[command(after_help = "Examples:
  sosna logs 0190d4c2 -f
  sosna logs 0190d4c2 --task 3 --stream stderr")]
    Logs(LogsArgs),
    /// Fetch what a job's tasks left behind, verified
    #[command(after_help = "Examples:
  sosna results 0190d4c2 -o out      # out/0/…, out/1/…; directly into out where there is one task
  sosna results 0190d4c2 --task 3 -o tile

Each folder gets the outputs under their paths in the container, and manifest.json, stdout.log
and stderr.log. What a task did not make, what could not be kept, and links that would lead out
of the folder are named and left out. Hubs keep results for a time after a job's end (30 days
unless the operator chose another).")]
    Results(ResultsArgs),
    /// Stop a job
    #[command(after_help = "Examples:
  sosna cancel 0190d4c2")]
    Cancel(CancelArgs),
    /// List devices
    #[command(after_help = "Examples:
  sosna devices
  sosna devices --json | jq -r '.devices[] | select(.online) | .address'")]
    Devices(ListArgs),
    /// Show a device, or decide about it
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    #[command(after_help = "Examples:
  sosna device kitchen-pi            # address, its beginning, or host name
  sosna device approve 0x5aAeb6
  sosna device drain kitchen-pi      # and --off to end it
  sosna device label kitchen-pi region=eu rack-")]
    Device(DeviceArgs),
    /// Own devices: a key, and the tokens by which they join
    #[command(after_help = "Examples:
  sosna owner key
  sosna owner delegate --uses 4 --ttl 1h
  sosna owner admit 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")]
    Owner {
        /// What to do.
        #[command(subcommand)]
        command: OwnerCommand,
    },
    /// Show accounts and what happened on them
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  sosna ledger
  sosna ledger --limit 20 --json
  sosna ledger credit alice 100"
    )]
    Ledger(LedgerArgs),
    /// Show deposits on the chain; deposit, sign for what was spent, take back what is left
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  sosna deposits                     # yours; an admin sees everybody's
  sosna deposits put 50 --escrow 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  sosna deposits confirm             # sign for what was spent
  sosna deposits notice              # and a week later: sosna deposits take-back all

The chain's node is named by --endpoint or SOSNA_ENDPOINT, the contract by --escrow or SOSNA_ESCROW,
the key by --key or SOSNA_KEY."
    )]
    Deposits(DepositsArgs),
    /// Show the hub's wallet on the chain, and the roots by which it commits to devices
    #[command(after_help = "Examples:
  sosna wallet
  sosna wallet --json | jq -r .trouble")]
    Wallet(ListArgs),
    /// Show what devices are owed by the newest root on the chain, checked against it; have it paid
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  sosna payouts                      # everybody's; its sum and root are reckoned anew
  sosna payouts 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --json   # one device's, with its proof
  sosna payouts settle               # pay whoever is owed something
  sosna payouts relay claim.json     # what a device has signed"
    )]
    Payouts(PayoutsArgs),
    /// Pay people for what their computers did for BOINC projects; show what was paid (operators)
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  sosna boinc                        # payments, newest first
  sosna boinc show 3                 # one of them, computer by computer
  sosna boinc pay https://project.example --users user.gz --hosts host.gz --rate 0.001 --dry-run"
    )]
    Boinc(BoincArgs),
    /// Hubs on the chain: list them, give one a wallet, look after it
    #[command(after_help = "Examples:
  sosna hubs list
  sosna hubs show 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  sosna hubs register --help

The chain is named by --endpoint and --factory, or SOSNA_ENDPOINT and SOSNA_FACTORY; the key that
signs by --key or SOSNA_KEY.")]
    Hubs {
        /// What to do.
        #[command(subcommand)]
        command: HubsCommand,
    },
}

const SUBMIT_HELP: &str = r#"Examples:
  sosna submit job.toml
  sosna submit job.toml --detach

A job's file has the options of `sosna run` as keys; paths are understood from its folder:

  name = "tiles"
  image = "oci:./image"            # or a registry reference, oci-archive:FILE, docker-archive:FILE
  command = ["render", "/in/scene.pov", "/out"]
  tasks = 12
  verify = "replicate:2"
  cpu = 1
  memory = "512M"
  disk = "1G"
  timeout = "10m"
  inputs = ["scene.pov:/in/scene.pov"]
  outputs = ["/out"]
  max_price = "1.5"
  env = { QUALITY = "9" }

More keys: entrypoint, working_dir, network, log, inodes, pids, arch, region, exact_class,
stdout_counts."#;

/// `sosna login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The hub's address; otherwise --hub or SOSNA_HUB
    #[arg(value_name = "URL")]
    pub url: Option<String>,
}

/// What follows a submission.
#[derive(Debug, Clone, Copy, Args)]
pub struct FollowArgs {
    /// Print the job's id and do not wait
    #[arg(long, short)]
    pub detach: bool,
    /// Print the job as JSON (at its end) instead of its output
    #[arg(long)]
    pub json: bool,
}

/// `sosna run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// How many tasks to run
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(sosna_api::job::MAX_TASKS)))]
    pub tasks: u32,
    /// How results are verified: none, or replicate:N
    #[arg(long, value_name = "POLICY", default_value = "none")]
    pub verify: Verification,
    /// The most that the whole job may cost, in SNM
    #[arg(long, value_name = "P")]
    pub max_price: Option<AmountText>,
    /// A name for people
    #[arg(long)]
    pub name: Option<String>,
    /// What follows.
    #[command(flatten)]
    pub follow: FollowArgs,

    /// Cores for each task: 2, 0.5, 500m
    #[arg(long, value_name = "C", default_value = "1", value_parser = quantity::cpu_millis)]
    #[arg(help_heading = "Resources of each task")]
    pub cpu: u32,
    /// Memory: 512M, 2GiB
    #[arg(long, short, value_name = "M", default_value = "512M", value_parser = quantity::size)]
    #[arg(help_heading = "Resources of each task")]
    pub memory: u64,
    /// Disk that may be written
    #[arg(long, value_name = "D", default_value = "1G", value_parser = quantity::size)]
    #[arg(help_heading = "Resources of each task")]
    pub disk: u64,
    /// Files and folders that may be made [default: the hub's]
    #[arg(long, value_name = "N", help_heading = "Resources of each task")]
    pub inodes: Option<u64>,
    /// Processes and threads [default: the hub's]
    #[arg(long, value_name = "N", help_heading = "Resources of each task")]
    pub pids: Option<u32>,
    /// How long each may take: 90s, 5m, 2h
    #[arg(long, short, value_name = "T", default_value = "1h", value_parser = quantity::duration)]
    #[arg(help_heading = "Resources of each task")]
    pub timeout: Duration,
    /// How much of each output stream is kept [default: the hub's]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size, help_heading = "Resources of each task")]
    pub log: Option<u64>,
    /// What it sees of the network: none, or internet
    #[arg(long, value_name = "NET", default_value = "none", help_heading = "Resources of each task")]
    pub network: NetworkText,

    /// Only devices of this architecture: amd64, arm64, arm, riscv64
    #[arg(long, value_name = "A", help_heading = "Devices")]
    pub arch: Option<ArchText>,
    /// Only devices with this label `region`
    #[arg(long, value_name = "R", help_heading = "Devices")]
    pub region: Option<String>,
    /// Whether all replicas of a task run on one instruction-set level [default: with replication]
    #[arg(long, value_name = "BOOL", help_heading = "Devices")]
    pub exact_class: Option<bool>,

    /// A file or folder that each task is given, read-only (repeatable)
    #[arg(long, short, value_name = "SRC:DST", help_heading = "What runs")]
    pub input: Vec<InputArg>,
    /// A path in the container that is part of the result (repeatable)
    #[arg(long, short, value_name = "PATH", value_parser = job::output, help_heading = "What runs")]
    pub output: Vec<String>,
    /// Whether standard output is part of the result [default: where there is no --output]
    #[arg(long, value_name = "BOOL", help_heading = "What runs")]
    pub stdout_counts: Option<bool>,
    /// Set an environment variable (repeatable)
    #[arg(long, short, value_name = "K=V", value_parser = job::environment, help_heading = "What runs")]
    pub env: Vec<(String, String)>,
    /// Replace the image's entry point
    #[arg(long, value_name = "PROGRAM", help_heading = "What runs")]
    pub entrypoint: Option<String>,
    /// Replace the image's working directory
    #[arg(long, short, value_name = "DIR", help_heading = "What runs")]
    pub workdir: Option<String>,

    /// A registry reference, oci:DIR, oci-archive:FILE or docker-archive:FILE
    pub image: ImageArg,
    /// The command and its arguments, instead of the image's own
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `sosna submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The job's file
    pub file: PathBuf,
    /// What follows.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// `sosna jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only these: queued, running, succeeded, failed, cancelled
    #[arg(long, value_parser = job_state)]
    pub state: Option<JobState>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn job_state(text: &str) -> Result<JobState, String> {
    let words = || JobState::ALL.iter().map(|state| state.word()).collect::<Vec<_>>().join(", ");
    JobState::from_word(text).ok_or_else(|| format!("a job is one of {}", words()))
}

/// `sosna job`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job's id, or its beginning
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `sosna logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The job's id, or its beginning
    pub id: String,
    /// Go on until the job ends
    #[arg(long, short)]
    pub follow: bool,
    /// Only of this task
    #[arg(long, value_name = "INDEX")]
    pub task: Option<u32>,
    /// Only this stream: stdout, stderr
    #[arg(long)]
    pub stream: Option<StreamText>,
    /// Print each piece as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// `sosna results`.
#[derive(Debug, Args)]
pub struct ResultsArgs {
    /// The job's id, or its beginning
    pub id: String,
    /// Where to put them; a new or empty folder [default: results-ID]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Only of this task
    #[arg(long, value_name = "INDEX")]
    pub task: Option<u32>,
    /// Print what was fetched as JSON
    #[arg(long)]
    pub json: bool,
}

/// `sosna cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The job's id, or its beginning
    pub id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A list without options of its own.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `sosna device`.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Address, its beginning, or host name
    #[arg(required = true)]
    pub id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to decide.
    #[command(subcommand)]
    pub command: Option<DeviceCommand>,
}

/// What can be decided about a device.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// End its probation or quarantine
    #[command(after_help = "Examples:
  sosna device approve 0x5aAeb6")]
    Approve {
        /// Address, its beginning, or host name
        id: String,
    },
    /// Turn it away for good
    #[command(after_help = "Examples:
  sosna device revoke 0x5aAeb6 --reason 'sold'")]
    Revoke {
        /// Address, its beginning, or host name
        id: String,
        /// Why, for the record
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let it finish what it has and give it nothing new
    #[command(after_help = "Examples:
  sosna device drain kitchen-pi
  sosna device drain kitchen-pi --off")]
    Drain {
        /// Address, its beginning, or host name
        id: String,
        /// Give it work again
        #[arg(long)]
        off: bool,
    },
    /// Set labels (K=V) and remove them (K-)
    #[command(after_help = "Examples:
  sosna device label kitchen-pi region=eu room=kitchen
  sosna device label kitchen-pi room-")]
    Label {
        /// Address, its beginning, or host name
        id: String,
        /// K=V sets, K- removes
        #[arg(required = true, value_parser = label_change)]
        labels: Vec<(String, Option<String>)>,
    },
}

/// `K=V` or `K-`.
fn label_change(text: &str) -> Result<(String, Option<String>), String> {
    let change = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text.strip_suffix('-').unwrap_or_default(), None),
    };
    match change {
        ("", _) => Err("write K=V to set a label, K- to remove it".to_owned()),
        (key, value) => Ok((key.to_owned(), value)),
    }
}

/// `K=V`.
fn label(text: &str) -> Result<(String, String), String> {
    match label_change(text)? {
        (key, Some(value)) => Ok((key, value)),
        _ => Err("write K=V".to_owned()),
    }
}

/// `sosna ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<LedgerCommand>,
}

/// What can be done to the books.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Grant a buyer credit (admins, without a chain)
    #[command(after_help = "Examples:
  sosna ledger credit alice 100
  sosna ledger credit alice 0.25 --json")]
    Credit {
        /// The buyer's name
        buyer: String,
        /// How much more, in SNM
        amount: AmountText,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_the_help_shows_the_same_job_file() {
        fn walk(command: &clap::Command) {
            for sub in command.get_subcommands() {
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  "), "{} has no examples", sub.get_name());
                walk(sub);
            }
        }
        walk(&Cli::command());
        for line in JOB_FILE.lines() {
            assert!(SUBMIT_HELP.contains(line), "{line}");
        }
    }
}
