//! `cargo xtask`: what is done to this repository, besides compiling it.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum as _};
use xtask::bench::{self, BENCHES};
use xtask::demo::Demo;
use xtask::dist::{self, Architecture};
use xtask::flame::Subject;
use xtask::paths::Tree;
use xtask::test::{self, Options};

/// Tests and demonstrations of Sosna.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs everything that must be green, stage by stage, and says how long it took.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --stage fmt --stage clippy\n\n\
        Each stage's output is in target/xtask/STAGE.log; budgets are in docs/ci-budget.md."
    )]
    Test {
        /// Adds what is too slow for every run.
        #[arg(long)]
        all: bool,
        /// Runs this stage only; may be given several times.
        #[arg(long = "stage", value_name = "NAME")]
        stages: Vec<String>,
    },
    /// Measures what is promised in numbers, against its peers in the same run.
    #[command(after_help = bench_help())]
    Bench {
        /// Which; all of them when none is named.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// A line of JSON for each figure instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Draws flame graphs of what a bench does, into target/bench/flame: where the time goes.
    #[command(after_help = "Examples:\n  cargo xtask flame\n  cargo xtask flame containers\n\n\
        It needs perf, and compiles into target/flame. Open the pictures in a browser: a click looks closer.")]
    Flame {
        /// Of what; of everything when nothing is named.
        #[arg(value_name = "NAME")]
        subjects: Vec<Subject>,
    },
    /// Compiles what devices get, each program one static file, and packs it.
    #[command(
        after_help = "Examples:\n  cargo xtask dist\n  cargo xtask dist --target aarch64\n  cargo xtask dist --check\n\n\
        Everything is put into target/dist; the compiler's words are in target/xtask/dist*.log, \
        those of --check in target/xtask/check-*.log."
    )]
    Dist {
        /// For this kind of processor only; may be given several times.
        #[arg(long = "target", value_name = "ARCHITECTURE")]
        targets: Vec<Architecture>,
        /// Only whether it compiles, in a fraction of the time; nothing is made.
        #[arg(long, conflicts_with = "json")]
        check: bool,
        /// A line of JSON for each program and package instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Compiles the contracts and writes what is committed of that, their interfaces and code, to contracts/artifacts.
    #[command(after_help = "Example:\n  cargo xtask contracts")]
    Contracts,
    /// Composes the demo's image into target/demo/povray-oci and says its digest.
    #[command(after_help = "Example:\n  cargo xtask image")]
    Image,
    /// The main job, set up from nothing: a hub, four devices of three owners, a picture rendered and verified.
    #[command(
        after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --keep\n  cargo xtask demo --vm --keep\n  cargo xtask demo --chain\n  \
        cargo xtask demo --chain --json | jq .balances\n\n\
        The picture is target/demo/pines.png, that of --vm target/demo/pines-vm.png; the processes' logs are in \
        target/demo/world, consoles and logs of --vm in target/demo/vm, logs and keys of --chain in target/demo/chain."
    )]
    Demo {
        /// Devices that are machines: one image of the device's own system, booted three times in QEMU; a smaller
        /// picture, compared with the one that this machine renders itself.
        #[arg(long)]
        vm: bool,
        /// Runs these machines on this machine's own processor (/dev/kvm) instead of emulating one: quicker, where it
        /// works.
        #[arg(long, requires = "vm")]
        kvm: bool,
        /// The money's way on an EVM of this machine's own (anvil, by npm): deposit, vouchers, root, claims, payday, and a
        /// hub that cheats; a smaller picture.
        #[arg(long, conflicts_with = "vm")]
        chain: bool,
        /// One JSON object instead of the story and its tables; progress goes to standard error.
        #[arg(long, requires = "chain", conflicts_with = "keep")]
        json: bool,
        /// Leaves everything running, with the addresses to visit, until Enter or Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
}

fn bench_help() -> String {
    let mut text = "Benches:\n".to_owned();
    for bench in BENCHES {
        text.push_str(&format!("  {:<11} {}\n", bench.name, bench.about));
    }
    text + "\nExamples:\n  cargo xtask bench\n  cargo xtask bench containers agent --json"
}

fn main() -> ExitCode {
    if let Some(code) = dist::when_called_as_tool() {
        return code;
    }
    let cli = Cli::parse();
    match carry_out(&cli.task) {
        Ok(code) => code,
        Err(error) => {
            eprint!("cargo xtask: {error}");
            let mut next = error.source();
            while let Some(cause) = next {
                eprint!(": {cause}");
                next = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn carry_out(task: &Task) -> Result<ExitCode, Box<dyn Error>> {
    let tree = Tree::find()?;
    match task {
        Task::Test { all, stages } => {
            match test::run(&tree, &Options { all: *all, stages: stages.clone() }) {
                Ok(true) => Ok(ExitCode::SUCCESS),
                Ok(false) => Ok(ExitCode::FAILURE),
                Err(unknown) => {
                    eprintln!("cargo xtask: {unknown}");
                    Ok(ExitCode::from(2))
                }
            }
        }
        Task::Bench { names, json } => match bench::run(&tree, names, *json) {
            Ok(true) => Ok(ExitCode::SUCCESS),
            Ok(false) => Ok(ExitCode::FAILURE),
            Err(unknown) => {
                eprintln!("cargo xtask: {unknown}");
                Ok(ExitCode::from(2))
            }
        },
        Task::Flame { subjects } => {
            let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
            xtask::flame::run(&tree, subjects)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Dist { targets, check, json } => {
            let targets = if targets.is_empty() { &Architecture::ALL[..] } else { targets };
            match check {
                true => dist::check_all(&tree, targets)?,
                false => dist::run(&tree, targets, *json)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Contracts => {
            let changed = xtask::contracts::write(&tree)?;
            if changed.is_empty() {
                println!("contracts/artifacts is what the sources compile to");
            }
            for path in changed {
                println!("{}", path.strip_prefix(tree.root()).unwrap_or(&path).display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Image => {
            Demo::new(&tree).compose()?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Demo { vm, kvm, chain, json, keep } => {
            let demo = if *json { Demo::quiet(&tree) } else { Demo::new(&tree) };
            let all_is_well = match (vm, chain) {
                (true, _) => demo.run_machines(*keep, *kvm)?,
                (_, true) => demo.run_chain(*keep, *json)?,
                _ => demo.run(*keep)?,
            };
            Ok(if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
