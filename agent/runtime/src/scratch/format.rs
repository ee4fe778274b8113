//! Writes an empty ext4 file system into a file of nothing but zeroes, for a scratch that lives as long as its
//! container: no journal, no copies of the super block, no `lost+found`, and of bitmaps and inode tables only the
//! blocks that are not empty. That is some ten KiB at any size of interest, so nothing needs to be kept formatted.
//!
//! The kernel documents the format (Documentation/filesystems/ext4); `e2fsck` and the kernel are what the tests ask.
//! It must never write to a file that holds anything: what is not written counts as zero.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// Blocks of so many bytes.
pub(super) const BLOCK: u64 = 4096;
/// Bytes of an inode: room for times to the nanosecond and small attributes, which overlayfs makes.
pub(super) const INODE: u64 = 256;
/// Inodes that are the file system's own; the root's is among them.
pub(super) const RESERVED: u32 = 10;

/// [`BLOCK`], as lengths and offsets within one.
const SIZE: usize = 4096;
/// What one block of bitmap can tell of: no group has more blocks or inodes.
pub(super) const MOST: u32 = 32768;
/// Inodes in one block of a table.
const PER_BLOCK: u32 = 16;
/// Bytes of a group's descriptor, and how many are in one block.
const DESCRIPTOR: usize = 32;
const DESCRIPTORS: u32 = 128;
/// Blocks that are left for files in each group at least.
const LEAST: u32 = 8;
/// The root folder's inode.
const ROOT: u32 = 2;
/// Where the super block lies in the first block.
const SUPER: usize = 1024;
/// The same for all: nothing mounts these by name, and the same size gives the same bytes.
const UUID: [u8; 16] = *b"sosna's scratch\0";

/// Where everything is. All groups are of one size; what does not divide evenly at the end is left unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    groups: u32,
    /// Blocks of each group.
    blocks: u32,
    /// Inodes of each group.
    inodes: u32,
    /// Blocks of each group's inode table.
    table: u32,
    /// Blocks of all descriptors together, after the super block.
    descriptors: u32,
}

/// Formats a file of zeroes, of which `bytes` are used, with at least `inodes` inodes (a few more: they come in whole
/// blocks of each group).
///
/// # Errors
/// Where it is too small for what it has to hold or too large to be numbered, and those of writing.
pub(super) fn format(file: &File, bytes: u64, inodes: u64) -> io::Result<()> {
    let layout = Layout::of(bytes, inodes)?;
    let at = |block: u32| u64::from(block) * BLOCK;
    // Descriptors directly follow the super block's block.
    let mut head = layout.super_block();
    head.extend(layout.descriptors());
    file.write_all_at(&layout.block_bitmap(0), at(layout.start(0)))?;
    file.write_all_at(&bitmap(RESERVED, layout.inodes), at(layout.start(0) + 1))?;
    file.write_all_at(&layout.root_inode(), at(layout.start(0) + 2) + u64::from(ROOT - 1) * INODE)?;
    file.write_all_at(&root_folder(), at(layout.root()))?;
    let last = layout.groups - 1;
    if last > 0 {
        // The last group's is written by convention, and checked: it could be cut short.
        file.write_all_at(&layout.block_bitmap(last), at(layout.start(last)))?;
    }
    // Last, because with it the file is a file system.
    file.write_all_at(&head, 0)
}

// === impl Layout ===

impl Layout {
    fn of(bytes: u64, inodes: u64) -> io::Result<Self> {
        let wrong = |what: &str| {
            let why = format!("a scratch of {bytes} bytes with {inodes} inodes cannot be made: {what}");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        };
        let large = || wrong("it is too large");
        // Far from where sums of rounded numbers would overflow.
        let number = |n: u64| u32::try_from(n).ok().filter(|n| *n <= u32::MAX / 2).ok_or_else(large);
        let blocks = number(bytes / BLOCK)?;
        let inodes = number(inodes)?.max(RESERVED + 1);
        let groups = blocks.div_ceil(MOST).max(inodes.div_ceil(MOST)).max(1);
        // In whole bytes of a bitmap.
        let size = blocks / groups / 8 * 8;
        let table = inodes.div_ceil(groups).div_ceil(PER_BLOCK);
        let descriptors = groups.div_ceil(DESCRIPTORS);
        let layout = Self { groups, blocks: size, inodes: table * PER_BLOCK, table, descriptors };
        if layout.used(0) + LEAST > size {
            return Err(wrong("nothing would be left for files; give it more bytes or fewer inodes"));
        }
        Ok(layout)
    }

    /// Where a group's own blocks begin: block bitmap, inode bitmap, inode table.
    const fn start(&self, group: u32) -> u32 {
        let before = if group == 0 { 1 + self.descriptors } else { 0 };
        group * self.blocks + before
    }

    /// The root folder's block, directly after the first inode table.
    const fn root(&self) -> u32 {
        self.start(0) + 2 + self.table
    }

    /// How many of a group's blocks are taken, from its first on.
    const fn used(&self, group: u32) -> u32 {
        let own = 2 + self.table;
        if group == 0 { 1 + self.descriptors + own + 1 } else { own }
    }

    fn free_blocks(&self) -> u32 {
        // The first group differs from the others.
        (self.blocks - self.used(0)) + (self.groups - 1) * (self.blocks - self.used(1))
    }

