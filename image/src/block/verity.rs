//! The hash tree of dm-verity: format 1, SHA-256, blocks of 4096 bytes for data and hashes, no superblock.
//! Source: Documentation/admin-guide/device-mapper/verity.rst of Linux; `veritysetup verify` agrees.

use std::fmt;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// Bytes of a block of data and of hashes.
pub const BLOCK: usize = 4096;
/// Hashes in a block.
const FANOUT: usize = BLOCK / 32;

/// What the kernel needs to know of a slot to trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The hash of the topmost block.
    pub hash: [u8; 32],
    /// What is hashed before each block.
    pub salt: [u8; 32],
    /// How many blocks of data there are; the tree follows at once.
    pub blocks: u64,
}

/// Makes the tree of `data`, whose length is a multiple of [`BLOCK`], and returns it with its root.
///
/// # Errors
/// The reader's; and where `data` is empty or ends within a block.
pub fn tree(data: &mut impl Read, salt: [u8; 32]) -> io::Result<(Vec<u8>, Root)> {
    let mut block = [0; BLOCK];
    let mut hashes = Vec::new();
    let mut blocks = 0;
    while fill(data, &mut block)? {
        hashes.extend_from_slice(&hash(&salt, &block));
        blocks += 1;
    }
    if blocks == 0 {
        return Err(io::Error::other("there is nothing to hash"));
    }
    // The level next to the data is the last one on the disk.
    let mut levels = Vec::new();
    while hashes.len() > 32 {
        hashes.resize(hashes.len().div_ceil(BLOCK) * BLOCK, 0);
        let above: Vec<u8> = hashes.chunks(BLOCK).flat_map(|block| hash(&salt, block)).collect();
        levels.push(std::mem::replace(&mut hashes, above));
    }
    levels.reverse();
    let root = Root { hash: hashes.try_into().unwrap_or_default(), salt, blocks };
    Ok((levels.concat(), root))
}

/// How many bytes the tree of so many blocks has.
#[must_use]
pub fn tree_bytes(blocks: u64) -> u64 {
    let (mut level, mut total) = (blocks, 0);
    while level > 1 {
        level = level.div_ceil(FANOUT as u64);
        total += level;
    }
    total * BLOCK as u64
}

fn hash(salt: &[u8; 32], block: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// Whether a whole block was read; false at the end.
fn fill(data: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut have = 0;
    while have < BLOCK {
        match data.read(&mut block[have..])? {
            0 if have == 0 => return Ok(false),
            0 => return Err(io::Error::other("the last block is not whole")),
            n => have += n,
        }
    }
    Ok(true)
}

// === impl Root ===

/// As the kernel's command line carries it: `hash:salt:blocks`.
impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        write!(f, "{}:{}:{}", hex(&self.hash), hex(&self.salt), self.blocks)
    }
}

impl Root {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok();
        let [hash, salt, blocks] = text.split(':').collect::<Vec<_>>().try_into().ok()?;
        Some(Self { hash: hex(hash)?, salt: hex(salt)?, blocks: blocks.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_block_is_its_own_tree() {
        let (tree, root) = tree(&mut &[7; BLOCK][..], [1; 32]).unwrap();
        assert!(tree.is_empty());
        assert_eq!(root.hash, hash(&[1; 32], &[7; BLOCK]));
        assert_eq!(Root::parse(&root.to_string()), Some(root));
    }

    #[test]
    fn trees_have_the_size_that_is_foretold() {
        for blocks in [1, 2, 127, 128, 129, 300] {
            let data = vec![3; blocks * BLOCK];
            let (tree, root) = tree(&mut &data[..], [0; 32]).unwrap();
            assert_eq!(tree.len() as u64, tree_bytes(root.blocks), "{blocks}");
        }
        assert_eq!(tree_bytes(128 * 128 + 1), (1 + 2 + 129) * 4096);
    }

    #[test]
    fn a_changed_bit_changes_the_root_and_a_torn_block_is_an_error() {
        let mut data = vec![3; 200 * BLOCK];
        let (_, before) = tree(&mut &data[..], [0; 32]).unwrap();
        data[150 * BLOCK + 9] ^= 1;
        assert_ne!(tree(&mut &data[..], [0; 32]).unwrap().1, before);
        assert!(tree(&mut &data[..5000], [0; 32]).is_err());
        assert!(tree(&mut &data[..0], [0; 32]).is_err());
        assert!(Root::parse("ab:cd:1").is_none());
    }
}
