//! Everything between the first stage and the agent's start, in order.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::mount::MsFlags;

use super::{AGENT_DATA, entropy};
use crate::{
    clock, console,
    device::DeviceConfig,
    disk::{
        self, boot,
        data::{self, DataError, Wish},
    },
    first::CommandLine,
    modules::{self, Events, Modules},
    mounts::Mount,
    status::Shared,
    sysfs,
};

const NO_DEVICES: MsFlags = MsFlags::MS_NODEV.union(MsFlags::MS_NOEXEC);

/// The first stage has moved /proc, /sys, /dev and /run here.
const MOUNTS: [Mount; 7] = [
    Mount {
        kind: "devpts",
        at: "/dev/pts",
        flags: MsFlags::MS_NOEXEC,
        options: "mode=0620,gid=5,ptmxmode=0666",
    },
    Mount { kind: "tmpfs", at: "/dev/shm", flags: NO_DEVICES, options: "mode=1777,size=20%" },
    Mount { kind: "mqueue", at: "/dev/mqueue", flags: NO_DEVICES, options: "" },
    Mount {
        kind: "cgroup2",
        at: "/sys/fs/cgroup",
        flags: NO_DEVICES,
        options: "nsdelegate,memory_recursiveprot",
    },
    Mount { kind: "tmpfs", at: "/tmp", flags: MsFlags::MS_NODEV, options: "mode=1777,size=25%" },
    Mount { kind: "tmpfs", at: "/var", flags: MsFlags::MS_NODEV, options: "mode=0755,size=10%" },
    Mount { kind: "pstore", at: "/sys/fs/pstore", flags: NO_DEVICES, options: "" },
];
const EFI: Mount =
    Mount { kind: "efivarfs", at: "/sys/firmware/efi/efivars", flags: NO_DEVICES, options: "" };

/// What the kernel is told before strangers' programs run.
const SETTINGS: [(&str, &str); 11] = [
    // An image has no program that the kernel could ask for modules: it need not try.
    ("kernel/modprobe", "\n"),
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    // A kernel that has lost its way restarts.
    ("kernel/panic_on_oops", "1"),
    ("kernel/panic", "10"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "2"),
    ("fs/protected_symlinks", "1"),
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("vm/panic_on_oom", "0"),
];

/// What supervision has to know.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The disk that the system is on; none where it was not found.
    pub(super) disk: Option<String>,
    pub(super) device: DeviceConfig,
    /// Whether the data area is mounted.
    pub(super) has_data: bool,
    /// The slot's drivers, and the kernel's word about hardware that comes.
    pub(super) drivers: Option<(Modules, Events)>,
}

/// Made once there is an identity on the data area.
pub(super) const HAD_IDENTITY: &str = "/data/system/had-identity";

pub(super) fn prepare(identity: &Path, shared: &Shared) -> Prepared {
    mount_all(shared);
    shared.facts().kernel = sysfs::text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let drivers = load_modules(shared);
    // Only with its module there is such a file system; only on such firmware there is its folder.
    if Path::new(EFI.at).exists() {
        tell(shared, EFI.make());
    }
    let disk = find_disk(shared);
    let wish = disk.as_deref().and_then(|disk| owners_files(disk, shared));
    let device = DeviceConfig::load(&Path::new(boot::COPIES).join("device.toml")).unwrap_or_else(|error| {
        // The parser may repeat a value, and a proxy's may hold a password: the page does not show it.
        console::say(&console::chain(&error));
        shared.remark("device.toml is not understood and counts as empty; the console says why");
        DeviceConfig::default()
    });
    for remark in device.remarks() {
        shared.remark(remark);
    }
    name(&device, shared);
    // Before the data area is mounted: what it holds shall not look as if it came from the future.
    raise_clock(shared);
    let has_data = disk.as_deref().is_some_and(|disk| prepare_data(disk, wish, identity, shared));
    if disk.is_none() {
        hold(shared, "the disk that this system is on was not found");
    }
    if has_data {
        raise_clock(shared);
        if let Err(error) = entropy::restore() {
            shared.remark(format!("the seed for random numbers was not used: {error}"));
        }
        // A device that only ever loses its power moves on, too.
        if let Err(error) = clock::save() {
            shared.remark(format!("the time was not saved: {error}"));
        }
    }
    Prepared { disk, device, has_data, drivers }
}

/// What comes later is heard from before the first look on.
fn load_modules(shared: &Shared) -> Option<(Modules, Events)> {
    let events = Events::listen()
        .map_err(|error| shared.remark(format!("hardware that comes later gets no driver: {error}")))
        .ok();
    let (mut modules, mut wrong) = Modules::open(Path::new("/usr/lib/modules"));
    wrong.extend(modules.load_always());
    wrong.extend(modules.look());
    for error in wrong {
        shared.remark(console::chain(&error));
    }
    let count = modules::count();
    console::say(&format!("{count} kernel modules are loaded"));
    shared.facts().modules = count;
    Some((modules, events?))
}

fn mount_all(shared: &Shared) {
    for mount in MOUNTS {
        tell(shared, mount.make());
    }
    for folder in [boot::COPIES, "/run/log", "/run/lock", "/var/lib", "/var/tmp", "/var/log"] {
        let _ = fs::create_dir_all(folder);
    }
    let _ = fs::set_permissions("/var/tmp", Permissions::from_mode(0o1777));
    let controllers = sysfs::text("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for controller in controllers.split_whitespace() {
        // One by one: a kernel may know one that cannot be delegated.
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"));
    }
    for (key, value) in SETTINGS {
        let _ = fs::write(Path::new("/proc/sys").join(key), value);
    }
}

