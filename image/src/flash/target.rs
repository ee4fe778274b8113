//! A card or disk that may be overwritten, after it was looked at from all sides.
//!
//! What the kernel says under `/sys` and `/proc` counts; the roots of both are arguments, so that tests can build
//! every case without a disk.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::stat::{major, minor};

use crate::Error;

/// What an image may be written to.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
    bytes: u64,
    /// In words, for the question.
    description: String,
    device: bool,
}

// === impl Target ===

impl Target {
    /// Looks at a path.
    ///
    /// # Errors
    /// [`Error::Refused`]: it is a partition, in use, read-only, or neither a disk nor a file.
    pub fn find(path: &Path) -> Result<Self, Error> {
        let meta = fs::metadata(path).map_err(Error::io("open", path))?;
        if meta.is_file() {
            let description = format!("the file {}", path.display());
            return Ok(Self { path: path.to_owned(), bytes: meta.len(), description, device: false });
        }
        if !meta.file_type().is_block_device() {
            return Err(Error::Refused(format!("{} is neither a disk nor a file", path.display())));
        }
        let number = format!("{}:{}", major(meta.rdev()), minor(meta.rdev()));
        let (bytes, description) = look(path, &number, Path::new("/sys"), Path::new("/proc"))?;
        Ok(Self { path: path.to_owned(), bytes, description, device: true })
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it is, in words.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Opens it to be written. The kernel, too, refuses a disk that is in use.
    pub(super) fn open(&self) -> Result<File, Error> {
        let mut options = File::options();
        options.read(true).write(true);
        if self.device {
            options.custom_flags(libc::O_EXCL);
        }
        options.open(&self.path).map_err(Error::io("write", &self.path))
    }
}

/// The size and description of a block device (`major:minor`) that is free to be overwritten.
fn look(path: &Path, number: &str, sys: &Path, proc: &Path) -> Result<(u64, String), Error> {
    let refuse = |reason: String| Err(Error::Refused(format!("{} {reason}", path.display())));
    let link = sys.join("dev/block").join(number);
    let device = fs::canonicalize(&link).map_err(Error::io("open", &link))?;
    let text = |name: &str| fs::read_to_string(device.join(name)).unwrap_or_default().trim().to_owned();
    if device.join("partition").exists() {
        let whole =
            device.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        return refuse(format!("is a partition: give the whole disk, /dev/{whole}"));
    }
    if text("ro") == "1" {
        return refuse("is write-protected: look for a switch on the card".to_owned());
    }
    let sectors: u64 = text("size").parse().unwrap_or(0);
    if sectors == 0 {
        return refuse("has no card or disk in it".to_owned());
    }
    let mounts = fs::read_to_string(proc.join("self/mountinfo")).map_err(Error::io("read", proc))?;
    let swaps = fs::read_to_string(proc.join("swaps")).unwrap_or_default();
    let mut held = None;
    for part in family(&device) {
        let number = fs::read_to_string(part.join("dev")).unwrap_or_default().trim().to_owned();
        let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mounted = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(2);
            (fields.next()? == number).then(|| fields.nth(1).unwrap_or_default().to_owned())
        });
        match mounted.as_deref() {
            Some("/") => return refuse(format!("is the disk that this system runs from ({name})")),
            Some(at) => return refuse(format!("is in use: {name} is mounted at {at}; unmount it first")),
            None => {}
        }
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{name}"))) {
            return refuse(format!("is in use: this system swaps to {name}"));
        }
        if part.join("holders").read_dir().into_iter().flatten().next().is_some() && held.is_none() {
            held = Some(name);
        }
    }
    if let Some(name) = held {
        return refuse(format!("is in use: {name} belongs to a volume or RAID"));
    }
    let model = [text("device/vendor"), text("device/model"), text("device/name")].join(" ");
    let removable = if text("removable") == "1" { "removable" } else { "NOT removable" };
    let bytes = sectors * 512;
    let gb = format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10);
    Ok((bytes, format!("{} ({}, {gb}, {removable})", path.display(), model.trim())))
}

