//! The power button: an input device that has the key for it.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

/// `linux/input-event-codes.h`.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Bytes for the keys that a device may have.
const KEYS: usize = 96;
/// `EVIOCGBIT(EV_KEY, KEYS)`.
const GET_KEYS: u32 = 2 << 30 | 96 << 16 | (b'E' as u32) << 8 | 0x21;
const EVENT: usize = size_of::<libc::input_event>();

/// One device with a power button.
#[derive(Debug)]
pub(super) struct Button {
    device: File,
}

// === impl Button ===

impl Button {
    /// All that the machine has now.
    pub(super) fn all() -> Vec<Self> {
        let inputs = fs::read_dir("/dev/input").into_iter().flatten().flatten();
        inputs
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("event"))
            .filter_map(|entry| Self::open(&entry.path()))
            .collect()
    }

    fn open(path: &Path) -> Option<Self> {
        let device = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
        let mut keys = [0u8; KEYS];
        // SAFETY: the call writes at most as many bytes as its number says, and the array has them.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), GET_KEYS as _, keys.as_mut_ptr()) };
        let key = usize::from(KEY_POWER);
        (done >= 0 && keys[key / 8] & 1 << (key % 8) != 0).then_some(Self { device })
    }

    /// Whether it was pressed since the last call.
    pub(super) fn was_pressed(&mut self) -> bool {
        let mut events = [0; EVENT * 16];
        let length = self.device.read(&mut events).unwrap_or(0);
        events[..length].chunks_exact(EVENT).any(is_press)
    }
}

impl AsFd for Button {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// An event ends with its type, code and value, whatever its time is made of.
fn is_press(event: &[u8]) -> bool {
    let tail = &event[EVENT - 8..];
    let (kind, code) = (u16::from_ne_bytes([tail[0], tail[1]]), u16::from_ne_bytes([tail[2], tail[3]]));
    kind == EV_KEY && code == KEY_POWER && i32::from_ne_bytes([tail[4], tail[5], tail[6], tail[7]]) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut event = vec![0; EVENT - 8];
        event.extend(kind.to_ne_bytes());
        event.extend(code.to_ne_bytes());
        event.extend(value.to_ne_bytes());
        event
    }

    #[test]
    fn a_press_of_this_key_counts_and_nothing_else() {
        assert!(is_press(&event(1, 116, 1)));
        for other in [event(1, 116, 0), event(1, 116, 2), event(1, 30, 1), event(2, 116, 1)] {
            assert!(!is_press(&other));
        }
        assert_eq!(GET_KEYS, 0x8060_4521);
    }
}
