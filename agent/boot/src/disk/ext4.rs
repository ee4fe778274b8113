//! The little that has to be known of an ext4 file system before it is mounted
//! (Documentation/filesystems/ext4/super.rst).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::AsRawFd as _,
};

const MAGIC: [u8; 2] = [0x53, 0xef];
/// Where a super block lies, and its magic in it.
const SUPER: u64 = 1024;
const MAGIC_AT: u64 = 0x38;
/// Where the first copy lies: group 1 with blocks of 4096 and of 1024 bytes.
const COPIES: [u64; 2] = [32768 * 4096, 8193 * 1024];
/// What must be empty for a partition to count as never used.
const BLANK: usize = 4096;
/// `_IOW('f', 16, __u64)` (`EXT4_IOC_RESIZE_FS`).
const RESIZE: u32 = 1 << 30 | 8 << 16 | (b'f' as u32) << 8 | 16;

/// What lies on a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing, and nothing was: not even a copy of a super block.
    Blank,
    /// A file system of so many blocks of so many bytes.
    Ext4 {
        /// Its size in blocks.
        blocks: u64,
        /// Of so many bytes.
        block: u64,
    },
    /// Something else, or the remains of a file system.
    Other,
}

/// Looks at a partition of `size` bytes.
pub(super) fn look(device: &mut File, size: u64) -> io::Result<Content> {
    let mut head = [0; BLANK];
    device.seek(SeekFrom::Start(0))?;
    device.read_exact(&mut head)?;
    let at = usize::try_from(SUPER).unwrap_or_default();
    let field = |offset: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|i| head[at + offset + i]);
        u32::from_le_bytes(bytes)
    };
    if head[at + 0x38..at + 0x3a] == MAGIC {
        let shift = field(0x18);
        // The upper half counts only with the feature `64bit`.
        let upper = if field(0x60) & 0x80 != 0 { field(0x150) } else { 0 };
        let blocks = u64::from(upper) << 32 | u64::from(field(0x4));
        return Ok(if shift <= 6 { Content::Ext4 { blocks, block: 1024 << shift } } else { Content::Other });
    }
    if head.iter().any(|byte| *byte != 0) {
        return Ok(Content::Other);
    }
    for copy in COPIES.into_iter().filter(|copy| copy + SUPER <= size) {
        let mut magic = [0; 2];
        device.seek(SeekFrom::Start(copy + MAGIC_AT))?;
        device.read_exact(&mut magic)?;
        if magic == MAGIC {
            return Ok(Content::Other);
        }
    }
    Ok(Content::Blank)
}

/// Lets a mounted file system grow to so many blocks.
pub(super) fn resize(mounted: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the call reads the number that it is given the address of, and nothing else.
    let done = unsafe { libc::ioctl(mounted.as_raw_fd(), RESIZE as _, &raw const blocks) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Write as _;

    use super::*;

    fn with(size: u64, writes: &[(u64, &[u8])]) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in writes {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        look(&mut file, size).unwrap()
    }

    #[test]
    fn only_what_was_never_used_is_blank() {
        assert_eq!(with(1 << 28, &[]), Content::Blank);
        assert_eq!(with(1 << 20, &[]), Content::Blank);
        assert_eq!(with(1 << 20, &[(3, b"x")]), Content::Other);
        // Somebody overwrote the beginning of a file system that was in use.
        assert_eq!(with(1 << 28, &[(32768 * 4096 + 0x38, &MAGIC)]), Content::Other);
        assert_eq!(with(1 << 28, &[(8193 * 1024 + 0x38, &MAGIC)]), Content::Other);
    }

    #[test]
    fn a_file_systems_size_is_read() {
        let (magic, shift, blocks) =
            ((1024 + 0x38, &MAGIC[..]), (1024 + 0x18, &[2u8][..]), (1024 + 4, &[0, 16][..]));
        assert_eq!(with(1 << 20, &[magic, shift, blocks]), Content::Ext4 { blocks: 4096, block: 4096 });
        let upper = [(1024 + 0x150, &[1][..]), (1024 + 0x60, &[0x80][..])];
        let large = with(1 << 20, &[magic, shift, blocks, upper[0], upper[1]]);
        assert_eq!(large, Content::Ext4 { blocks: (1 << 32) + 4096, block: 4096 });
        assert_eq!(with(1 << 20, &[magic, (1024 + 0x18, &[77])]), Content::Other);
    }

    #[test]
    fn the_number_is_the_kernels() {
        assert_eq!(RESIZE, 0x4008_6610);
    }
}
