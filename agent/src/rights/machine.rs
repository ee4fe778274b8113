//! The clock of a machine that is all ours, which only root moves.

use std::{ffi::OsStr, io, process, time::Duration};

use sosna_privsep::{Helper, Launcher, Streams};

use crate::clock::NOT_BEFORE_MS;

const ARGV0: &str = "sosna-clock";
const NAME: &str = "clock";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The year 2200: no device lives so long, and file systems count further.
const NOT_AFTER_MS: u64 = 7_258_118_400_000;

/// Moves the machine's clock, by a helper.
#[derive(Debug, Clone)]
pub struct MachineClock(Launcher);

pub(super) fn helper() -> Helper {
    Helper { name: NAME, argv0: ARGV0, arguments: Vec::new(), ends_with_caller: true, most: 1 }
}

/// Is the helper, where this process was started as it.
pub(super) fn run_if_requested() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(ARGV0)) {
        return;
    }
    let to = arguments.next().and_then(|text| text.to_str()?.parse::<u64>().ok());
    let set = match to.filter(|to| (NOT_BEFORE_MS..NOT_AFTER_MS).contains(to)) {
        Some(to) => sosna_boot::clock::set(Duration::from_millis(to)),
        None => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    process::exit(set.err().map_or(0, |error| error.raw_os_error().map_or(1, |errno| errno & 0x7f)))
}

// === impl MachineClock ===

impl MachineClock {
    pub(crate) const fn new(launcher: Launcher) -> Self {
        Self(launcher)
    }

    /// Sets it to a time in milliseconds since 1970. Blocks for a moment.
    ///
    /// # Errors
    /// The system's.
    pub fn set(&self, now_ms: u64) -> io::Result<()> {
        let (status, _) = self.0.call((NAME, &now_ms.to_string()), Streams::default(), 1, PATIENCE)?;
        match status.code() {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other(status.to_string())),
        }
    }
}