/// A disk, its partitions, and what is built on any of them (volumes, encryption, RAID).
fn family(device: &Path) -> Vec<PathBuf> {
    let mut found = vec![device.to_owned()];
    let mut at = 0;
    while let Some(one) = found.get(at).cloned() {
        at += 1;
        let below =
            |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let partitions = below(one.clone()).filter(|path| path.join("partition").exists());
        let holders = below(one.join("holders")).filter_map(|path| fs::canonicalize(path).ok());
        for next in partitions.chain(holders) {
            // Never more than a system can have; also an end for links in a circle.
            if found.len() < 1024 && !found.contains(&next) {
                found.push(next);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::symlink;

    /// `/sys` and `/proc` of a machine with the disk `sdx` (8:0), its partition `sdx1` (8:1), and on that a volume.
    struct World {
        folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let world = Self { folder };
            for (path, text) in [
                ("sys/block/sdx/dev", "8:0\n"),
                ("sys/block/sdx/size", "62500000\n"),
                ("sys/block/sdx/ro", "0\n"),
                ("sys/block/sdx/removable", "1\n"),
                ("sys/block/sdx/device/model", "Card Reader\n"),
                ("sys/block/sdx/sdx1/dev", "8:1\n"),
                ("sys/block/sdx/sdx1/partition", "1\n"),
                ("sys/block/dm-0/dev", "253:0\n"),
                ("proc/self/mountinfo", "22 1 0:21 / /proc rw - proc proc rw\n"),
                ("proc/swaps", "Filename Type Size Used Priority\n"),
            ] {
                world.write(path, text);
            }
            let root = world.folder.path();
            fs::create_dir_all(root.join("sys/dev/block")).unwrap();
            symlink(root.join("sys/block/sdx"), root.join("sys/dev/block/8:0")).unwrap();
            symlink(root.join("sys/block/sdx/sdx1"), root.join("sys/dev/block/8:1")).unwrap();
            world
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn look(&self, number: &str) -> Result<(u64, String), String> {
            let root = self.folder.path();
            look(Path::new("/dev/sdx"), number, &root.join("sys"), &root.join("proc"))
                .map_err(|e| e.to_string())
        }
    }

    #[test]
    fn a_free_card_is_described() {
        let (bytes, text) = World::new().look("8:0").unwrap();
        assert_eq!(bytes, 32_000_000_000);
        assert_eq!(text, "/dev/sdx (Card Reader, 32.0 GB, removable)");
    }

    #[test]
    fn what_is_in_use_is_refused() {
        let world = World::new();
        assert!(world.look("8:1").unwrap_err().contains("whole disk, /dev/sdx"));
        world.write("proc/self/mountinfo", "25 1 8:1 / /media/card rw - vfat /dev/sdx1 rw\n");
        assert!(world.look("8:0").unwrap_err().contains("mounted at /media/card"));
        world.write("proc/self/mountinfo", "25 1 253:0 / / rw - ext4 /dev/mapper/x rw\n");
        assert!(world.look("8:0").is_ok());
        let root = world.folder.path();
        fs::create_dir_all(root.join("sys/block/sdx/sdx1/holders")).unwrap();
        symlink(root.join("sys/block/dm-0"), root.join("sys/block/sdx/sdx1/holders/dm-0")).unwrap();
        assert!(world.look("8:0").unwrap_err().contains("this system runs from (dm-0)"));
        world.write("proc/self/mountinfo", "");
        assert!(world.look("8:0").unwrap_err().contains("volume or RAID"));
    }

    #[test]
    fn swap_protection_and_empty_readers_are_refused() {
        let world = World::new();
        world.write("proc/swaps", "Filename Type\n/dev/sdx1 partition 1 0 -2\n");
        assert!(world.look("8:0").unwrap_err().contains("swaps to sdx1"));
        world.write("sys/block/sdx/size", "0\n");
        assert!(world.look("8:0").unwrap_err().contains("no card"));
        world.write("sys/block/sdx/ro", "1\n");
        assert!(world.look("8:0").unwrap_err().contains("write-protected"));
    }

    #[test]
    fn folders_and_terminals_are_no_targets() {
        assert!(Target::find(Path::new("/tmp")).is_err());
        assert!(Target::find(Path::new("/dev/null")).is_err());
        assert!(Target::find(Path::new("/nonexistent")).is_err());
    }
}
