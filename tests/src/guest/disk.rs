//! A device's disk while the device is off: what somebody with a card reader, or time, can do to it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use sosna_image::block::fat::Fat;
use sosna_image::block::region::Region;
use sosna_image::block::squashfs;
use sosna_image::block::verity::{BLOCK, Root};
use sosna_image::compose::{BOOT, DATA, SLOT_A};
use sosna_image::inspect::{BootImage, Image};
use xtask::paths::Tree;
use xtask::tools::programs;

use crate::secrets::Needle;

/// A disk image.
#[derive(Debug)]
pub struct Disk(PathBuf);

// === impl Disk ===

impl Disk {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(&self.0).unwrap()
    }

    /// Where a partition begins, and its length.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn partition(&self, name: &str) -> (u64, u64) {
        let image = Image::open(&self.0).unwrap();
        let found = image.partition(name).unwrap();
        (found.start, found.bytes)
    }

    /// Bytes of the disk.
    ///
    /// # Panics
    /// When it is shorter.
    #[must_use]
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut file = self.open();
        file.seek(SeekFrom::Start(at)).unwrap();
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Overwrites bytes of the disk.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let mut file = self.open();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    /// Turns one bit of the disk.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn flip(&self, at: u64) {
        let byte = self.read(at, 1)[0];
        self.write(at, &[byte ^ 0x10]);
    }

    /// Does something with the files of the boot partition.
    ///
    /// # Panics
    /// When it is none.
    pub fn on_boot<T>(&self, act: impl FnOnce(&Fat<Region<File>>) -> T) -> T {
        let (start, bytes) = self.partition(BOOT);
        let fat = Fat::open(Region::new(self.open(), start, bytes)).unwrap();
        let done = act(&fat);
        fat.finish().unwrap();
        done
    }

    /// Whether the boot partition has a file.
    #[must_use]
    pub fn has_boot_file(&self, path: &str) -> bool {
        self.on_boot(|fat| fat.read(path).unwrap().is_some())
    }

    /// Puts a file of the owner's onto the boot partition.
    ///
    /// # Panics
    /// When there is no room.
    pub fn put_boot_file(&self, path: &str, content: &[u8]) {
        self.on_boot(|fat| fat.write(path, content).unwrap());
    }

    /// The boot image of the first slot.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn boot_image(&self) -> BootImage {
        Image::open(&self.0)
            .unwrap()
            .boot_images()
            .unwrap()
            .into_iter()
            .find(|boot| boot.slot == "a")
            .unwrap()
    }

    fn root(&self) -> Root {
        Root::parse(&self.boot_image().root).unwrap()
    }

    /// The first byte of the hash tree of the first slot: its topmost block.
    #[must_use]
    pub fn hash_tree(&self) -> u64 {
        self.partition(SLOT_A).0 + self.root().blocks * BLOCK as u64
    }

    /// The first byte of the data of the first slot.
    #[must_use]
    pub fn slot(&self) -> u64 {
        self.partition(SLOT_A).0
    }

    /// A byte in the middle of what the slot keeps of a file, as its file system lays it down.
    ///
    /// # Panics
    /// When the slot is not sound, or has no such file, or it is too small to have blocks of its own.
    #[must_use]
    pub fn middle_of(&self, path: &str) -> u64 {
        let start = self.slot();
        let length = usize::try_from(self.root().blocks).unwrap() * BLOCK;
        let (first, stored) = squashfs::place(&self.read(start, length), path).unwrap().unwrap();
        start + first + stored / 2
    }

    /// Has `debugfs` do something with the data area; what it said.
    ///
    /// # Panics
    /// When it cannot be had, or does not do it.
    pub fn debugfs(&self, requests: &[&str]) -> String {
        let (start, _) = self.partition(DATA);
        let tree = Tree::find().unwrap();
        let mut said = String::new();
        for request in requests {
            let mut command = Command::new(programs::find(&tree, "e2fsprogs", "usr/sbin/debugfs").unwrap());
            command.args(["-w", "-R", request]).arg(format!("{}?offset={start}", self.0.display()));
            let done = command.output().unwrap();
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            // It greets there, and complains there.
            let complaints: Vec<_> = words.lines().filter(|line| !line.starts_with("debugfs 1.")).collect();
            assert!(done.status.success() && complaints.is_empty(), "{request}: {words}");
            said.push_str(&String::from_utf8_lossy(&done.stdout));
        }
        said
    }

    /// That the device's key is on its data area and nowhere else, such as on the partition that any card reader shows.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_key_is_on_data_alone(&self) {
        let needle = Needle::of_file(self.debugfs(&["cat agent/identity.key"]).as_bytes());
        let (start, bytes) = self.partition(DATA);
        assert!(needle.is_in_part(&self.0, start..start + bytes), "the key is not found where it must be");
        let end = self.0.metadata().unwrap().len();
        for other in [0..start, start + bytes..end] {
            assert!(!needle.is_in_part(&self.0, other.clone()), "the key lies at {other:?} of the disk");
        }
    }

    /// Removes a partition from the table; what is on it stays.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn forget_partition(&self, number: u32) {
        let tree = Tree::find().unwrap();
        let mut sfdisk = Command::new(programs::find(&tree, "fdisk", "sbin/sfdisk").unwrap());
        let done = sfdisk
            .args(["--no-reread", "--no-tell-kernel", "--delete"])
            .arg(&self.0)
            .arg(number.to_string())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
