//! What can be written on the command line, and what `--help` says about it.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use sosna::quantity;
use sosna_protocol::resources::Arch;

use crate::Conduct;

const EXAMPLES: &str = "\
Examples:
  A hundred devices, for as long as nobody presses Ctrl-C:
    sosna-swarm --join \"$(sosna-hub token --uses 100)\"

  A thousand PCs of two owners; some of them cheat, and all come and go; for ten minutes:
    sosna-swarm --join-file a.token --join-file b.token --devices 1000 --arch amd64 \\
        --cheat liar=0.05 --cheat idler=0.01 --stay 5m --away 30s --for 10m

  Only lines that are held, to see what a hub bears; figures for a program:
    sosna-swarm --join-file token --devices 18000 --trusting --ramp 1m --for 5m --json

A process holds as many devices as it may have open files (`ulimit -n`).";

/// A fleet of simulated devices that speak to a hub as real ones do, to size and to test it
///
/// The devices enrol, connect, take tasks and bring results; the tasks themselves are not run. Their names follow from
/// the seed, which is no secret: let a swarm serve hubs for trial only.
#[derive(Debug, Parser)]
#[command(name = "sosna-swarm", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// A join token; one for each owner
    #[arg(long, value_name = "TOKEN", env = "SOSNA_JOIN", hide_env_values = true)]
    pub join: Vec<String>,
    /// A file that holds a join token
    #[arg(long, value_name = "FILE")]
    pub join_file: Vec<PathBuf>,
    /// How many devices
    #[arg(long, default_value_t = 100)]
    pub devices: usize,
    /// What the devices follow from: the same seed makes the same devices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only machines with such a processor: amd64, arm64, arm, riscv64
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    pub arch: Option<Arch>,
    /// How many of the devices (of 1) are no honest ones: liar, colluder, withholder, resalter, copier, hasty,
    /// tardy, idler, deserter, refuser, replayer, boaster, mistimed
    #[arg(long, value_name = "CONDUCT=PART", value_parser = cheat)]
    pub cheat: Vec<(Conduct, f64)>,
    /// How long a task takes on the fastest machines; on the slowest eight times as long
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = quantity::duration)]
    pub task: Duration,
    /// After how long a device leaves, on average; never where it is not given
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    pub stay: Option<Duration>,
    /// For how long it is away then, on average
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = quantity::duration)]
    pub away: Duration,
    /// Over how long the first connections are spread
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = quantity::duration)]
    pub ramp: Duration,
    /// How long the swarm lives; until Ctrl-C where it is not given
    #[arg(long = "for", value_name = "TIME", value_parser = quantity::duration)]
    pub lasts: Option<Duration>,
    /// Do not check the hub's signatures: leaves the processor to a hub on the same machine
    #[arg(long)]
    pub trusting: bool,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

fn arch(name: &str) -> Result<Arch, String> {
    Arch::from_oci(name).ok_or_else(|| {
        format!("there is no such processor; there are {}", Arch::ALL.map(Arch::oci).join(", "))
    })
}

fn cheat(text: &str) -> Result<(Conduct, f64), String> {
    let (word, part) = text.split_once('=').ok_or("write it as liar=0.05: so many of the devices, of 1")?;
    let conduct: Conduct = word.parse().map_err(|error: crate::UnknownConduct| error.to_string())?;
    let part: f64 = part.parse().map_err(|_| format!("{part:?} is no number"))?;
    if !(0.0..=1.0).contains(&part) {
        return Err(format!("{part} is no part of 1"));
    }
    Ok((conduct, part))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_help_names_every_conduct() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        let mut cheats = Conduct::ALL.iter().filter(|conduct| **conduct != Conduct::Honest);
        assert!(cheats.all(|conduct| help.contains(conduct.word())), "{help}");
    }

    #[test]
    fn parts_are_parts() {
        assert_eq!(cheat("liar=0.25"), Ok((Conduct::Liar, 0.25)));
        for bad in ["liar", "liar=2", "liar=x", "nobody=0.1", "liar=NaN"] {
            assert!(cheat(bad).is_err(), "{bad}");
        }
    }
}
