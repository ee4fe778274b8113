//! What is in an image, and whether it is whole: read from the image alone, never from what was meant to be in it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Serialize;
use sosna_apt::digest;
use sosna_host::token::JoinToken;

use crate::Error;
use crate::block::disk::{self, Partition};
use crate::block::fat::Fat;
use crate::block::region::Region;
use crate::block::tree::Tree;
use crate::block::verity::{self, BLOCK, Root};
use crate::block::{squashfs, uki};
use crate::bootparts;
use crate::compose::{BOOT, SLOT_A, SLOT_B};
use crate::package::Lock;
use crate::personal::{JOIN, PAYOUT_TO, Personal};

/// An image file, opened for reading.
#[derive(Debug)]
pub struct Image {
    file: File,
    name: String,
    /// Bytes of the whole disk.
    pub bytes: u64,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// All that is said about an image.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Bytes of the whole disk.
    pub bytes: u64,
    /// Partitions as (name, first byte, bytes).
    pub partitions: Vec<(String, u64, u64)>,
    /// The boot images and the slots that they trust.
    pub boots: Vec<BootImage>,
    /// The device's name, if the image has one.
    pub hostname: Option<String>,
    /// The wireless networks whose credentials the image holds, by name. Passwords are not shown.
    pub wifi: Vec<String>,
    /// What the join token says, if there is one. The token itself is not shown.
    pub join: Option<Join>,
    /// The address that earnings go to, where the image names one.
    pub payout_to: Option<String>,
}

/// What a join token says about the device that has it.
#[derive(Debug, Serialize)]
pub struct Join {
    /// Where the hub is.
    pub host: String,
    /// Which hub.
    pub hub: String,
    /// Whose the device becomes.
    pub owner: String,
    /// Seconds since 1970 after which the token is void.
    pub expires: u64,
    /// How many devices may use it.
    pub uses: u32,
}

/// A boot image on the boot partition.
#[derive(Debug, Serialize)]
pub struct BootImage {
    /// Its file or folder.
    pub path: String,
    /// How often it may still be tried, where that is counted.
    pub tries: Option<u32>,
    /// SHA-256 of the file, or of the kernel where there are several.
    pub sha256: String,
    /// `a` or `b`.
    pub slot: String,
    /// The board that it was made for.
    pub board: String,
    /// The system's version.
    pub version: String,
    /// The kernel's version, where the image says it.
    pub kernel: Option<String>,
    /// The kernel's command line.
    pub command_line: String,
    /// The hash that it demands of the slot.
    pub root: String,
    /// What the slot really has.
    pub state: SlotState,
    /// Whether its parts are those that a sound slot names.
    pub parts: PartsState,
    /// The packages that the slot names, as `name version`.
    pub packages: Vec<String>,
}

/// Whether a boot image is the one that its slot was composed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "in")]
pub enum PartsState {
    /// It is.
    Sound,
    /// These parts are others, missing or new.
    Differs(Vec<String>),
    /// The slot is not sound, or names no parts.
    Unchecked,
}

/// Whether a slot is what its boot image trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "because")]
pub enum SlotState {
    /// Data and hash tree are as they must be.
    Sound,
    /// They are not; why.
    Damaged(String),
}

// === impl Image ===

