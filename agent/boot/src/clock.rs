//! The clock of a machine that may have no battery: it never shows a time before the image was built, nor one before
//! the time that was last saved. Who knows better, the agent by a hub that signs what it says, moves it with [`set`].

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
};

use crate::file;

/// How often the time is saved while the system runs.
pub const SAVED_EVERY: Duration = Duration::from_secs(3600);
/// Where the time was saved, in seconds since 1970.
pub const SAVED: &str = "/data/system/clock";
/// Made when the clock was set.
const WAS_SET: &str = "/run/sosna/clock-was-set";
/// Verified with the slot, and dated when the image was composed.
const BUILT: &str = "/etc/os-release";

/// Moves the clock forward to the image's build and to the saved time where it is behind; tells by how much.
///
/// # Errors
/// When the kernel refuses the new time.
pub fn raise() -> io::Result<Option<Duration>> {
    let built = fs::metadata(BUILT).and_then(|found| found.modified()).unwrap_or(UNIX_EPOCH);
    let now = SystemTime::now();
    let Some(time) = behind(now, built, saved(Path::new(SAVED))) else { return Ok(None) };
    let since = time.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since))?;
    Ok(time.duration_since(now).ok())
}

/// Sets the clock to what somebody who can be trusted has told, and lets PID 1 save it: what was saved before may have
/// been wrong, too.
///
/// # Errors
/// When the kernel refuses the new time.
pub fn set(since_1970: Duration) -> io::Result<()> {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_1970))?;
    // The hourly save finds it otherwise.
    let _ = fs::write(WAS_SET, b"");
    Ok(())
}

/// Milliseconds since the kernel started.
#[must_use]
pub fn since_start_ms() -> u64 {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the clock was [`set`] since the last call.
pub(crate) fn was_set() -> bool {
    fs::remove_file(WAS_SET).is_ok()
}

/// Saves the time.
///
/// # Errors
/// When it is not on the disk.
pub fn save() -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    file::write_durably(Path::new(SAVED), format!("{}\n", now.as_secs()).as_bytes(), 0o644)
}

/// The time that the clock must be moved to, if any.
fn behind(now: SystemTime, built: SystemTime, saved: Option<SystemTime>) -> Option<SystemTime> {
    let floor = saved.map_or(built, |saved| saved.max(built));
    (now < floor).then_some(floor)
}

fn saved(path: &Path) -> Option<SystemTime> {
    let seconds: u64 = crate::sysfs::value(path)?;
    // A file that was damaged must not send the clock beyond what certificates and file systems can count.
    (seconds < 1 << 33).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_clock_moves_forward_only() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(behind(at(0), at(100), None), Some(at(100)));
        assert_eq!(behind(at(0), at(100), Some(at(50))), Some(at(100)));
        assert_eq!(behind(at(120), at(100), Some(at(150))), Some(at(150)));
        assert_eq!(behind(at(200), at(100), Some(at(150))), None);
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        assert_eq!(saved(&path), None);
        for (text, time) in
            [("", None), ("x", None), ("99999999999999", None), ("-5", None), ("7\n", Some(7))]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(saved(&path), time.map(|t| UNIX_EPOCH + Duration::from_secs(t)), "{text:?}");
        }
    }
}
