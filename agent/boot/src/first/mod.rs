//! The first stage: from the initramfs into the slot that the boot loader chose, through dm-verity. Everything that
//! fails is told on every console and ends in a restart: the boot loader counts tries, and takes the other slot when
//! they are used up. Must never mount anything of a disk that is not verified.

mod cmdline;
mod root;
mod verity;

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

pub use cmdline::{CommandLine, CommandLineError, SlotName, Verity};
use nix::mount::MsFlags;
pub use verity::VerityError;

use crate::{
    clock, console,
    disk::{self, DiskError},
    modules::{ModuleError, Modules},
    mounts::{self, Mount, MountError},
    power,
};

/// What the slot starts with.
pub const PROGRAM: &str = "/usr/bin/sosna-agent";
/// The variable that tells the program in the slot that it was started by us, as what PID 1 is to be.
pub const STAGE: &str = "SOSNA_STAGE";
/// The variable that tells it when we began, in milliseconds since the kernel's start.
pub const BEGAN: &str = "SOSNA_BEGAN";
const SLOT: &str = "/slot";
/// How long cards and USB disks may take to appear.
const DISK: Duration = Duration::from_secs(20);
/// How long a message can be read before the machine restarts.
const READ: Duration = Duration::from_secs(10);

const MOUNTS: [Mount; 4] = [
    Mount { kind: "proc", at: "/proc", flags: MsFlags::MS_NODEV.union(MsFlags::MS_NOEXEC), options: "" },
    Mount { kind: "sysfs", at: "/sys", flags: MsFlags::MS_NODEV.union(MsFlags::MS_NOEXEC), options: "" },
    Mount { kind: "devtmpfs", at: "/dev", flags: MsFlags::MS_NOEXEC, options: "mode=0755" },
    Mount { kind: "tmpfs", at: "/run", flags: MsFlags::MS_NODEV, options: "mode=0755,size=20%" },
];

/// Why the slot was not reached.
#[derive(Debug, thiserror::Error)]
pub enum FirstError {
    /// A kernel's file system.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The kernel's words cannot be read.
    #[error("cannot read /proc/cmdline")]
    ReadCommandLine(#[source] io::Error),
    /// The boot loader's words.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// The slot's partition.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The device mapper.
    #[error(transparent)]
    Verity(#[from] VerityError),
    /// The slot does not fit its hashes, or is no squashfs.
    #[error("slot {slot} on {device} is refused: it is not what version {version} was composed of", device = device.display())]
    Refused {
        /// Which slot.
        slot: SlotName,
        /// Its partition.
        device: PathBuf,
        /// What should be in it.
        version: String,
        /// Where it showed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Into the slot.
    #[error(transparent)]
    Root(#[from] root::RootError),
}

/// A file of the slot that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {PROGRAM} in it")]
struct Unreadable(#[source] io::Error);

/// The whole program. Returns never: it becomes the slot's program, or the machine restarts.
pub fn main() -> ! {
    if std::process::id() != 1 {
        eprintln!("sosna-init: this is the first program of a device; it runs as PID 1 only");
        std::process::exit(2);
    }
    std::panic::set_hook(Box::new(|panic| fail(&format!("the first stage broke down: {panic}"))));
    match into_slot() {
        Ok(never) => match never {},
        Err(error) => fail(&console::chain(&error)),
    }
}

/// Says what went wrong and restarts the machine after a time to read it.
fn fail(what: &str) -> ! {
    console::say(&format!("cannot start: {what}"));
    console::say(&format!("the machine restarts in {} seconds", READ.as_secs()));
    thread::sleep(READ);
    power::now(power::End::Restart)
}

fn into_slot() -> Result<Infallible, FirstError> {
    let began = clock::since_start_ms();
    for mount in MOUNTS {
        mount.make()?;
    }
    // A module that is missing shows at the disk or the device mapper; its message must be above theirs.
    let (mut modules, wrong) = Modules::open(Path::new("/modules"));
    tell(wrong);
    tell(modules.load_always());
    let text = std::fs::read_to_string("/proc/cmdline").map_err(FirstError::ReadCommandLine)?;
    let line = CommandLine::parse(&text)?;
    // A controller brings its bus, and the bus its disk.
    let partition = disk::wait_for(line.slot.partition(), DISK, || tell(modules.look()))?;
    let device = verity::open(line.slot.partition(), &partition.device, &line.verity)?;
    open(&device).map_err(|source| FirstError::Refused {
        slot: line.slot,
        device: partition.device,
        version: line.version,
        source,
    })?;
    Ok(root::switch(Path::new(SLOT), MOUNTS.map(|mount| mount.at).as_slice(), PROGRAM, began)?)
}

fn tell(wrong: Vec<ModuleError>) {
    wrong.iter().for_each(|error| console::say(&console::chain(error)));
}

/// Mounts the slot and reads its program once, whole: a block that does not fit is to show here, where it has a name,
/// and not as the death of PID 1.
fn open(device: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    mounts::device(device, "squashfs", Path::new(SLOT), MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "")?;
    let mut program = File::open(format!("{SLOT}{PROGRAM}")).map_err(Unreadable)?;
    let mut buffer = vec![0; 128 * 1024];
    while program.read(&mut buffer).map_err(Unreadable)? > 0 {}
    Ok(())
}
