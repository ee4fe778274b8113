//! The boot partition: boot loader, and for each slot the boot image that trusts exactly that slot.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};

use super::slot::os_release;
use super::{Parts, Request, System};
use crate::Error;
use crate::block::disk::derive_guid;
use crate::block::fat::Fat;
use crate::block::uki;
use crate::board::Boot;
use crate::bootparts;
use crate::personal::Personal;

/// Which half of the disk a boot image belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

/// Files with their paths on the boot partition.
pub(super) type Files = Vec<(String, Vec<u8>)>;

// === impl Slot ===

impl Slot {
    fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

// === impl System ===

impl System {
    /// The boot image of this system in a slot: files with their paths on the boot partition.
    ///
    /// # Errors
    /// [`Error::Malformed`]: a package lacks what is needed.
    pub fn boot_image(&self, request: &Request<'_>, slot: Slot) -> Result<Vec<(String, Vec<u8>)>, Error> {
        image(request, &self.parts, &self.initramfs, slot, &self.command_line(request, slot))
    }

    fn command_line(&self, request: &Request<'_>, slot: Slot) -> String {
        let description = &request.board.description;
        let consoles = description.console.iter().map(|console| format!(" console={console}"));
        let others = description.arguments.iter().map(|word| format!(" {word}"));
        let more: String = consoles.chain(others).collect();
        format!(
            "sosna.slot={} sosna.verity={} sosna.board={} sosna.version={}{more} panic=-1 quiet",
            slot.letter(),
            self.root,
            request.board.name,
            request.version
        )
    }
}

/// A boot image with this command line.
pub(super) fn image(
    request: &Request<'_>,
    parts: &Parts,
    initramfs: &[u8],
    slot: Slot,
    command_line: &str,
) -> Result<Files, Error> {
    match request.board.description.boot {
        Boot::Uefi => {
            let is_arm = request.board.description.architecture == "arm64";
            let image = uki::build(&uki::Parts {
                stub: parts.firmware(if is_arm { "linuxaa64.efi.stub" } else { "linuxx64.efi.stub" })?,
                os_release: &os_release(request),
                command_line,
                uname: &parts.release,
                initramfs,
                kernel: &parts.kernel,
            })?;
            Ok(vec![(format!("EFI/Linux/{}", uki_name(request.version)), image)])
        }
        Boot::RaspberryPi => {
            let folder = format!("slot-{}", slot.letter());
            let mut files = vec![
                (format!("{folder}/vmlinuz"), gzip(&parts.kernel)?),
                (format!("{folder}/initrd"), initramfs.to_vec()),
                (format!("{folder}/cmdline.txt"), format!("{command_line}\n").into_bytes()),
                (format!("{folder}/os-release"), os_release(request).into_bytes()),
            ];
            for (name, tree) in &parts.device_trees {
                files.push((format!("{folder}/{name}"), tree.clone()));
            }
            Ok(files)
        }
    }
}

/// The list of its parts for the slot, whose own hash only the command line depends on.
pub(super) fn list(request: &Request<'_>, parts: &Parts, initramfs: &[u8]) -> Result<String, Error> {
    let files = image(request, parts, initramfs, Slot::A, "")?;
    let parts = bootparts::of(files.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
    let parts = parts.ok_or_else(|| Error::malformed("the boot image", "its parts cannot be told apart"))?;
    Ok(bootparts::text(&parts))
}

/// The file name of a unified image of a version that needs no trial.
#[must_use]
pub fn uki_name(version: &str) -> String {
    format!("sosna-{version}.efi")
}

/// The whole boot partition.
pub(super) fn partition(
    request: &Request<'_>,
    parts: &Parts,
    boot_image: &Files,
    personal: &Personal,
) -> Result<Vec<u8>, Error> {
    let bytes = request.board.description.sizes.boot << 20;
    let guid = derive_guid(&["boot partition", request.version, &request.board.name]);
    let serial = u32::from_le_bytes([guid[0], guid[1], guid[2], guid[3]]);
    let room = |needed: u64| Error::Room { what: "the boot partition".to_owned(), needed, room: bytes };
    let mut memory = vec![0; usize::try_from(bytes).map_err(|_| room(bytes))?];
    let fat = Fat::format(&mut memory, serial)?;
    let loader = loader(request, parts)?;
    let all = || loader.iter().chain(boot_image);
    let needed: u64 = all().map(|(_, content)| content.len() as u64).sum();
    if needed > bytes / 100 * 98 {
        return Err(room(needed));
    }
    for (path, content) in all() {
        fat.write(path, content)?;
    }
    personal.write(&fat)?;
    fat.finish()?;
    Ok(memory)
}

/// The files that belong to no slot.
fn loader(request: &Request<'_>, parts: &Parts) -> Result<Files, Error> {
    let mut files = Vec::new();
    match request.board.description.boot {
        Boot::Uefi => {
            let (name, file) = if request.board.description.architecture == "arm64" {
                ("BOOTAA64.EFI", "systemd-bootaa64.efi")
            } else {
                ("BOOTX64.EFI", "systemd-bootx64.efi")
            };
            files.push((format!("EFI/BOOT/{name}"), parts.firmware(file)?.to_vec()));
            // Nobody may edit the command line: it carries the root of trust.
            files.push(("loader/loader.conf".to_owned(), b"timeout 0\neditor no\n".to_vec()));
        }
        Boot::RaspberryPi => {
            for name in ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"] {
                files.push((name.to_owned(), parts.firmware(name)?.to_vec()));
            }
            files.push(("config.txt".to_owned(), CONFIG.as_bytes().to_vec()));
        }
    }
    Ok(files)
}

/// What the Pi's firmware reads; the last line names the slot.
const CONFIG: &str = "# Sosna. The last line chooses the slot.\n\
    arm_64bit=1\nenable_uart=1\nupstream_kernel=1\n\
    kernel=vmlinuz\ninitramfs initrd followkernel\ncmdline=cmdline.txt\nos_prefix=slot-a/\n";

/// The Pi's firmware unpacks it.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer
        .write_all(bytes)
        .and_then(|()| writer.finish())
        .map_err(|error| Error::malformed("the kernel", error))
}
