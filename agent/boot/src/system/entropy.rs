//! Randomness across restarts: a seed on the data partition that is used once. The new seed is on the disk before the
//! old one counts, so that two boots never begin with the same.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    path::Path,
};

use crate::file;

const SEED: &str = "/data/system/entropy";
const LENGTH: usize = 256;
/// `_IOW('R', 3, int[2])` (`RNDADDENTROPY`).
const ADD: u32 = 1 << 30 | 8 << 16 | (b'R' as u32) << 8 | 3;

/// `struct rand_pool_info` with room for a seed.
#[repr(C)]
struct Pool {
    bits: libc::c_int,
    bytes: libc::c_int,
    seed: [u8; LENGTH],
}

/// Gives the kernel the seed of the last time and keeps one for the next.
pub(super) fn restore() -> io::Result<()> {
    let old = fs::read(SEED).ok();
    if let Some(seed) = old.and_then(|seed| <[u8; LENGTH]>::try_from(seed).ok()) {
        // Mixed in without credit first, so that the new seed depends on it.
        fs::write("/dev/urandom", seed)?;
        save()?;
        add(seed)
    } else {
        save()
    }
}

/// Keeps a seed for the next time.
pub(super) fn save() -> io::Result<()> {
    let mut seed = [0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    file::write_durably(Path::new(SEED), &seed, 0o600)
}

fn add(seed: [u8; LENGTH]) -> io::Result<()> {
    let random = OpenOptions::new().write(true).open("/dev/random")?;
    let length = libc::c_int::try_from(LENGTH).map_err(io::Error::other)?;
    let pool = Pool { bits: 8 * length, bytes: length, seed };
    // SAFETY: the structure says how long its seed is, and outlives the call.
    let done = unsafe { libc::ioctl(random.as_raw_fd(), ADD as _, &raw const pool) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
