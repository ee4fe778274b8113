//! Arguments.

use std::env;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use sosna_image::package::Cache;

/// Images of the device's operating system.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) packages: PackageArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where packages come from.
#[derive(Debug, clap::Args)]
pub(crate) struct PackageArgs {
    /// Folder that keeps downloaded packages [default: $XDG_CACHE_HOME/sosna-image]
    #[arg(long, global = true, env = "SOSNA_IMAGE_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Address of a Debian archive, where the system's own sources are not Debian's
    #[arg(long, global = true, env = "SOSNA_IMAGE_MIRROR", value_name = "URL")]
    mirror: Option<String>,
}

impl PackageArgs {
    pub(crate) fn folder(&self) -> PathBuf {
        let home = || env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from).join(".cache");
        let base = || env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
        self.cache.clone().unwrap_or_else(|| base().join("sosna-image"))
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(&self.folder(), self.mirror.clone())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What images can be built for
    Boards(BoardsArgs),
    /// Compose a bootable disk image, without root
    Build(Box<BuildArgs>),
    /// Boot an image in QEMU on this machine
    Run(RunArgs),
    /// What is in an image, and whether it is whole
    Inspect(InspectArgs),
    /// Write join token, name and network into a finished image
    Personalise(PersonaliseArgs),
    /// Write an image to a card or disk, and read it back
    Flash(FlashArgs),
    /// The source packages and licences of all that an image ships
    Sources(SourcesArgs),
    /// Make what belongs beside an image on a web server: checksums, block map, lists
    Publish(PublishArgs),
    /// Write a configuration that turns a stock Fedora CoreOS or Flatcar into a device
    Ignition(IgnitionArgs),
    /// Pin what the Debian archive has now, for a new release
    Lock(LockArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct BoardsArgs {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sosna-image build --board x86_64-uefi -o sosna.img\n  \
        sosna-image build --board rpi --join sosna1… --hostname lamp --payout-to 0x… -o lamp.img")]
pub(crate) struct BuildArgs {
    /// The board (`sosna-image boards`)
    #[arg(long, value_name = "BOARD")]
    pub(crate) board: String,
    /// The folder with the device's programs, as `cargo xtask dist` makes it: ARCHITECTURE/sosna-agent and
    /// ARCHITECTURE/sosna-init [default: near this program]
    #[arg(long, env = "SOSNA_PROGRAMS", value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,
    /// Another agent: a static program for the board's processor
    #[arg(long, value_name = "FILE")]
    pub(crate) agent: Option<PathBuf>,
    /// Another first program than `sosna-init`, likewise
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,
    /// The system's version
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"), value_name = "VERSION")]
    pub(crate) os_version: String,
    /// Take the packages that the archive has now where they are not the pinned ones; says what differs
    #[arg(long)]
    pub(crate) current: bool,
    /// Size of the image (`8G`); by default as small as it can be, for the device grows its data to the disk
    #[arg(long, value_parser = size)]
    pub(crate) size: Option<u64>,
    #[command(flatten)]
    pub(crate) personal: PersonalArgs,
    /// The image file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What makes an image one device's.
#[derive(Debug, clap::Args)]
pub(crate) struct PersonalArgs {
    /// The join token
    #[arg(long, value_name = "TOKEN")]
    pub(crate) join: Option<String>,
    /// The device's name in its network
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// The Ethereum address that the device's earnings go to; else its own
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) payout_to: Option<String>,
    /// The agent's configuration: what the owner asks for work and lends
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_config: Option<PathBuf>,
    /// HTTP proxy for all that the device fetches
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// What the owner calls the device's properties
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// A fixed address: CARD=ADDRESS/PREFIX[,gateway=ADDRESS][,dns=ADDRESS]…; other cards use DHCP
    #[arg(long = "network", value_name = "SETTINGS")]
    pub(crate) networks: Vec<String>,
    /// The wireless network's name, on boards that can join one (`sosna-image boards`); those that are there go
    #[arg(long, value_name = "SSID")]
    pub(crate) wifi: Option<String>,
    /// File with the wireless network's password, or its key of 64 hexadecimal digits; none for an open network
    #[arg(long, value_name = "FILE", requires = "wifi")]
    pub(crate) wifi_password_file: Option<PathBuf>,
    /// The wireless network does not tell its name
    #[arg(long, requires = "wifi")]
    pub(crate) wifi_hidden: bool,
    /// The country that the device is in, for its wireless card: two letters, as DE
    #[arg(long, value_name = "CC")]
    pub(crate) country: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sosna-image run sosna.img --snapshot --forward 8080:80")]
pub(crate) struct RunArgs {
    /// The image file
    pub(crate) image: PathBuf,
    /// Leave the image as it is: what the device writes is forgotten
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// MiB of memory
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    pub(crate) memory: u32,
    /// A port of this machine that leads to one of the device
    #[arg(long, value_name = "HOST:GUEST")]
    pub(crate) forward: Vec<String>,
    /// A file for what the device says on its serial console, instead of this terminal
    #[arg(long, value_name = "FILE")]
    pub(crate) serial: Option<PathBuf>,
    /// A socket for QEMU's machine protocol (QMP), by which the power button is pressed
    #[arg(long, value_name = "SOCKET")]
    pub(crate) control: Option<PathBuf>,
    /// Use this machine's processor (/dev/kvm) instead of emulating one: quicker, where it works
    #[arg(long)]
    pub(crate) kvm: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// The image file, or a disk
    pub(crate) image: PathBuf,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sosna-image personalise sosna.img --hostname lamp --join sosna1…\n  sosna-image personalise sosna.img --wifi lab --wifi-password-file password --country DE"
)]
pub(crate) struct PersonaliseArgs {
    /// The image file, or a disk with one on it
    pub(crate) image: PathBuf,
    #[command(flatten)]
    pub(crate) personal: PersonalArgs,
    /// Remove the join token that is there
    #[arg(long, conflicts_with = "join")]
    pub(crate) forget_join: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sosna-image flash sosna.img /dev/sdb")]
pub(crate) struct FlashArgs {
    /// The image file
    pub(crate) image: PathBuf,
    /// The card or disk; a file of sufficient size will do, too
    pub(crate) device: PathBuf,
    /// Do not ask. Disks in use are refused all the same
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SourcesArgs {
    /// The image file
    pub(crate) image: PathBuf,
    /// Write the texts about authors and licences into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) licences: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    /// The image file
    pub(crate) image: PathBuf,
    /// Below which address the files will be
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// Where to write
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

/// What the configuration is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum System {
    /// Fedora CoreOS
    Fcos,
    /// Flatcar Container Linux
    Flatcar,
}

/// How it is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Language {
    /// For the machine: Ignition 3.4
    Ignition,
    /// For people: Butane
    Butane,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sosna-image ignition --system fcos --agent sosna-agent --join sosna1… -o device.ign"
)]
pub(crate) struct IgnitionArgs {
    /// The system
    #[arg(long, value_enum, default_value = "fcos")]
    pub(crate) system: System,
    /// The form
    #[arg(long, value_enum, default_value = "ignition")]
    pub(crate) format: Language,
    /// The agent, to be part of the configuration
    #[arg(long, value_name = "FILE", conflicts_with = "agent_url")]
    pub(crate) agent: Option<PathBuf>,
    /// Where the machine downloads the agent
    #[arg(long, value_name = "URL", requires = "agent_sha256")]
    pub(crate) agent_url: Option<String>,
    /// What it must be
    #[arg(long, value_name = "HEX")]
    pub(crate) agent_sha256: Option<String>,
    /// The join token
    #[arg(long, value_name = "TOKEN")]
    pub(crate) join: Option<String>,
    /// The device's name in its network
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// HTTP proxy for all that the agent fetches
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// The file; by default the terminal
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LockArgs {
    /// The board's description file; its lock file is written beside it
    #[arg(required = true, value_name = "FILE")]
    pub(crate) descriptions: Vec<PathBuf>,
}

/// `512M`, `8G`, or bytes.
fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text
        .trim_end_matches(['B', 'i'])
        .split_at_checked(text.trim_end_matches(['B', 'i']).len().saturating_sub(1))
    {
        Some((number, "K" | "k")) => (number, 10),
        Some((number, "M")) => (number, 20),
        Some((number, "G")) => (number, 30),
        Some((number, "T")) => (number, 40),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| "write a size as 512M or 8G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "this is more than any disk has".to_owned())
}
