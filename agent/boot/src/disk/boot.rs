//! The owner's files on the boot partition, `/sosna/*`: read at boot into memory, removed one by one when they have
//! done their work. The partition is mounted for moments only: FAT has no journal.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, TryLockError},
};

use nix::mount::MsFlags;

use super::{BOOT, DiskError, data::Wish, on_disk};
use crate::mounts::{self, MountError};

/// Where copies of the files lie while the system runs, in memory.
pub const COPIES: &str = "/run/sosna";
/// A partition that is mounted to be read cannot be mounted to be written: one after the other.
static TURN: Mutex<()> = Mutex::new(());
const MOUNT: &str = "/boot";
const FOLDER: &str = "/boot/sosna";
/// What an owner writes fits easily.
const LARGEST: u64 = 64 * 1024;
/// The files, and whether only root may read the copy.
const FILES: [(&str, bool); 3] = [("device.toml", true), ("agent.toml", true), ("join", true)];

/// Why the boot partition's files are not known.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// It is not there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It does not mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A file.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Copies the owner's files to [`COPIES`] and returns what the owner wishes for the data partition.
///
/// # Errors
/// [`BootError`].
pub fn read(disk: &str) -> Result<Option<Wish>, BootError> {
    with_mounted(disk, MsFlags::MS_RDONLY, || {
        for (name, private) in FILES {
            copy(&Path::new(FOLDER).join(name), &Path::new(COPIES).join(name), private)?;
        }
        Ok(wish(Path::new(FOLDER)))
    })
}

/// Looks at the boot partition, mounted at the folder that `work` is given.
///
/// # Errors
/// [`BootError`].
pub fn look<T>(disk: &str, work: impl FnOnce(&Path) -> Result<T, BootError>) -> Result<T, BootError> {
    with_mounted(disk, MsFlags::MS_RDONLY, || work(Path::new(MOUNT)))
}

/// Whether somebody uses the boot partition now, which may take seconds.
#[must_use]
pub fn is_busy() -> bool {
    matches!(TURN.try_lock(), Err(TryLockError::WouldBlock))
}

/// Removes a file of the owner's that has done its work, the copy with it. One that is not there is no error.
///
/// # Errors
/// [`BootError`].
pub fn remove(disk: &str, name: &str) -> Result<(), BootError> {
    with_mounted(disk, MsFlags::MS_SYNCHRONOUS, || {
        for path in [Path::new(FOLDER).join(name), Path::new(COPIES).join(name)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(BootError::File { path, source });
                }
                _ => {}
            }
        }
        nix::unistd::sync();
        Ok(())
    })
}

/// The file's name for a wish.
#[must_use]
pub fn file_of(wish: Wish) -> &'static str {
    match wish {
        Wish::Repair => "repair-data",
        Wish::Erase => "erase-data",
    }
}

/// Of two wishes the one that destroys less counts.
fn wish(folder: &Path) -> Option<Wish> {
    [Wish::Repair, Wish::Erase].into_iter().find(|wish| folder.join(file_of(*wish)).exists())
}

fn with_mounted<T>(
    disk: &str,
    flags: MsFlags,
    work: impl FnOnce() -> Result<T, BootError>,
) -> Result<T, BootError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let partition = on_disk(disk, BOOT)?;
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // One table of characters for both forms of names: ours need no other, and each is a module.
    mounts::device(&partition.device, "vfat", Path::new(MOUNT), flags, "umask=0077,iocharset=cp437")?;
    let done = work();
    mounts::remove(Path::new(MOUNT)).map_err(|source| BootError::File { path: MOUNT.into(), source })?;
    done
}

fn copy(from: &Path, to: &Path, private: bool) -> Result<(), BootError> {
    let failed = |source| BootError::File { path: from.to_owned(), source };
    let mut text = Vec::new();
    match fs::File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) => file.take(LARGEST + 1).read_to_end(&mut text).map_err(failed)?,
    };
    if text.len() as u64 > LARGEST {
        return Err(failed(io::Error::other(format!("it is larger than {LARGEST} bytes"))));
    }
    let mode = if private { 0o600 } else { 0o644 };
    let mut copy =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(to).map_err(failed)?;
    copy.write_all(&text).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_milder_wish_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(wish(folder.path()), None);
        fs::write(folder.path().join("erase-data"), "").unwrap();
        assert_eq!(wish(folder.path()), Some(Wish::Erase));
        fs::write(folder.path().join("repair-data"), "").unwrap();
        assert_eq!(wish(folder.path()), Some(Wish::Repair));
    }

    #[test]
    fn copies_are_private_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        copy(&from, &to, true).unwrap();
        assert!(!to.exists());
        fs::write(&from, "secret").unwrap();
        copy(&from, &to, true).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&from, vec![0; 70_000]).unwrap();
        assert!(copy(&from, &to, true).unwrap_err().to_string().contains('a'));
    }
}
