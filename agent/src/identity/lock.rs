//! Two agents never share a data folder: counters would be used twice, and one task run two times.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use sosna_host::file::{self, FileError};

/// How long a command has the folder that only looks into it, and more.
const MOMENT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

/// The folder is taken until the value is dropped, in every process that has a copy of it.
#[derive(Debug)]
pub struct FolderLock(File);

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
    /// The same as [`FolderLock::take`], but waits for a moment: an agent that has just ended has the folder until its
    /// monitor has ended what it left behind, and whoever asks for a device's status while none runs has it for as long as
    /// that takes. Blocks meanwhile.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take_soon(data: &Path) -> Result<Self, LockError> {
        let until = Instant::now() + MOMENT;
        loop {
            match Self::take(data) {
                Err(LockError::Held { .. }) if Instant::now() < until => std::thread::sleep(LOOK),
                taken => return taken,
            }
        }
    }

    /// Makes the folder where it is missing, and takes it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(data: &Path) -> Result<Self, LockError> {
        file::create_folder(data)?;
        let path = data.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.map_err(FileError::of("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { path: data.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(FileError::of("lock", &path)(error).into()),
        }
    }
}

impl From<FolderLock> for OwnedFd {
    /// For the process that keeps it: dropping the file unlocks nothing while another copy is open (flock(2)).
    fn from(lock: FolderLock) -> Self {
        lock.0.into()
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

    #[test]
    fn whoever_only_looks_keeps_no_agent_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let looking = FolderLock::take(dir.path()).unwrap();
        let path = dir.path().to_owned();
        let agent = std::thread::spawn(move || FolderLock::take_soon(&path));
        std::thread::sleep(LOOK * 4);
        drop(looking);
        let _held = agent.join().unwrap().unwrap();
        assert!(matches!(FolderLock::take_soon(dir.path()), Err(LockError::Held { .. })));
    }
}