fn tell(shared: &Shared, done: Result<(), crate::mounts::MountError>) {
    if let Err(error) = done {
        shared.remark(console::chain(&error));
    }
}

fn find_disk(shared: &Shared) -> Option<String> {
    let line = CommandLine::parse(&sysfs::text("/proc/cmdline").unwrap_or_default());
    let found = line.map_err(|error| console::chain(&error)).and_then(|line| {
        let mut facts = shared.facts();
        (facts.slot, facts.board, facts.version) = (line.slot.to_string(), line.board, line.version);
        drop(facts);
        disk::wait_for(line.slot.partition(), Duration::from_secs(10), || {}).map_err(|e| console::chain(&e))
    });
    found.map(|partition| partition.disk).map_err(|error| shared.remark(error)).ok()
}

fn owners_files(disk: &str, shared: &Shared) -> Option<Wish> {
    boot::read(disk).unwrap_or_else(|error| {
        shared.remark(format!("the owner's files are not known: {}", console::chain(&error)));
        None
    })
}

/// The owner's name for it, or one by its first network card or the board's serial number, which stay the same.
fn name(device: &DeviceConfig, shared: &Shared) {
    let name = device.hostname().map_or_else(|| format!("sosna-{}", card_digits()), str::to_owned);
    if let Err(error) = nix::unistd::sethostname(&name) {
        shared.remark(format!("the host name {name} was refused: {error}"));
    }
    shared.facts().hostname = name;
}

fn card_digits() -> String {
    let mut cards: Vec<_> =
        fs::read_dir("/sys/class/net").into_iter().flatten().flatten().map(|e| e.path()).collect();
    cards.sort();
    // A wireless card may be there already or come later, when its firmware runs.
    let is_wired = |card: &&PathBuf| card.join("device").exists() && !card.join("phy80211").exists();
    let hardware = cards.iter().filter(is_wired).find_map(|card| sysfs::text(card.join("address")));
    let serial = || sysfs::text("/proc/device-tree/serial-number");
    let own = hardware.or_else(serial).unwrap_or_default();
    let digits: String = own.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() >= 6 { digits[digits.len() - 6..].to_owned() } else { "device".to_owned() }
}

fn raise_clock(shared: &Shared) {
    match clock::raise() {
        Ok(Some(by)) => console::say(&format!("the clock was {} s behind what is known", by.as_secs())),
        Ok(None) => {}
        Err(error) => shared.remark(format!("the clock cannot be set: {error}")),
    }
}

fn prepare_data(disk: &str, wish: Option<Wish>, identity: &Path, shared: &Shared) -> bool {
    match data::prepare(disk, wish) {
        Ok(ready) => {
            let what = match (ready.made, ready.repaired) {
                (true, _) => "made anew",
                (false, true) => "ready, after a repair",
                (false, false) => "ready",
            };
            if !ready.made && has_lost(identity) {
                hold(shared, &format!("{} was there once and is not any more", identity.display()));
                return false;
            }
            let text = format!("{what}, {} MiB", ready.bytes >> 20);
            console::say(&format!("data area: {text}"));
            shared.facts().data = text;
            for remark in ready.remarks {
                shared.remark(remark);
            }
            if let Some(wish) = wish
                && let Err(error) = boot::remove(disk, boot::file_of(wish))
            {
                shared.remark(format!(
                    "remove the wish from the boot partition by hand: {}",
                    console::chain(&error)
                ));
            }
            folders(shared)
        }
        Err(error) => {
            let advice = if matches!(error, DataError::Disk(_)) { NO_PARTITION } else { WISHES };
            hold_with(shared, &console::chain(&error), advice);
            false
        }
    }
}

/// Whether there was an identity and there is none. A data area that has lost even our own folder has lost all: ours is
/// made before anything else is.
fn has_lost(identity: &Path) -> bool {
    let is_ours = Path::new("/data/system").exists();
    let is_used = Path::new("/data/lost+found").read_dir().is_ok_and(|mut found| found.next().is_some());
    !identity.exists() && (Path::new(HAD_IDENTITY).exists() || (!is_ours && is_used))
}

fn folders(shared: &Shared) -> bool {
    for folder in ["/data/system", AGENT_DATA] {
        let made = fs::create_dir_all(folder)
            .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o700)));
        if let Err(error) = made {
            hold(shared, &format!("cannot make {folder}: {error}"));
            return false;
        }
    }
    true
}

/// What helps where there is a partition.
const WISHES: &str = "the device keeps its identity and waits for its owner: a file sosna/repair-data on the boot \
    partition repairs what can be repaired, sosna/erase-data makes a new device of it";
/// What helps where there is none.
const NO_PARTITION: &str = "the device waits for its owner: restore the partition table, and it is the same device as \
    before; or write the image to the disk again, and it is a new one";

fn hold(shared: &Shared, why: &str) {
    hold_with(shared, why, WISHES);
}

/// The device stays up without its data area, and without the agent.
fn hold_with(shared: &Shared, why: &str, advice: &str) {
    let mut facts = shared.facts();
    facts.data = format!("held: {why}");
    facts.held = true;
    drop(facts);
    shared.remark(format!("the data area is not used: {why}"));
    shared.remark(advice);
}
