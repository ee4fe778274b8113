//! dm-verity by the device mapper's ioctls: a read-only device of which every block is checked against a tree of
//! hashes when it is read. The layout is the kernel's (`include/uapi/linux/dm-ioctl.h`, version 4).
//!
//! A block that does not fit gives an error to who reads it and nothing else. Restarting the machine instead is an
//! option of the kernel that is not used: one bad block in a file that nobody needs would be a restart without end.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use super::cmdline::Verity;

const CONTROL: &str = "/dev/mapper/control";
const BLOCK: u64 = 4096;
const SECTORS: u64 = BLOCK / 512;
/// `struct dm_ioctl` and `struct dm_target_spec`, equal on all processors.
const HEADER: usize = 312;
const TARGET: usize = 40;
const READ_ONLY: u32 = 1;

/// The commands' numbers within the device mapper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Create = 3,
    Remove = 4,
    Resume = 6,
    Load = 9,
}

/// Why there is no verified device.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// No device mapper.
    #[error("cannot open {CONTROL}; the kernel module dm-mod is missing from the initramfs")]
    Control(#[source] io::Error),
    /// The kernel refused a step.
    #[error("the kernel refuses to {what} the verified device {name} on {device}", device = device.display())]
    Refused {
        /// Which step.
        what: &'static str,
        /// The device's name.
        name: String,
        /// The partition.
        device: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Sets up `name` over a slot's partition and returns the device's file in `/dev`.
///
/// # Errors
/// [`VerityError`].
pub(super) fn open(name: &str, device: &Path, verity: &Verity) -> Result<PathBuf, VerityError> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(VerityError::Control)?;
    let refused = |what| {
        let (name, device) = (name.to_owned(), device.to_owned());
        move |source| VerityError::Refused { what, name, device, source }
    };
    let made = call(&control, Command::Create, &mut request(name, 0, None)).map_err(refused("make"))?;
    let table = Table { sectors: verity.blocks * SECTORS, parameters: parameters(device, verity) };
    let loaded = call(&control, Command::Load, &mut request(name, READ_ONLY, Some(&table)))
        .map_err(refused("load the table of (is the slot's partition large enough?)"))
        .and_then(|_| {
            call(&control, Command::Resume, &mut request(name, READ_ONLY, None)).map_err(refused("start"))
        });
    match loaded {
        Ok(_) => Ok(PathBuf::from(format!("/dev/dm-{}", minor(made)))),
        Err(error) => {
            let _ = call(&control, Command::Remove, &mut request(name, 0, None));
            Err(error)
        }
    }
}

/// One target that covers the whole device.
#[derive(Debug)]
struct Table {
    sectors: u64,
    parameters: String,
}

/// The target's parameters (Documentation/admin-guide/device-mapper/verity.rst): the tree lies behind the data.
fn parameters(device: &Path, verity: &Verity) -> String {
    let device = device.display();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let salt = if verity.salt.is_empty() { "-".to_owned() } else { hex(&verity.salt) };
    let blocks = verity.blocks;
    format!("1 {device} {device} {BLOCK} {BLOCK} {blocks} {blocks} sha256 {} {salt}", hex(&verity.root))
}

/// A command's buffer: the header and, where there is one, the target with its parameters.
fn request(name: &str, flags: u32, table: Option<&Table>) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(table) = table {
        // The text ends with a zero and is filled up, so that a next target would be aligned.
        let length = (TARGET + table.parameters.len() + 1).next_multiple_of(8);
        payload.extend(0u64.to_ne_bytes());
        payload.extend(table.sectors.to_ne_bytes());
        payload.extend(0i32.to_ne_bytes());
        payload.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        payload.extend(padded::<16>("verity"));
        payload.extend(table.parameters.as_bytes());
        payload.resize(length, 0);
    }
    let size = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    let mut buffer = Vec::with_capacity(HEADER + payload.len());
    for word in [4, 0, 0, size, 312, u32::from(table.is_some()), 0, flags, 0, 0] {
        buffer.extend(u32::to_ne_bytes(word));
    }
    buffer.extend(0u64.to_ne_bytes());
    buffer.extend(padded::<128>(name));
    buffer.resize(HEADER, 0);
    buffer.extend(payload);
    buffer
}

/// A text in a field of fixed size, cut so that a zero ends it.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    let length = text.len().min(N - 1);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
    field
}

/// Runs a command and returns the number of the device that it was about.
fn call(control: &File, command: Command, buffer: &mut [u8]) -> io::Result<u64> {
    // SAFETY: the buffer begins with a `dm_ioctl` that tells its whole size, and is written within it only.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), number(command) as _, buffer.as_mut_ptr()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut device = [0; 8];
    device.copy_from_slice(&buffer[40..48]);
    Ok(u64::from_ne_bytes(device))
}

/// `_IOWR(0xfd, command, struct dm_ioctl)`.
fn number(command: Command) -> u32 {
    3 << 30 | 312 << 16 | 0xfd << 8 | command as u32
}

/// From the kernel's packed form of a device number (`huge_encode_dev`).
fn minor(device: u64) -> u64 {
    device & 0xff | device >> 12 & 0xfff_ff00
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(buffer: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
    }

    #[test]
    fn a_header_is_as_the_kernel_lays_it_out() {
        let buffer = request("sosna-a", READ_ONLY, None);
        assert_eq!(buffer.len(), 312);
        let words: Vec<u32> = (0..10).map(|i| word(&buffer, 4 * i)).collect();
        // version, data_size, data_start, target_count, open_count, flags, event_nr, padding
        assert_eq!(words, [4, 0, 0, 312, 312, 0, 0, 1, 0, 0]);
        assert_eq!(&buffer[48..56], b"sosna-a\0");
        assert!(buffer[56..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_table_follows_the_header() {
        let verity = Verity { root: [0x5a; 32], salt: vec![1, 2], blocks: 10 };
        let parameters = parameters(Path::new("/dev/vda2"), &verity);
        let root = "5a".repeat(32);
        assert_eq!(parameters, format!("1 /dev/vda2 /dev/vda2 4096 4096 10 10 sha256 {root} 0102"));
        let length = parameters.len();
        let buffer = request("x", READ_ONLY, Some(&Table { sectors: 80, parameters: parameters.clone() }));
        assert_eq!(buffer.len() % 8, 0);
        assert_eq!(word(&buffer, 12) as usize, buffer.len());
        assert_eq!(word(&buffer, 20), 1, "one target");
        assert_eq!(u64::from_ne_bytes(std::array::from_fn(|i| buffer[312 + 8 + i])), 80);
        assert_eq!(word(&buffer, 312 + 20) as usize, buffer.len() - 312);
        assert_eq!(&buffer[312 + 24..312 + 31], b"verity\0");
        assert_eq!(&buffer[352..352 + length], parameters.as_bytes());
        assert_eq!(buffer[352 + length], 0);
    }

    #[test]
    fn long_names_are_cut_and_end_with_a_zero() {
        let buffer = request(&"n".repeat(500), 0, None);
        assert_eq!(buffer.len(), 312);
        assert_eq!((buffer[48 + 126], buffer[48 + 127]), (b'n', 0));
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(number(Command::Create), 0xc138_fd03);
        assert_eq!(number(Command::Load), 0xc138_fd09);
        assert_eq!(minor(0x0000_fe00), 0);
        assert_eq!(minor(0x0000_fe03), 3);
        assert_eq!(minor(0x0010_fe01), 0x101);
    }
}
