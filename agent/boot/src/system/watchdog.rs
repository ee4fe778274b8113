//! The hardware's watchdog: fed while this process does its work, so that a machine that hangs restarts by itself.
//! Never disarmed: a shutdown that hangs must end, too.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    time::Duration,
};

use crate::sysfs;

/// What the hardware is asked to wait, in seconds: some cannot wait long.
const PATIENCE: [libc::c_int; 3] = [60, 30, 15];
/// `_IOWR('W', 6, int)` (`WDIOC_SETTIMEOUT`).
const SET_TIMEOUT: u32 = 3 << 30 | 4 << 16 | (b'W' as u32) << 8 | 6;

/// A word of the kernel's command line, for emulators whose watchdog does not wait: QEMU's Raspberry Pi starts anew when
/// it is armed. A device's boot image never has it.
const OFF: &str = "watchdog=off";

/// An armed watchdog, or none yet: a driver may be there only after this program.
#[derive(Debug)]
pub(super) struct Watchdog {
    device: Option<File>,
    is_wanted: bool,
    every: Duration,
}

// === impl Watchdog ===

impl Watchdog {
    /// Arms the first watchdog of the machine, where the kernel's command line does not say [`OFF`].
    pub(super) fn arm() -> Self {
        let line = sysfs::text("/proc/cmdline").unwrap_or_default();
        let is_wanted = !line.split_ascii_whitespace().any(|word| word == OFF);
        let mut watchdog = Self { device: None, is_wanted, every: Duration::from_secs(10) };
        watchdog.arm_if_new();
        watchdog
    }

    /// Arms one that has appeared; whether it has.
    pub(super) fn arm_if_new(&mut self) -> bool {
        if self.device.is_some() || !self.is_wanted {
            return false;
        }
        let Ok(device) = OpenOptions::new().write(true).open("/dev/watchdog") else { return false };
        let patience = PATIENCE.iter().find_map(|wanted| set(&device, *wanted).ok()).unwrap_or(10);
        self.every = Duration::from_secs(u64::from(patience) / 4)
            .clamp(Duration::from_secs(1), Duration::from_secs(10));
        self.device = Some(device);
        self.feed(true);
        true
    }

    pub(super) fn is_there(&self) -> bool {
        self.device.is_some()
    }

    /// How often [`Self::feed`] must be called.
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// Feeds it if all is well. Cheap to call.
    pub(super) fn feed(&mut self, is_well: bool) {
        if is_well && let Some(device) = &mut self.device {
            // A write that fails is what the watchdog is for.
            let _ = device.write_all(&[0]);
        }
    }
}

fn set(device: &File, mut seconds: libc::c_int) -> io::Result<u32> {
    // SAFETY: the call reads and writes one number.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT as _, &raw mut seconds) };
    if done < 0 { Err(io::Error::last_os_error()) } else { u32::try_from(seconds).map_err(io::Error::other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_kernels() {
        assert_eq!(SET_TIMEOUT, 0xc004_5706);
    }
}