    fn block_bitmap(&self, group: u32) -> [u8; SIZE] {
        bitmap(self.used(group), self.blocks)
    }

    /// The first block of the file.
    fn super_block(&self) -> Vec<u8> {
        let mut block = Bytes(vec![0; SIZE]);
        let mut put = |at: usize, value: u32| block.put32(SUPER + at, value);
        put(0x0, self.groups * self.inodes);
        put(0x4, self.groups * self.blocks);
        put(0xc, self.free_blocks());
        put(0x10, self.groups * self.inodes - RESERVED);
        // Blocks and clusters of 2^(10 + 2) bytes.
        put(0x18, 2);
        put(0x1c, 2);
        put(0x20, self.blocks);
        put(0x24, self.blocks);
        put(0x28, self.inodes);
        // Revision 1: inodes of any size, and features.
        put(0x4c, 1);
        put(0x54, RESERVED + 1);
        // Extended attributes, hashed folders, at most two copies of the super block (and here none).
        put(0x5c, 0x8 | 0x20 | 0x200);
        // Types in folders, extents.
        put(0x60, 0x2 | 0x40);
        // Few copies, large and huge files, checksums of descriptors (and with them groups that were never written),
        // many folders in one, large inodes.
        put(0x64, 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40);
        // Attributes and access lists of users, as by default.
        put(0x100, 0x4 | 0x8);
        // Hashes of signed characters, as by default on the machines where it matters.
        put(0x160, 1);
        for (place, word) in UUID.chunks_exact(4).enumerate() {
            put(0xec + 4 * place, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        // Never checked because of how often it was mounted.
        block.put16(SUPER + 0x36, u16::MAX);
        block.put16(SUPER + 0x38, 0xef53);
        // Clean; goes on after errors.
        block.put16(SUPER + 0x3a, 1);
        block.put16(SUPER + 0x3c, 1);
        block.put16(SUPER + 0x58, 256);
        block.put(SUPER + 0x68, &UUID);
        // Folders are hashed by half MD4.
        block.put(SUPER + 0xfc, &[1]);
        block.put16(SUPER + 0x15c, 32);
        block.put16(SUPER + 0x15e, 32);
        block.0
    }

    fn descriptors(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.groups as usize * DESCRIPTOR);
        for group in 0..self.groups {
            let (first, last) = (group == 0, group == self.groups - 1);
            let reserved = if first { RESERVED } else { 0 };
            // Which bitmaps were never written, that of inodes and that of blocks; and that the table is zero.
            let flags = u32::from(!first) | (u32::from(!first && !last) << 1) | 4;
            let mut one = Bytes(vec![0; DESCRIPTOR]);
            one.put32(0x0, self.start(group));
            one.put32(0x4, self.start(group) + 1);
            one.put32(0x8, self.start(group) + 2);
            // Pairs of sixteen bits; neither half is more than MOST.
            one.put32(0xc, (self.blocks - self.used(group)) | ((self.inodes - reserved) << 16));
            one.put32(0x10, u32::from(first) | (flags << 16));
            one.put32(0x1c, self.inodes - reserved);
            let sum = crc16(crc16(crc16(u16::MAX, &UUID), &group.to_le_bytes()), &one.0[..0x1e]);
            one.put16(0x1e, sum);
            all.extend(one.0);
        }
        all
    }

    fn root_inode(&self) -> Vec<u8> {
        let mut inode = Bytes(vec![0; 256]);
        // A folder, 0755, of root's.
        inode.put16(0x0, 0o040_755);
        inode.put32(0x4, 4096);
        inode.put16(0x1a, 2);
        // In units of 512 bytes.
        inode.put32(0x1c, 8);
        // Its blocks are extents: a header for four of which one is there, and that one, of one block.
        inode.put32(0x20, 0x8_0000);
        inode.put16(0x28, 0xf30a);
        inode.put16(0x2a, 1);
        inode.put16(0x2c, 4);
        inode.put16(0x38, 1);
        inode.put32(0x3c, self.root());
        inode.put16(0x80, 32);
        inode.0
    }
}

/// The root folder: itself, and again itself.
fn root_folder() -> Vec<u8> {
    let mut folder = Bytes(vec![0; SIZE]);
    for (at, length, name) in [(0, 12, &b"."[..]), (12, 4084, b"..")] {
        folder.put32(at, ROOT);
        folder.put16(at + 4, length);
        folder.put(at + 6, &[if at == 0 { 1 } else { 2 }, 2]);
        folder.put(at + 8, name);
    }
    folder.0
}

/// A bitmap of which the first bits are taken, and those that stand for nothing; `all` is in whole bytes.
fn bitmap(taken: u32, all: u32) -> [u8; SIZE] {
    let (taken, all) = (taken as usize, all as usize);
    let mut bits = [0; SIZE];
    bits[..taken / 8].fill(u8::MAX);
    bits[taken / 8] |= (1 << (taken % 8)) - 1;
    bits[all / 8..].fill(u8::MAX);
    bits
}

/// The checksum of group descriptors (CRC-16 with the reversed polynomial 0xa001).
fn crc16(from: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(from, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| (sum >> 1) ^ (0xa001 & (sum & 1).wrapping_neg()))
    })
}

/// Little-endian numbers at fixed places.
struct Bytes(Vec<u8>);

// === impl Bytes ===

impl Bytes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests;
