//! Mounting, with errors that say what and where. The tables of what is mounted belong to the stages.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// One file system that is not on a disk.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    /// Its kind; also its name in the table of mounts.
    pub kind: &'static str,
    /// Where.
    pub at: &'static str,
    /// Flags beyond what everybody gets.
    pub flags: MsFlags,
    /// Options of the kind.
    pub options: &'static str,
}

/// A mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {what} at {at}", at = at.display())]
pub struct MountError {
    /// A device or a kind of file system.
    pub what: String,
    /// Where.
    pub at: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

// === impl Mount ===

impl Mount {
    /// Mounts it unless something of this kind is there already.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn make(&self) -> Result<(), MountError> {
        let at = Path::new(self.at);
        if is_mounted(self.at) {
            return Ok(());
        }
        // On a read-only root the folder is there already, and where it is not the mount says so.
        let _ = fs::create_dir_all(at);
        let flags = MsFlags::MS_NOSUID | self.flags;
        mount(Some(self.kind), at, Some(self.kind), flags, Some(self.options)).map_err(|errno| MountError {
            what: self.kind.to_owned(),
            at: at.to_owned(),
            source: errno.into(),
        })
    }
}

/// Mounts a device.
///
/// # Errors
/// [`MountError`].
pub fn device(device: &Path, kind: &str, at: &Path, flags: MsFlags, options: &str) -> Result<(), MountError> {
    mount(Some(device), at, Some(kind), flags, Some(options)).map_err(|errno| MountError {
        what: format!("{} ({kind})", device.display()),
        at: at.to_owned(),
        source: errno.into(),
    })
}

/// Moves a mount.
///
/// # Errors
/// [`MountError`].
pub fn shift(from: &Path, to: &Path) -> Result<(), MountError> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(|errno| MountError {
        what: from.display().to_string(),
        at: to.to_owned(),
        source: errno.into(),
    })
}

/// Takes a mount away.
///
/// # Errors
/// As `umount2`: busy, not mounted.
pub fn remove(at: &Path) -> io::Result<()> {
    umount2(at, MntFlags::UMOUNT_NOFOLLOW).map_err(Into::into)
}

/// Whether something is mounted at exactly this place.
#[must_use]
pub fn is_mounted(at: &str) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    points(&table).any(|point| point == at)
}

/// Where everything is mounted, in the order of mounting.
pub(crate) fn points(table: &str) -> impl DoubleEndedIterator<Item = &str> {
    table.lines().filter_map(|line| line.split(' ').nth(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_mounts_is_read() {
        let table = "proc /proc proc rw 0 0\n/dev/vda4 /data ext4 rw 0 0\n";
        assert_eq!(points(table).collect::<Vec<_>>(), ["/proc", "/data"]);
    }
}
