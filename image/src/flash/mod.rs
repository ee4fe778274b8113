//! Writes an image to a card or disk and reads it back. Must never touch a disk that is in use.

mod target;

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::compose;
use crate::inspect::Image;

pub use target::Target;

/// Written and read at once: large enough for cards to be quick.
const UNIT: usize = 4 << 20;

/// How far it is: the step, bytes done, bytes in all.
pub type Progress<'a> = &'a dyn Fn(&str, u64, u64);

/// Writes what of the image a disk needs, waits until it is there, and compares what can be read back.
///
/// # Errors
/// [`Error`]: the target is too small, cannot be written, or gives back something else.
pub fn flash(image: &Path, target: &Target, progress: Progress<'_>) -> Result<(), Error> {
    let opened = Image::open(image)?;
    if target.bytes() < opened.bytes {
        return Err(Error::Room { what: "the image".to_owned(), needed: opened.bytes, room: target.bytes() });
    }
    let ranges = compose::written(&opened.partitions, opened.bytes, opened.used_of_slot());
    let total: u64 = ranges.iter().map(|(_, bytes)| bytes).sum();
    let mut source = File::open(image).map_err(Error::io("open", image))?;
    let mut disk = target.open()?;

    let written = write(&mut source, image, &mut disk, target, &ranges, total, progress)?;
    disk.sync_all().map_err(Error::io("write", target.path()))?;
    // What is read back must come from the disk, not from memory.
    let _ = posix_fadvise(disk.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);

    let mut done = 0;
    let mut read = Sha256::new();
    for (start, bytes) in &ranges {
        disk.seek(SeekFrom::Start(*start)).map_err(Error::io("read", target.path()))?;
        each_block(&mut disk, target.path(), *bytes, |block| {
            read.update(block);
            done += block.len() as u64;
            progress("verifying", done, total);
            Ok(())
        })?;
    }
    if read.finalize() != written {
        return Err(Error::malformed(
            target.path().display().to_string(),
            "it does not give back what was written: the card or disk is defective or smaller than it says",
        ));
    }
    Ok(())
}

fn write(
    source: &mut File,
    image: &Path,
    disk: &mut File,
    target: &Target,
    ranges: &[(u64, u64)],
    total: u64,
    progress: Progress<'_>,
) -> Result<sha2::digest::Output<Sha256>, Error> {
    let mut done = 0;
    let mut hash = Sha256::new();
    for (start, bytes) in ranges {
        source.seek(SeekFrom::Start(*start)).map_err(Error::io("read", image))?;
        disk.seek(SeekFrom::Start(*start)).map_err(Error::io("write", target.path()))?;
        each_block(source, image, *bytes, |block| {
            hash.update(block);
            disk.write_all(block).map_err(Error::io("write", target.path()))?;
            done += block.len() as u64;
            progress("writing", done, total);
            Ok(())
        })?;
    }
    Ok(hash.finalize())
}

fn each_block(
    source: &mut impl Read,
    path: &Path,
    bytes: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; UNIT];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).map_or(UNIT, |left| left.min(UNIT));
        source.read_exact(&mut buffer[..most]).map_err(Error::io("read", path))?;
        each(&buffer[..most])?;
        left -= most as u64;
    }
    Ok(())
}
