//! The bounded place that a container writes to: an ext4 image behind a loop device, or a tmpfs. Both vanish with
//! the mount namespace of the shim, whatever kills it: the loop device clears itself, and the image has no name.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    mount::{MsFlags, mount},
    sys::statvfs::statvfs,
    unistd::{Whence, lseek64},
};

use crate::enforcement::DiskMethod;

/// Up to here a tmpfs is used even where loop devices work: it starts faster and costs little memory.
const SMALL: u64 = 4 << 20;
/// What ext4 with 4 KiB blocks needs for itself, besides its inodes.
const BLOCK: u64 = 4096;
/// Inodes that ext4 and overlayfs use themselves.
const OWN_INODES: u64 = 24;

/// How many formatted images are kept.
const TEMPLATES: usize = 32;

/// A mounted scratch.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    method: DiskMethod,
}

impl Scratch {
    /// Mounts a new scratch of this size at `path`. `templates` holds formatted images by size.
    pub(crate) fn mount(
        path: &Path,
        bytes: u64,
        inodes: u64,
        method: DiskMethod,
        templates: &Path,
    ) -> io::Result<Self> {
        if method == DiskMethod::LoopExt4 && bytes > SMALL {
            mount_ext4(path, bytes, inodes, templates)?;
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
        // ext4 refuses while it still has some blocks, which it keeps for itself and for what is in flight.
        let slack = if self.method == DiskMethod::LoopExt4 { (s.blocks() / 64).max(16) } else { 1 };
        s.blocks_available() < slack || s.files_free() == 0
    }
}

/// Rounds up to a size of which there are few: at most an eighth more.
fn round(n: u64) -> u64 {
    let step = (n.next_power_of_two() / 16).max(1);
    n.div_ceil(step).saturating_mul(step)
}

fn mount_ext4(path: &Path, bytes: u64, inodes: u64, templates: &Path) -> io::Result<()> {
    let inodes = round(inodes.saturating_add(OWN_INODES));
    let size = round(bytes + bytes / 64 + inodes * 256 + (1 << 20)).div_ceil(BLOCK) * BLOCK;
    let template = template(size, inodes, templates)?;
    let image = private_copy(&template, templates, size)?;
    let (device, keep) = crate::sys::attach_loop(&image)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    // Nothing here outlives the container: no barriers, no background zeroing of inode tables.
    mount(Some(&device), path, Some("ext4"), flags, Some("noinit_itable,nobarrier"))?;
    drop(keep);
    let _ = fs::remove_dir(path.join("lost+found"));
    Ok(())
}

/// The formatted image of this size, made now when it is the first time.
fn template(size: u64, inodes: u64, templates: &Path) -> io::Result<PathBuf> {
    let path = templates.join(format!("ext4-{size}-{inodes}.img"));
    if path.exists() {
        return Ok(path);
    }
    let mkfs = mkfs().ok_or_else(|| io::Error::other("mkfs.ext4 is not installed"))?;
    fs::create_dir_all(templates)?;
    forget_old(templates);
    let aside = templates.join(format!(".ext4-{}", std::process::id()));
    let made = (|| {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.set_len(size)?;
        let output = Command::new(mkfs)
            .args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-N", &inodes.to_string()])
            .args(["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
            .arg(&aside)
            .env_clear()
            // mke2fs varies nothing that matters by its environment; the lack of a PATH is fine.
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("mkfs.ext4 failed: {}", why.trim())));
        }
        file.sync_all()?;
        fs::rename(&aside, &path)
    })();
    if made.is_err() {
        let _ = fs::remove_file(&aside);
    }
    made.map(|()| path)
}

/// Keeps the templates few: sizes are what buyers ask for.
fn forget_old(templates: &Path) {
    let entries = fs::read_dir(templates).into_iter().flatten().flatten();
    let mut images: Vec<_> = entries
        .filter(|e| e.file_name().to_string_lossy().ends_with(".img"))
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    images.sort();
    for (_, path) in images.iter().rev().skip(TEMPLATES - 1) {
        let _ = fs::remove_file(path);
    }
}

fn mkfs() -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|d| Path::new(d).join("mkfs.ext4"))
        .find(|p| p.exists())
}

/// A nameless copy of a template's data, with its whole size reserved on the host's disk where that is possible,
/// so that a container's disk is there when it needs it.
fn private_copy(template: &Path, folder: &Path, size: u64) -> io::Result<File> {
    let mut from = File::open(template)?;
    let mut to = nameless(folder)?;
    to.set_len(size)?;
    // Not every file system can reserve; only that there is no room is an answer.
    if let Err(nix::errno::Errno::ENOSPC | nix::errno::Errno::EDQUOT) =
        fallocate(&to, FallocateFlags::empty(), 0, i64::try_from(size).unwrap_or(i64::MAX))
    {
        return Err(io::Error::other(format!("the host's disk has no room for {} MiB", size >> 20)));
    }
    let mut at = 0;
    loop {
        let start = match lseek64(&from, at, Whence::SeekData) {
            Ok(start) => start,
            // There is no more data.
            Err(nix::errno::Errno::ENXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = lseek64(&from, start, Whence::SeekHole)?;
        let (Ok(start_at), Ok(length)) = (u64::try_from(start), u64::try_from(end - start)) else { break };
        from.seek(SeekFrom::Start(start_at))?;
        to.seek(SeekFrom::Start(start_at))?;
        io::copy(&mut (&mut from).take(length), &mut to)?;
        at = end;
    }
    to.flush()?;
    Ok(to)
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
mod tests {
    use super::*;

    #[test]
    fn rounding_is_up_and_by_little() {
        for n in [1, 7, 1000, 1 << 20, (1 << 20) + 1, 3_333_333_333] {
            let r = round(n);
            assert!(r >= n && r <= n + n / 7 + 1, "{n} became {r}");
            assert_eq!(round(r), r);
        }
    }
}
