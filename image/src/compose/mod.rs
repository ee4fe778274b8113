//! From a board, its packages and our programs to a disk image.
//!
//! The same inputs give the same bytes: no clock, no randomness, no order of a folder.

mod boot;
mod elf;
mod layout;
mod parts;
mod slot;
mod wireless;

use std::collections::BTreeSet;
use std::path::Path;

use crate::Error;
use crate::block::cpio;
use crate::block::tree::Tree;
use crate::block::verity::Root;
use crate::board::Board;
use crate::package::Cache;
use crate::personal::Personal;

pub use boot::{Slot, uki_name};
pub use layout::{Layout, needed_bytes, written};
pub use parts::Parts;

/// The four partitions' names.
pub const BOOT: &str = "sosna-boot";
/// The first slot.
pub const SLOT_A: &str = "sosna-a";
/// The second slot.
pub const SLOT_B: &str = "sosna-b";
/// What the device itself writes.
pub const DATA: &str = "sosna-data";

/// What an image is to be made of.
#[derive(Debug)]
pub struct Request<'a> {
    /// For which board.
    pub board: &'a Board,
    /// The system's version; boot loaders choose the newest.
    pub version: &'a str,
    /// The agent: a static program for the board's processor.
    pub agent: &'a [u8],
    /// The first program, `sosna-init`: likewise.
    pub init: &'a [u8],
    /// The time of all files, in seconds since 1970.
    pub epoch: u32,
}

/// A system that can be put into a slot, of an image or of a bundle.
#[derive(Debug)]
pub struct System {
    /// The slot's file system and its hash tree.
    pub slot: Vec<u8>,
    /// What the kernel must know of it.
    pub root: Root,
    /// The initramfs.
    pub initramfs: Vec<u8>,
    /// How many kernel modules it ships, in both stages.
    pub modules: usize,
    /// How many of them are loaded on every machine.
    pub modules_always: usize,
    parts: Parts,
}

/// Figures of an image that was composed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Bytes of the image file; most of it are holes.
    pub image_bytes: u64,
    /// Bytes of the slot: file system and hash tree.
    pub slot_bytes: u64,
    /// Bytes of the slot's boot image (kernel, initramfs, command line).
    pub boot_image_bytes: u64,
    /// Both together after zstd: what a device downloads for an update.
    pub slot_compressed_bytes: u64,
    /// Bytes of the initramfs.
    pub initramfs_bytes: u64,
    /// Kernel modules that are shipped, in both stages.
    pub modules: usize,
    /// Those that are loaded on every machine; the others are where their hardware is.
    pub modules_always: usize,
    /// The kernel's version.
    pub kernel: String,
    /// What the slot's hash tree must begin with.
    pub root: String,
}

/// Makes the system of a board.
///
/// # Errors
/// [`Error`]: a package cannot be had, or something is not built as it should be.
pub fn system(request: &Request<'_>, cache: &Cache, progress: &dyn Fn(&str)) -> Result<System, Error> {
    elf::check("the agent", request.agent, &request.board.description.architecture)?;
    elf::check("sosna-init", request.init, &request.board.description.architecture)?;
    let parts = Parts::obtain(request.board, cache, progress)?;
    progress("resolving kernel modules");
    let (first, second) = parts.modules(&request.board.description)?;
    progress("composing the initramfs");
    let mut tree = Tree::new();
    for folder in ["dev", "proc", "sys", "run", "slot"] {
        tree.folder(folder, 0o755);
    }
    tree.file("init", 0o755, request.init);
    slot::add_modules(&mut tree, "modules", &first);
    let initramfs = cpio::compressed(&tree, request.epoch)?;
    progress("composing the slot");
    let (slot, root) = slot::compose(request, &parts, &second, &boot::list(request, &parts, &initramfs)?)?;
    let room = request.board.description.sizes.slot << 20;
    if slot.len() as u64 > room {
        return Err(Error::Room { what: "the slot".to_owned(), needed: slot.len() as u64, room });
    }
    let shipped: BTreeSet<&str> =
        first.modules.iter().chain(&second.modules).map(|module| module.file.as_str()).collect();
    let (modules, modules_always) = (shipped.len(), first.always.len() + second.always.len());
    Ok(System { slot, root, initramfs, modules, modules_always, parts })
}

/// Composes an image of a board into a file. `size` is the whole image's, in bytes; by default as small as can be.
///
/// # Errors
/// [`Error`].
pub fn image(
    request: &Request<'_>,
    personal: &Personal,
    size: Option<u64>,
    cache: &Cache,
    into: &Path,
    progress: &dyn Fn(&str),
) -> Result<Report, Error> {
    let layout = Layout::new(request, size)?;
    let system = system(request, cache, progress)?;
    progress("composing the boot partition");
    let boot_image = system.boot_image(request, Slot::A)?;
    let fat = boot::partition(request, &system.parts, &boot_image, personal)?;
    progress("writing the image");
    layout.write(into, &fat, &system.slot)?;
    let boot_image_bytes: usize = boot_image.iter().map(|(_, content)| content.len()).sum();
    progress("measuring");
    let mut compressed = packed(&system.slot)?;
    for (_, content) in &boot_image {
        compressed += packed(content)?;
    }
    Ok(Report {
        image_bytes: layout.bytes,
        slot_bytes: system.slot.len() as u64,
        boot_image_bytes: boot_image_bytes as u64,
        slot_compressed_bytes: compressed,
        initramfs_bytes: system.initramfs.len() as u64,
        modules: system.modules,
        modules_always: system.modules_always,
        kernel: system.parts.release.clone(),
        root: system.root.to_string(),
    })
}

/// Bytes after compression as for a download. Not the hardest level: this only measures.
fn packed(bytes: &[u8]) -> Result<u64, Error> {
    let packed = zstd::bulk::compress(bytes, 9).map_err(|error| Error::malformed("a part", error))?;
    Ok(packed.len() as u64)
}
