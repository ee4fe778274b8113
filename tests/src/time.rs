//! Time that a test moves, for a hub and its devices alike. A device's is the agent's own clock, exchanged
//! (`timed-agent`); the hub's whole process lives at another time by libfaketime, because its TLS asks the system.
//! Only what the time of day says moves: pauses and time-outs take as long as ever.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sosna_host::clock::{Clock as _, SystemClock};

use crate::image::package;

/// The variable that names the file, for `timed-agent`.
pub const AHEAD: &str = "SOSNA_TEST_AHEAD";
/// The device's program.
pub const AGENT: &str = "timed-agent";

/// How far ahead everybody is.
#[derive(Debug)]
pub struct Time {
    file: PathBuf,
    library: PathBuf,
    seconds: u64,
}

// === impl Time ===

impl Time {
    /// The machine's own time, to be moved; its file is in `folder`.
    ///
    /// # Errors
    /// Why the library cannot be had.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn new(folder: &Path) -> Result<Self, String> {
        let package = package("libfaketime")?;
        let found = fs::read_dir(package.join("usr/lib")).map_err(|error| error.to_string())?;
        let library = found.flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
        let library =
            library.into_iter().find(|path| path.is_file()).ok_or("its library is not in libfaketime")?;
        let time = Self { file: folder.join("ahead"), library, seconds: 0 };
        time.write();
        Ok(time)
    }

    /// Everybody is so many seconds later.
    pub fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        self.write();
    }

    /// Now, for everybody: milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        SystemClock::default().now_ms() + self.seconds * 1000
    }

    fn write(&self) {
        // Both read it at any moment: never half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("+{}\n", self.seconds)).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    /// What a hub's environment needs.
    #[must_use]
    pub fn of_hub(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// What a device's environment needs.
    #[must_use]
    pub fn of_device(&self) -> (&'static str, String) {
        (AHEAD, self.file.display().to_string())
    }
}
