//! What content counts for, and whether there is room for more. Pure but for [`Space::of`].
//!
//! A piece counts for a block of the disk at least: somebody who stores many tiny ones takes blocks and inodes, not
//! bytes.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use sosna_host::file::FileError;
use sosna_store::Unused;

use crate::config::Keep;

/// What a piece counts for at least: a block of the usual file systems.
pub(super) const BLOCK: u64 = 4096;

/// What a piece of so many bytes counts for.
pub(super) const fn charge(length: u64) -> u64 {
    if length < BLOCK { BLOCK } else { length }
}

/// Some pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// How many.
    pub(super) pieces: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// What they count for, in bytes.
    pub(super) charged: u64,
}

/// What somebody may hold that no unfinished job uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Pieces that count for so many bytes together: a person.
    Charged(u64),
    /// So many pieces of so many bytes together, as a task may leave behind: a device, for an assignment. Its links
    /// and empty files are pieces that took no block of its disk.
    Left {
        /// Bytes.
        bytes: u64,
        /// Pieces.
        pieces: u64,
    },
}

/// What a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// Free bytes.
    free: u64,
    /// Free inodes, and all of them; 0 of 0 where the file system makes them as it needs them.
    inodes: (u64, u64),
}

/// What there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The store holds what it may hold.
    Store,
    /// So many bytes are left, and stay free.
    Bytes(u64),
    /// So many inodes are left, and stay free.
    Inodes(u64),
}

// === impl Load ===

impl Load {
    /// One piece.
    pub(super) const fn one(length: u64) -> Self {
        Self { pieces: 1, bytes: length, charged: charge(length) }
    }

    pub(super) const fn plus(self, other: &Self) -> Self {
        Self {
            pieces: self.pieces.saturating_add(other.pieces),
            bytes: self.bytes.saturating_add(other.bytes),
            charged: self.charged.saturating_add(other.charged),
        }
    }

    pub(super) const fn minus(self, other: &Self) -> Self {
        Self {
            pieces: self.pieces.saturating_sub(other.pieces),
            bytes: self.bytes.saturating_sub(other.bytes),
            charged: self.charged.saturating_sub(other.charged),
        }
    }
}

impl From<Unused> for Load {
    fn from(Unused { pieces, bytes, charged }: Unused) -> Self {
        Self { pieces, bytes, charged }
    }
}

// === impl Allowed ===

impl Allowed {
    /// Whether somebody may hold so much.
    pub(super) const fn admits(self, load: &Load) -> bool {
        match self {
            Self::Charged(most) => load.charged <= most,
            Self::Left { bytes, pieces } => load.bytes <= bytes && load.pieces <= pieces,
        }
    }
}

// === impl Space ===

impl Space {
    pub(super) fn of(folder: &Path) -> Result<Self, FileError> {
        let disk = statvfs(folder)
            .map_err(|errno| FileError::of("ask for the free space of", folder)(errno.into()))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        Ok(Self { free, inodes: (disk.files_available(), disk.files()) })
    }

    /// What there is no room for, where so much is stored and so much on its way.
    pub(super) fn lacks(&self, stored: u64, coming: &Load, keep: &Keep) -> Option<Full> {
        if keep.store_bytes > 0 && stored.saturating_add(coming.charged) > keep.store_bytes {
            return Some(Full::Store);
        }
        if self.free.saturating_sub(coming.charged) < keep.free_bytes {
            return Some(Full::Bytes(self.free));
        }
        // The books need few, and others on the disk may need some: a hundredth stays.
        let (free, all) = self.inodes;
        (all > 0 && free.saturating_sub(coming.pieces) < all / 100).then_some(Full::Inodes(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_runs_out_of_anything_takes_nothing_more() {
        let keep = Keep { store_bytes: 100_000, free_bytes: 50_000, ..Keep::default() };
        let space = |free, inodes| Space { free, inodes };
        let piece = Load::one(1);
        assert_eq!(piece.charged, 4096);
        assert_eq!(space(60_000, (101, 10_000)).lacks(95_904, &piece, &keep), None);
        assert_eq!(space(60_000, (101, 10_000)).lacks(95_905, &piece, &keep), Some(Full::Store));
        assert_eq!(space(54_000, (101, 10_000)).lacks(0, &piece, &keep), Some(Full::Bytes(54_000)));
        assert_eq!(space(60_000, (100, 10_000)).lacks(0, &piece, &keep), Some(Full::Inodes(100)));
        let several = piece.plus(&piece).plus(&piece);
        assert_eq!(space(70_000, (102, 10_000)).lacks(0, &several, &keep), Some(Full::Inodes(102)));
        // A file system that counts none (btrfs).
        assert_eq!(space(60_000, (0, 0)).lacks(0, &piece, &keep), None);
    }

    #[test]
    fn links_and_empty_files_count_as_pieces_of_a_task_and_as_blocks_of_a_person() {
        let many = (0..10).fold(Load::default(), |sum, _| sum.plus(&Load::one(0)));
        assert!(Allowed::Left { bytes: 0, pieces: 10 }.admits(&many));
        assert!(!Allowed::Left { bytes: 0, pieces: 9 }.admits(&many));
        assert!(Allowed::Charged(40_960).admits(&many) && !Allowed::Charged(40_959).admits(&many));
    }
}
