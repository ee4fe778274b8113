//! The bounded place that a container writes to: an ext4 image behind a loop device, or a tmpfs. Both vanish with
//! the mount namespace of the shim, whatever kills it: the loop device clears itself, and the image has no name.

mod format;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    mount::{MsFlags, mount},
    sys::statvfs::statvfs,
};

use self::format::{BLOCK, INODE, MOST, format};
use crate::enforcement::DiskMethod;

/// Up to here a tmpfs is used even where loop devices work: it starts faster and costs little memory.
const SMALL: u64 = 4 << 20;
/// Inodes that ext4 and overlayfs use themselves.
const OWN_INODES: u64 = 24;
/// Blocks of ext4 that may be left when it refuses: programs write up to a MiB at once, which is taken whole or not at
/// all (large folios), and so are the blocks that would say where it lies.
const SLACK: u64 = 256 + 32;

/// A mounted scratch.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    method: DiskMethod,
}

impl Scratch {
    /// Mounts a new scratch of this size at `path`; its image lies, without a name, in `folder`.
    pub(crate) fn mount(
        path: &Path,
        bytes: u64,
        inodes: u64,
        method: DiskMethod,
        folder: &Path,
    ) -> io::Result<Self> {
        if method == DiskMethod::LoopExt4 && bytes > SMALL {
            mount_ext4(path, bytes, inodes, folder)?;
            return Ok(Self { path: path.into(), method: DiskMethod::LoopExt4 });
        }
        let options = format!("size={bytes},nr_inodes={},mode=0755", inodes.saturating_add(OWN_INODES));
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(options.as_str()),
        )?;
        Ok(Self { path: path.into(), method: DiskMethod::Tmpfs })
    }

    /// The same scratch by another path.
    pub(crate) fn moved(&self, to: impl Fn(&Path) -> PathBuf) -> Self {
        Self { path: to(&self.path), method: self.method }
    }

    /// Whether a program that writes now is likely to be told that the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        let Ok(s) = statvfs(&self.path) else { return false };
        // ext4 refuses a write for which it has not all blocks, and keeps some for what is in flight.
        let slack = if self.method == DiskMethod::LoopExt4 { (s.blocks() / 64).max(SLACK) } else { 1 };
        s.blocks_available() < slack || s.files_free() == 0
    }
}

/// How large an image has to be so that a container can write `bytes` to it and is not said to have filled it before.
fn image_size(bytes: u64, inodes: u64) -> u64 {
    // For each group its bitmaps, and what is lost where blocks and inodes are divided among them.
    let groups = bytes / (u64::from(MOST) * BLOCK) + inodes / u64::from(MOST) + 2;
    let sum = bytes
        // What `is_full` leaves.
        .saturating_add((bytes / 60).max(SLACK * BLOCK))
        // What the kernel keeps for itself: a fiftieth, at most 16 MiB.
        .saturating_add((bytes / 48).min(17 << 20))
        .saturating_add(inodes.saturating_mul(INODE))
        .saturating_add(groups.saturating_mul(11 * BLOCK))
        // Folders and extents.
        .saturating_add(1 << 20);
    sum.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn mount_ext4(path: &Path, bytes: u64, inodes: u64, folder: &Path) -> io::Result<()> {
    let inodes = inodes.saturating_add(OWN_INODES);
    let size = image_size(bytes, inodes);
    fs::create_dir_all(folder)?;
    let image = reserved(folder, size)?;
    format(&image, size, inodes)?;
    let (device, keep) = crate::sys::attach_loop(&image)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    // Nothing here outlives the container: no barriers.
    mount(Some(&device), path, Some("ext4"), flags, Some("nobarrier"))?;
    drop(keep);
    Ok(())
}

/// A nameless file of zeroes, with its whole size reserved on the host's disk where that is possible, so that a
/// container's disk is there when it needs it.
fn reserved(folder: &Path, size: u64) -> io::Result<File> {
    let file = nameless(folder)?;
    file.set_len(size)?;
    // Not every file system can reserve; only that there is no room is an answer.
    if let Err(nix::errno::Errno::ENOSPC | nix::errno::Errno::EDQUOT) =
        fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(size).unwrap_or(i64::MAX))
    {
        return Err(io::Error::other(format!("the host's disk has no room for {} MiB", size >> 20)));
    }
    Ok(file)
}

/// A file without a name in a folder (`O_TMPFILE`, or made and unlinked where the file system has no such thing).
fn nameless(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    options.clone().custom_flags(libc::O_TMPFILE).open(folder).or_else(|_| {
        let path = folder.join(format!(".scratch-{}", std::process::id()));
        let file = options.create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    })
}

/// Tries the whole way of an ext4 scratch once, in `folder`.
pub(crate) fn try_loop(folder: &Path) -> io::Result<()> {
    let at = folder.join(format!(".try-{}", std::process::id()));
    fs::create_dir_all(&at)?;
    let result = mount_ext4(&at, SMALL, 64, folder);
    let _ = nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH);
    let _ = fs::remove_dir(&at);
    result
}

#[cfg(test)]
mod tests;
