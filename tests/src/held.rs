//! What a process holds, and what lies in its folder.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// What a process holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Open file descriptors.
    pub descriptors: usize,
    /// Memory that is its own and present, KiB.
    pub memory_kib: u64,
    /// Threads.
    pub threads: usize,
}

// === impl Held ===

impl Held {
    /// By a process of this machine.
    ///
    /// # Panics
    /// When there is no such process.
    #[must_use]
    pub fn by(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse().unwrap()
        };
        Self {
            descriptors: fs::read_dir(format!("/proc/{process}/fd")).unwrap().count(),
            memory_kib: number("RssAnon:"),
            threads: usize::try_from(number("Threads:")).unwrap(),
        }
    }
}

/// What a folder takes on the disk, KiB. What vanishes meanwhile counts nothing.
#[must_use]
pub fn disk_kib(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => meta.blocks() / 2 + disk_kib(&entry.path()),
            Ok(meta) => meta.blocks() / 2,
            Err(_) => 0,
        })
        .sum()
}
