//! How a container ended: written once by its shim (or by recovery), read by the agent, also after a restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    durable,
    error::{At, Result, RuntimeError},
    spec::ContainerId,
};

/// The layout of [`ExitRecord`] that this build writes and reads.
pub(crate) const VERSION: u32 = 1;
/// The record's name in the task folder.
pub(crate) const FILE: &str = "exit.json";

/// Why a container is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum EndCause {
    /// The program ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// The program was ended by a signal that was not ours.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// The kernel killed for memory.
    OutOfMemory,
    /// Its wall-clock time was up.
    TimedOut,
    /// It failed and its disk was full at the end or shortly before.
    DiskFull,
    /// The agent asked for it.
    Stopped,
    /// It never ran.
    StartFailed {
        /// Why, for a person.
        message: String,
    },
    /// Its shim died (or the machine went down): nothing is known of its end.
    Lost,
}

/// What a container used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, nanoseconds; 0 where there is no cgroup.
    pub cpu_ns: u64,
    /// Most memory at one time, bytes; 0 where there is no cgroup.
    pub peak_memory_bytes: u64,
    /// From start to end, milliseconds.
    pub wall_ms: u64,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, kept as such.
    Symlink,
}

/// One kept file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEntry {
    /// What it is.
    pub kind: OutputKind,
    /// Path relative to the container's root, without a leading `/`; also its place below `outputs/`.
    pub path: String,
    /// Permission bits (0o777).
    pub mode: u32,
    /// Length in bytes of a file's content or a link's target; 0 for folders.
    pub length: u64,
    /// SHA-256 of a file's content or a link's target, lower-case hex; empty for folders.
    pub sha256: String,
}

/// All that is known of a container's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The record's layout.
    pub version: u32,
    /// Which container.
    pub id: ContainerId,
    /// Why it ended.
    pub cause: EndCause,
    /// By the shell's convention: 128 + signal, 127 command not found, 126 not executable, -1 when unknown.
    pub exit_code: i32,
    /// What it used.
    pub usage: Usage,
    /// Bytes that the program wrote to stdout, kept or not.
    pub stdout_bytes: u64,
    /// Bytes that the program wrote to stderr, kept or not.
    pub stderr_bytes: u64,
    /// How many of stdout's bytes were dropped, from the end.
    pub stdout_dropped: u64,
    /// How many of stderr's bytes were dropped, from the end.
    pub stderr_dropped: u64,
    /// The outputs kept, sorted by the bytes of their paths.
    pub outputs: Vec<OutputEntry>,
    /// Declared outputs that were not there, and why others could not be kept whole.
    pub output_problems: Vec<String>,
    /// Why what the container left could not be kept, where the fault is this machine's (its disk is full): then
    /// logs and outputs are not what the container made of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    /// Unix time in milliseconds; 0 when it never started.
    pub started_at_ms: u64,
    /// Unix time in milliseconds.
    pub ended_at_ms: u64,
}

impl ExitRecord {
    /// A record of a container of whose run nothing is known.
    pub(crate) fn without_run(id: ContainerId, cause: EndCause, exit_code: i32) -> Self {
        Self {
            version: VERSION,
            id,
            cause,
            exit_code,
            usage: Usage::default(),
            stdout_bytes: 0,
            stderr_bytes: 0,
            stdout_dropped: 0,
            stderr_dropped: 0,
            outputs: Vec::new(),
            output_problems: Vec::new(),
            not_kept: None,
            started_at_ms: 0,
            ended_at_ms: now_ms(),
        }
    }

    /// Makes the record durable in the task's folder.
    pub(crate) fn write(&self, task_dir: &Path) -> Result<()> {
        let path = task_dir.join(FILE);
        let text = serde_json::to_vec(self)
            .map_err(|source| RuntimeError::Damaged { path: path.clone(), source })?;
        // The folder is closed to all but whoever may read it.
        durable::write(&path, &text, 0o640).at("write the exit record", &path)
    }

    /// The record in a task's folder, if the container has ended.
    pub(crate) fn read(task_dir: &Path) -> Result<Option<Self>> {
        let path: PathBuf = task_dir.join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RuntimeError::Damaged { path, source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read the exit record", path),
        }
    }
}

/// Unix time in milliseconds, by the clock that people see.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ExitRecord::read(dir.path()).unwrap(), None);
        let cause = EndCause::StartFailed { message: "command not found: x".into() };
        let record = ExitRecord::without_run(ContainerId::new("a").unwrap(), cause, 127);
        record.write(dir.path()).unwrap();
        assert_eq!(ExitRecord::read(dir.path()).unwrap(), Some(record));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(matches!(ExitRecord::read(dir.path()), Err(RuntimeError::Damaged { .. })));
    }
}
