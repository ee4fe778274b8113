//! Which disk this system is on, and its partitions by their GPT names. Two disks with Sosna on them in one machine
//! are an error and not a choice: with the wrong data partition a device would be somebody else.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

pub mod boot;
pub mod data;
mod ext4;
mod gpt;

use crate::sysfs;

/// The boot loader's partition; also how a disk of ours is known.
pub const BOOT: &str = "sosna-boot";
/// What a device keeps.
pub const DATA: &str = "sosna-data";
const BLOCK_DEVICES: &str = "/sys/class/block";

/// A named partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its GPT name.
    pub name: String,
    /// Its number on the disk.
    pub number: u32,
    /// Its file in `/dev`.
    pub device: PathBuf,
    /// The name of the disk that it is on.
    pub disk: String,
}

/// Why a partition was not found.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// On no disk.
    #[error("no disk has the partitions {BOOT} and {name}; disks and partitions here: {seen}")]
    Missing {
        /// The partition.
        name: String,
        /// What there is.
        seen: String,
    },
    /// On several.
    #[error(
        "the disks {disks} all carry Sosna, and which one was booted cannot be known; take all but one out of the machine"
    )]
    Several {
        /// Their names.
        disks: String,
    },
}

/// Waits until a disk with `sosna-boot` and `name` appears (cards and USB disks take seconds) and returns `name`.
/// `meanwhile` is called before every look.
///
/// # Errors
/// [`DiskError`].
pub fn wait_for(name: &str, longest: Duration, mut meanwhile: impl FnMut()) -> Result<Partition, DiskError> {
    let end = Instant::now() + longest;
    loop {
        meanwhile();
        match choose(&scan(Path::new(BLOCK_DEVICES)), name) {
            Err(DiskError::Missing { .. }) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(50))
            }
            other => return other,
        }
    }
}

/// The partition `name` of the disk `disk`.
///
/// # Errors
/// [`DiskError::Missing`].
pub fn on_disk(disk: &str, name: &str) -> Result<Partition, DiskError> {
    let all: Vec<_> = scan(Path::new(BLOCK_DEVICES)).into_iter().filter(|p| p.disk == disk).collect();
    all.iter().find(|p| p.name == name).cloned().ok_or_else(|| missing(&all, name))
}

/// All partitions with a name.
fn scan(devices: &Path) -> Vec<Partition> {
    let mut found: Vec<_> =
        fs::read_dir(devices).into_iter().flatten().flatten().filter_map(|e| read(&e.path())).collect();
    found.sort_by(|a: &Partition, b| (&a.disk, a.number).cmp(&(&b.disk, b.number)));
    found
}

fn read(path: &Path) -> Option<Partition> {
    let number = sysfs::value(path.join("partition"))?;
    let event = sysfs::text(path.join("uevent"))?;
    let of = |key: &str| event.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let name = of("PARTNAME")?.to_owned();
    let device = Path::new("/dev").join(of("DEVNAME")?);
    // /sys/class/block/vda2 leads to …/block/vda/vda2: a partition lies in its disk's folder.
    let disk = fs::canonicalize(path).ok()?.parent()?.file_name()?.to_str()?.to_owned();
    Some(Partition { name, number, device, disk })
}

fn choose(all: &[Partition], name: &str) -> Result<Partition, DiskError> {
    let is_ours = |disk: &str| all.iter().any(|p| p.disk == disk && p.name == BOOT);
    let fitting: Vec<_> = all.iter().filter(|p| p.name == name && is_ours(&p.disk)).collect();
    match fitting.as_slice() {
        [] => Err(missing(all, name)),
        [one] => Ok((*one).clone()),
        several => {
            let disks: Vec<_> = several.iter().map(|p| p.disk.as_str()).collect();
            Err(DiskError::Several { disks: disks.join(", ") })
        }
    }
}

fn missing(all: &[Partition], name: &str) -> DiskError {
    let seen: Vec<_> = all.iter().map(|p| format!("{} ({})", p.device.display(), p.name)).collect();
    let seen = if seen.is_empty() { "none with a name".to_owned() } else { seen.join(", ") };
    DiskError::Missing { name: name.to_owned(), seen }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::symlink;

    use super::*;

    fn partition(root: &Path, disk: &str, number: u32, name: &str) {
        let folder = root.join("devices/block").join(disk).join(format!("{disk}{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("partition"), format!("{number}\n")).unwrap();
        let event = format!(
            "MAJOR=254\nDEVNAME={disk}{number}\nDEVTYPE=partition\nPARTN={number}\nPARTNAME={name}\n"
        );
        fs::write(folder.join("uevent"), event).unwrap();
        fs::create_dir_all(root.join("class")).unwrap();
        symlink(&folder, root.join("class").join(format!("{disk}{number}"))).unwrap();
    }

    #[test]
    fn a_slot_is_found_beside_the_boot_partition_only() {
        let root = tempfile::tempdir().unwrap();
        for (number, name) in [(1, "sosna-boot"), (2, "sosna-a"), (3, "sosna-b"), (4, "sosna-data")] {
            partition(root.path(), "vda", number, name);
        }
        partition(root.path(), "vdb", 1, "sosna-a");
        partition(root.path(), "vdb", 2, "EFI System");
        let all = scan(&root.path().join("class"));
        assert_eq!(all.len(), 6);
        let slot = choose(&all, "sosna-a").unwrap();
        assert_eq!(
            (slot.device.as_path(), slot.disk.as_str(), slot.number),
            (Path::new("/dev/vda2"), "vda", 2)
        );
        let error = choose(&all, "sosna-c").unwrap_err().to_string();
        assert!(error.contains("/dev/vdb1 (sosna-a)"), "{error}");
    }

    #[test]
    fn two_disks_of_ours_are_refused_and_named() {
        let root = tempfile::tempdir().unwrap();
        for disk in ["sda", "sdb"] {
            partition(root.path(), disk, 1, "sosna-boot");
            partition(root.path(), disk, 2, "sosna-a");
        }
        let error = choose(&scan(&root.path().join("class")), "sosna-a").unwrap_err();
        assert!(error.to_string().contains("sda, sdb"), "{error}");
    }

    #[test]
    fn nothing_there_is_told() {
        let error = choose(&[], "sosna-a").unwrap_err().to_string();
        assert!(error.contains("none with a name"), "{error}");
    }
}
