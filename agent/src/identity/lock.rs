//! Two agents never share a data folder: counters would be used twice, and one task run two times.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use sosna_host::file::{self, FileError};

/// How long a command has the folder that only looks into it, and more.
const MOMENT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

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
    /// The same as [`FolderLock::take`], but waits for a moment: whoever asks for a device's status while no agent runs
    /// has the folder for as long as that takes, and must not keep an agent from starting. Blocks meanwhile.
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