impl Image {
    /// Opens an image, or a disk with one on it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`]: there is no partition table.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let name = path.display().to_string();
        let partitions = disk::read(&mut file).map_err(|error| Error::malformed(&name, error))?;
        let bytes = file.seek(SeekFrom::End(0)).map_err(Error::io("read", path))?;
        Ok(Self { file, name, bytes, partitions })
    }

    /// A partition by its name.
    ///
    /// # Errors
    /// [`Error::Malformed`]: there is none, so this is no image of ours.
    pub fn partition(&self, name: &str) -> Result<&Partition, Error> {
        self.partitions
            .iter()
            .find(|partition| partition.name == name)
            .ok_or_else(|| Error::malformed(&self.name, format!("it has no partition {name}")))
    }

    /// The boot partition, to be read.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn boot(&self) -> Result<Fat<ReadOnly>, Error> {
        let partition = self.partition(BOOT)?;
        let file = self.file.try_clone().map_err(|error| Error::malformed(&self.name, error))?;
        Fat::open(ReadOnly(Region::new(file, partition.start, partition.bytes)))
    }

    /// What the first slot uses of its partition, in bytes; all of it where that cannot be known.
    #[must_use]
    pub fn used_of_slot(&self) -> u64 {
        let boots = self.boot_images().unwrap_or_default();
        let root = boots.iter().find(|boot| boot.slot == "a").and_then(|boot| Root::parse(&boot.root));
        root.map_or(u64::MAX, |root| {
            (root.blocks.saturating_mul(BLOCK as u64)).saturating_add(verity::tree_bytes(root.blocks))
        })
    }

    /// The packages that a sound slot names.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn lock(tree: &Tree) -> Result<Lock, Error> {
        let text = tree.content("usr/share/sosna/packages.toml");
        let text = text.ok_or_else(|| Error::malformed("the slot", "it does not name its packages"))?;
        Lock::parse("the slot", &String::from_utf8_lossy(text))
    }

    /// All about it, hash trees recomputed.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the parts by which everything else is found cannot be read.
    pub fn inspect(&self) -> Result<Inspection, Error> {
        let boot = self.boot()?;
        let boots = boot_images(&boot)?
            .into_iter()
            .map(|mut found| {
                (found.state, found.packages, found.parts) = self.slot(&found, &boot)?;
                Ok(found)
            })
            .collect::<Result<_, Error>>()?;
        let settings = Personal::settings(&boot)?;
        let networks = settings.wifi.map(|wifi| wifi.networks()).unwrap_or_default();
        Ok(Inspection {
            bytes: self.bytes,
            partitions: self.partitions.iter().map(|p| (p.name.clone(), p.start, p.bytes)).collect(),
            boots,
            hostname: settings.hostname,
            wifi: networks.into_iter().map(|network| network.ssid).collect(),
            join: boot.read(JOIN)?.map(|text| Join::parse(&text)).transpose()?,
            payout_to: Personal::agent(&boot)?
                .get(PAYOUT_TO)
                .and_then(|value| value.as_str().map(str::to_owned)),
        })
    }

    /// The boot images without their slots' state: quick.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn boot_images(&self) -> Result<Vec<BootImage>, Error> {
        boot_images(&self.boot()?)
    }

    /// The file system of the slot that a boot image trusts, if it is sound.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it is not.
    pub fn slot_tree(&self, boot: &BootImage) -> Result<Tree, Error> {
        let root = Root::parse(&boot.root).ok_or_else(|| Error::malformed(&boot.path, "it names no slot"))?;
        let bytes = self
            .verified(boot, &root)
            .map_err(|reason| Error::malformed(format!("slot {}", boot.slot), reason))?;
        squashfs::read(&bytes)
    }

    fn slot(
        &self,
        found: &BootImage,
        boot: &Fat<ReadOnly>,
    ) -> Result<(SlotState, Vec<String>, PartsState), Error> {
        let tree = match self.slot_tree(found) {
            Ok(tree) => tree,
            Err(error) => {
                return Ok((SlotState::Damaged(error.to_string()), Vec::new(), PartsState::Unchecked));
            }
        };
        let lock = Self::lock(&tree).ok();
        let packages = lock.map_or_else(Vec::new, |lock| lock.packages);
        let packages = packages.iter().map(|pin| format!("{} {}", pin.name, pin.version)).collect();
        Ok((SlotState::Sound, packages, parts(found, boot, &tree)?))
    }

    /// The slot's data, after its hash tree was computed anew and compared.
    fn verified(&self, boot: &BootImage, wanted: &Root) -> Result<Vec<u8>, String> {
        let name = if boot.slot == "b" { SLOT_B } else { SLOT_A };
        let partition = self.partition(name).map_err(|error| error.to_string())?;
        let data = wanted.blocks.saturating_mul(BLOCK as u64);
        let all = data.saturating_add(verity::tree_bytes(wanted.blocks));
        if wanted.blocks == 0 || all > partition.bytes {
            return Err(format!("{} blocks do not fit into the partition {name}", wanted.blocks));
        }
        let text = |error: std::io::Error| error.to_string();
        let mut region = Region::new(&self.file, partition.start, all);
        let mut bytes = Vec::new();
        region.read_to_end(&mut bytes).map_err(text)?;
        let at = usize::try_from(data).map_err(|error| error.to_string())?;
        if bytes.len() as u64 != all {
            return Err(format!("the image ends within the partition {name}"));
        }
        let stored = bytes.split_off(at);
        let (tree, found) = verity::tree(&mut &bytes[..], wanted.salt).map_err(text)?;
        if found.hash != wanted.hash {
            return Err(format!("its data have the root hash {found}"));
        }
        if tree != stored {
            return Err("its data are right, but the hash tree behind them is not".to_owned());
        }
        Ok(bytes)
    }
}

