//! Two agents never share a data folder: counters would be used twice, and one task run two times.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};
use sosna_host::file::{self, FileError};

/// The folder is this process's until the value is dropped, or the process is gone.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another agent has it.
    #[error("{path} is in use by a running agent; stop it first, or choose another folder with --data")]
    Held {
        /// The folder.
        path: String,
    },
}

// === impl FolderLock ===

impl FolderLock {
    /// Makes the folder where it is missing, and takes it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(data: &Path) -> Result<Self, LockError> {
        file::create_folder(data)?;
        let path = data.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.map_err(FileError::of("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                Err(LockError::Held { path: data.display().to_string() })
            }
            Err((_, errno)) => Err(FileError::of("lock", &path)(errno.into()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_folder_has_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path()).unwrap();
        let second = FolderLock::take(dir.path()).unwrap_err();
        assert!(second.to_string().contains("in use"), "{second}");
        drop(first);
        FolderLock::take(dir.path()).unwrap();
    }
}
