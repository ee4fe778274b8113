//! The command line of `sosna-agent`.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use sosna_host::{
    clock::{Clock as _, SystemClock},
    memory,
    report::{self, Exit},
    telemetry,
    token::JoinToken,
};
use sosna_protocol::{Address, Amount, eip712::Domain};

use crate::{
    AgentError, Hooks, Options,
    config::AgentConfig,
    identity::FolderLock,
    rights::{self, Prepared},
    run, status,
    store::Store,
    system::System,
    wallet::{
        claim::{self, ClaimError, Wish},
        keystore, payee,
    },
};

/// Threads are small here: nothing recurses.
const STACK: usize = 512 * 1024;

#[derive(Debug, Parser)]
#[command(name = "sosna-agent", version, about = "Lends this machine to a Sosna hub and earns for it.")]
#[command(after_help = "Examples:\n  \
    sosna-agent run --join sosna1…       enrol this machine and serve\n  \
    sosna-agent run                      serve, once it is enrolled\n  \
    sosna-agent status                   how it stands\n  \
    sosna-agent wallet export key.json   keep the device's key in a safe place")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrols if it has not, and serves until it is told to stop.
    #[command(
        after_help = "Examples:\n  sosna-agent run --join sosna1…\n  sosna-agent run --data /srv/sosna --print-config"
    )]
    Run(RunArgs),
    /// Identity, hub, tasks, earnings, health.
    #[command(after_help = "Examples:\n  sosna-agent status\n  sosna-agent status --json")]
    Status {
        #[command(flatten)]
        place: Place,
        /// One JSON object, for programs.
        #[arg(long)]
        json: bool,
    },
    /// The device's key, and where its earnings go.
    Wallet {
        #[command(subcommand)]
        command: Wallet,
    },
    /// A runc-compatible OCI runtime.
    #[command(disable_help_flag = true)]
    Oci {
        /// As for runc: create, start, state, kill, delete, exec, run, list, pause, resume, update, features, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// The folder that holds everything this device keeps.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The token that the hub printed; needed once.
    #[arg(long, value_name = "TOKEN", env = "SOSNA_AGENT_JOIN", hide_env_values = true)]
    join: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Prints the configuration in force, with where each value comes from, and ends.
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, Subcommand)]
enum Wallet {
    /// The device's address, what it has earned, where that goes.
    Show {
        #[command(flatten)]
        place: Place,
    },
    /// Makes the key of an Ethereum keystore this device's, before it is enrolled.
    Import {
        /// The keystore (version 3).
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Writes the device's key into a keystore under a password.
    Export {
        /// The file to be made.
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Signs a claim of all that the hub has signed for, which anybody can bring to the chain.
    #[command(after_help = "Examples:\n  sosna-agent wallet claim > claim.json\n  \
        sosna-agent wallet claim --fee 0.05 --days 30\n  \
        sosna-agent wallet claim --by-root\n\n\
        Anybody brings the claim to the hub's wallet (`sosna payouts relay`; docs/contracts.md). The key stays here; the \
        claim is good for this wallet, this sum and this payee only, and once.")]
    Claim {
        /// The most, in SNM, that whoever brings it may keep.
        #[arg(long, value_name = "SNM", default_value = "0")]
        fee: Amount,
        /// For how many days it is good.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// By what a root on the chain commits to this device instead of by the voucher: it may be less, and is paid
        /// also when the hub's wallet is suspected or banned.
        #[arg(long)]
        by_root: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Signs where earnings go on the chain, after which anybody can settle for this device there.
    #[command(after_help = "Examples:\n  sosna-agent wallet payee > payee.json\n  \
        sosna-agent wallet payee --share 10 --days 30\n\n\
        It names the address that `payout-to` has set, else the device's own. Anybody brings it to the hub's wallet \
        (`sosna payouts relay`; docs/contracts.md).")]
    Payee {
        /// The most, in thousandths, that whoever settles may keep of each payment.
        #[arg(long, value_name = "PER MILLE", default_value_t = 0)]
        #[arg(value_parser = clap::value_parser!(u16).range(..=i64::from(payee::MOST_SHARE)))]
        share: u16,
        /// How often this device has signed a payee that is on the chain [default: what was last seen there]
        #[arg(long, value_name = "N")]
        nonce: Option<u64>,
        /// For how many days it is good.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        #[command(flatten)]
        place: Place,
    },
    /// Where earnings go from the next payout on.
    PayoutTo {
        /// An Ethereum address.
        address: String,
        #[command(flatten)]
        place: Place,
    },
}

/// What went wrong, and the program's exit code for it.
struct Failure {
    text: String,
    exit: Exit,
}

impl Failure {
    fn of(error: &(dyn std::error::Error + 'static), exit: Exit) -> Self {
        Self { text: report::chain(error), exit }
    }

    fn failed(error: impl std::error::Error + 'static) -> Self {
        Self::of(&error, Exit::Failed)
    }

    fn usage(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit: Exit::Usage }
    }
}

/// The whole program. `hooks` is asked once an agent is to run; the shipped program passes [`Hooks::default`].
///
/// The helpers that this binary starts of itself come first: they must not see threads, logs or a command line.
pub fn main(hooks: impl FnOnce() -> Hooks) -> ExitCode {
    rights::run_if_requested();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code is 2 for wrong usage and 0 for help, as ours.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Command::Run(arguments) => with_key(|| serve(arguments, hooks)),
        Command::Status { place, json } => with_key(|| show_status(&place, json)),
        Command::Wallet { command } => with_key(|| wallet(command)),
        // It knows no key, and is debugged as other runtimes are.
        Command::Oci { arguments } => return oci(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sosna-agent: {}", failure.text);
            failure.exit.into()
        }
    }
}

/// Whatever has the device's key in memory.
fn with_key(act: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    memory::keep_private().map_err(|error| Failure {
        text: format!("the device's key cannot be kept out of core files: {error}"),
        exit: Exit::Failed,
    })?;
    act()
}

fn load(place: &Place) -> Result<sosna_host::config::Loaded<AgentConfig>, Failure> {
    let data = place.data.as_ref().map(|path| ("data", path.display().to_string()));
    let file = place.config.clone().or_else(System::owners_config);
    AgentConfig::load(file.as_deref(), data).map_err(|error| Failure::of(&error, Exit::Usage))
}

fn data(place: &Place) -> Result<PathBuf, Failure> {
    Ok(load(place)?.value.data)
}

fn serve(arguments: RunArgs, hooks: impl FnOnce() -> Hooks) -> Result<(), Failure> {
    let loaded = load(&arguments.place)?;
    if arguments.print_config {
        print(&loaded.print());
        return Ok(());
    }
    let join = arguments.join.as_deref().map(str::parse::<JoinToken>).transpose();
    let join = join.map_err(|error| Failure::of(&error, Exit::Usage))?;
    telemetry::start("SOSNA_AGENT_LOG", loaded.value.log.json);
    // A second installation (in a test build's process) keeps the first provider, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let failed = |error: AgentError| Failure::of(&error, error.exit());
    // While there is one thread, and nobody was spoken to.
    let started = rights::prepare(Options { config: loaded.value, join }).and_then(Prepared::separate);
    let started = started.map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let done = runtime.block_on(run(started, hooks()));
    // What still waits for a disk or a container must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    done.map_err(failed)
}

fn show_status(place: &Place, json: bool) -> Result<(), Failure> {
    let report = ask(place)?;
    if json {
        return print_json(&report);
    }
    print(&report.text());
    Ok(())
}

fn ask(place: &Place) -> Result<status::Report, Failure> {
    status::ask(&data(place)?).map_err(|error| {
        let exit = match &error {
            status::StatusError::NoData { .. } => Exit::NotFound,
            status::StatusError::Silent { .. } => Exit::NoAnswer,
            _ => Exit::Failed,
        };
        Failure::of(&error, exit)
    })
}

fn wallet(command: Wallet) -> Result<(), Failure> {
    match command {
        Wallet::Show { place } => {
            print(&ask(&place)?.wallet());
            Ok(())
        }
        Wallet::Import { file, place } => {
            let data = data(&place)?;
            let _lock = FolderLock::take_soon(&data).map_err(Failure::failed)?;
            let password = ask_password("Password of the keystore: ")?;
            let key = keystore::import(&data, &file, &password).map_err(refused)?;
            print(&format!(
                "this device is {}\n",
                sosna_protocol::identity::Sign::address(&key).checksummed()
            ));
            Ok(())
        }
        Wallet::Export { file, place } => {
            let data = data(&place)?;
            let password = ask_password("New password for the exported key: ")?;
            if io::stdin().is_terminal() && ask_password("The same again: ")? != password {
                return Err(Failure::usage("the two passwords differ; nothing was exported"));
            }
            let key = keystore::export(&data, &file, &password).map_err(refused)?;
            let address = sosna_protocol::identity::Sign::address(&key).checksummed();
            print(&format!("the key of {address} is in {}\n", file.display()));
            Ok(())
        }
        Wallet::Claim { fee, days, by_root, place } => sign_claim(fee, days, by_root, &place),
        Wallet::Payee { share, nonce, days, place } => sign_payee(share, nonce, days, &place),
        Wallet::PayoutTo { address, place } => payout_to(&address, &place),
    }
}

/// Seconds since 1970, so many days ahead.
fn deadline(days: u32) -> u64 {
    SystemClock::default().now_ms() / 1000 + u64::from(days) * 86_400
}

/// To whom earnings go, where that is not the device itself.
fn payee_of(report: &status::Report) -> Result<Option<Address>, Failure> {
    report.earnings.payout_to.as_deref().map(Address::of_person).transpose().map_err(Failure::failed)
}

fn sign_claim(max_fee: Amount, days: u32, is_by_root: bool, place: &Place) -> Result<(), Failure> {
    let report = ask(place)?;
    let wish = Wish { to: payee_of(&report)?, max_fee, deadline: deadline(days), is_by_root };
    let claim = claim::sign(&data(place)?, report.device.as_deref(), &report.earnings, &wish);
    print_json(&claim.map_err(|error| {
        let exit = match &error {
            ClaimError::NoVoucher | ClaimError::NoKey | ClaimError::NoLine => Exit::NotFound,
            ClaimError::NoChain | ClaimError::Fee { .. } | ClaimError::Stranger { .. } => Exit::Refused,
            _ => Exit::Failed,
        };
        Failure::of(&error, exit)
    })?)
}

fn sign_payee(share: u16, nonce: Option<u64>, days: u32, place: &Place) -> Result<(), Failure> {
    let report = ask(place)?;
    let signed = report.earnings.signed.as_ref().map(|signed| (signed.chain_id, signed.wallet.as_str()));
    let seen = report.wallet.as_ref().map(|wallet| (wallet.chain_id, wallet.wallet.as_str()));
    let known = signed.or(seen).filter(|(chain_id, _)| *chain_id != 0);
    let domain = known.and_then(|(chain_id, wallet)| Some(Domain { chain_id, wallet: wallet.parse().ok()? }));
    let domain = domain.ok_or_else(|| Failure {
        text: "no hub's wallet on a chain is known here yet: the hub's first work or voucher names it"
            .to_owned(),
        exit: Exit::NotFound,
    })?;
    let nonce = nonce.or_else(|| Some(report.wallet.as_ref()?.payee_nonce)).unwrap_or(0);
    let signed = payee::sign(&data(place)?, &domain, payee_of(&report)?, share, nonce, deadline(days));
    print_json(&signed.map_err(Failure::failed)?)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    print(&format!("{text}\n"));
    Ok(())
}

fn payout_to(address: &str, place: &Place) -> Result<(), Failure> {
    let parsed = Address::of_person(address)
        .map_err(|error| Failure::usage(format!("{address} cannot be used: {error}")))?;
    let AgentConfig { data, payout_to, .. } = load(place)?.value;
    if !payout_to.is_empty() {
        return Err(Failure {
            text: format!("the configuration sends earnings to {payout_to} (`payout_to`); change it there"),
            exit: Exit::Refused,
        });
    }
    let _lock = FolderLock::take_soon(&data).map_err(Failure::failed)?;
    let keys = crate::identity::Keys::load_or_create(&data).map_err(Failure::failed)?;
    let store = Store::open(&data, keys.identity).map_err(Failure::failed)?;
    payee::set(&store, &parsed).map_err(Failure::failed)?;
    print(&format!("earnings go to {} from the next payout on\n", parsed.checksummed()));
    Ok(())
}

fn refused(error: keystore::WalletError) -> Failure {
    let exit = match &error {
        keystore::WalletError::NoKey => Exit::NotFound,
        keystore::WalletError::Enrolled { .. }
        | keystore::WalletError::Exists { .. }
        | keystore::WalletError::Heavy { .. } => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::of(&error, exit)
}

/// From the terminal without an echo; from a pipe, its first line.
fn ask_password(prompt: &str) -> Result<String, Failure> {
    let read = if io::stdin().is_terminal() {
        rpassword::prompt_password(prompt)
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line.trim_end_matches(['\n', '\r']).to_owned())
    };
    read.map_err(Failure::failed)
}

fn oci(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    sosna_runtime::oci::main(arguments.into_iter())
}

/// Writes to stdout; a reader that has gone is no error.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