// === impl Join ===

impl Join {
    fn parse(text: &[u8]) -> Result<Self, Error> {
        let token: JoinToken =
            String::from_utf8_lossy(text).trim().parse().map_err(|error| Error::malformed(JOIN, error))?;
        Ok(Self {
            host: token.host,
            hub: token.hub.checksummed().as_str().to_owned(),
            owner: token.owner.checksummed().as_str().to_owned(),
            expires: token.expires,
            uses: token.uses,
        })
    }
}

fn parts(found: &BootImage, boot: &Fat<ReadOnly>, tree: &Tree) -> Result<PartsState, Error> {
    let Some(list) = tree.content(bootparts::LIST) else { return Ok(PartsState::Unchecked) };
    let is_file = found.path.to_ascii_lowercase().ends_with(".efi");
    let paths = match is_file {
        true => vec![found.path.clone()],
        false => boot.list(&found.path)?.into_iter().map(|(path, _)| path).collect(),
    };
    let mut files = Vec::new();
    for path in paths {
        let content = boot.read(&path)?.unwrap_or_default();
        files.push((path, content));
    }
    let known = bootparts::of(files.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
    let wrong = match known {
        Some(known) => bootparts::differences(&String::from_utf8_lossy(list), &known),
        None => vec!["it is no boot image".to_owned()],
    };
    Ok(if wrong.is_empty() { PartsState::Sound } else { PartsState::Differs(wrong) })
}

/// A partition that cannot be changed through this: a damaged file system is read, never repaired.
#[derive(Debug)]
pub struct ReadOnly(Region<File>);

impl std::io::Read for ReadOnly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Seek for ReadOnly {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl std::io::Write for ReadOnly {
    /// Discards: the library marks a file system as clean when it lets go of it.
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn boot_images(boot: &Fat<ReadOnly>) -> Result<Vec<BootImage>, Error> {
    let mut found = Vec::new();
    for (path, _) in boot.list("EFI/Linux")? {
        if !path.to_ascii_lowercase().ends_with(".efi") {
            continue;
        }
        let image = boot.read(&path)?.unwrap_or_default();
        let text = |name: &str| {
            uki::section(&image, name)
                .map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').trim().to_owned())
        };
        let line = text(".cmdline").unwrap_or_default();
        found.push(describe(path, &image, line, text(".uname")));
    }
    for folder in ["slot-a", "slot-b"] {
        let Some(kernel) = boot.read(&format!("{folder}/vmlinuz"))? else { continue };
        let line = boot.read(&format!("{folder}/cmdline.txt"))?.unwrap_or_default();
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        found.push(describe(folder.to_owned(), &kernel, line, None));
    }
    Ok(found)
}

fn describe(path: String, image: &[u8], command_line: String, kernel: Option<String>) -> BootImage {
    let value = |key: &str| {
        let found =
            command_line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    BootImage {
        tries: tries(&path),
        sha256: digest::of(image).hex(),
        slot: value("sosna.slot"),
        board: value("sosna.board"),
        version: value("sosna.version"),
        root: value("sosna.verity"),
        kernel,
        state: SlotState::Damaged("not looked at".to_owned()),
        parts: PartsState::Unchecked,
        packages: Vec::new(),
        path,
        command_line,
    }
}

/// systemd-boot's counter: `name+LEFT.efi` or `name+LEFT-DONE.efi`.
fn tries(path: &str) -> Option<u32> {
    let (_, counter) = path.strip_suffix(".efi")?.rsplit_once('+')?;
    counter.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read() {
        assert_eq!(tries("EFI/Linux/sosna-0.1.0.efi"), None);
        assert_eq!(tries("EFI/Linux/sosna-0.1.0+3.efi"), Some(3));
        assert_eq!(tries("EFI/Linux/sosna-0.1.0+2-1.efi"), Some(2));
    }

    #[test]
    fn command_lines_are_taken_apart() {
        let line = "sosna.slot=b sosna.verity=x:y:3 sosna.board=rpi sosna.version=1.2.3 quiet".to_owned();
        let boot = describe("slot-b".into(), b"", line, None);
        assert_eq!((boot.slot.as_str(), boot.board.as_str(), boot.version.as_str()), ("b", "rpi", "1.2.3"));
        assert_eq!(boot.root, "x:y:3");
    }
}
