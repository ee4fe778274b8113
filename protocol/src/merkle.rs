//! Merkle trees over ordered leaves.
//!
//! A tree's root carries a domain tag and the number of leaves, so that no tree can be taken for another, a
//! node for a leaf, or a tree for a shorter one. An odd node is promoted, never doubled (a doubled one lets
//! two lists share a root: CVE-2012-2459). Leaves are hashed twice over the Solidity ABI encoding of their
//! fields, as OpenZeppelin's trees are, so that a contract can check the same proofs.

use crate::hash::{Hash, keccak256, word};

/// No tree here has more leaves than this.
pub const MAX_LEAVES: u32 = 1 << 24;
/// The longest path: one sibling for each halving of [`MAX_LEAVES`].
pub const MAX_PATH: usize = 24;
/// The siblings from a leaf up to its root.
pub type Path = heapless::Vec<Hash, MAX_PATH>;

/// What a tree is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// What a task left behind ([`crate::result`]).
    Result,
    /// Frames that were signed together ([`crate::envelope`]).
    Batch,
    /// Receipts that a voucher covers ([`crate::message::pay`]).
    Receipts,
}

/// Why a tree cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// More than [`MAX_LEAVES`].
    #[error("a tree has at most {MAX_LEAVES} leaves")]
    TooMany,
    /// No leaf at all.
    #[error("a tree needs at least one leaf")]
    Empty,
}

impl Domain {
    /// The tag that stands in every hash of the tree that is not an inner node.
    #[must_use]
    pub fn tag(self) -> Hash {
        keccak256(&[match self {
            Self::Result => b"sosna result tree v1".as_slice(),
            Self::Batch => b"sosna batch tree v1",
            Self::Receipts => b"sosna receipts tree v1",
        }])
    }

    /// A leaf: `keccak(keccak(abi.encode(tag, fields…)))`, each field one ABI word.
    #[must_use]
    pub fn leaf(self, fields: &[[u8; 32]]) -> Hash {
        let mut encoded = heapless::Vec::<u8, { 32 * 12 }>::new();
        let whole = encoded.extend_from_slice(&self.tag().0).is_ok()
            && fields.iter().all(|field| encoded.extend_from_slice(field).is_ok());
        assert!(whole, "a leaf has at most eleven fields");
        keccak256(&[&keccak256(&[&encoded]).0])
    }

    /// The root above `top`, the hash at the head of a tree of `count` leaves.
    #[must_use]
    pub fn root(self, count: u32, top: &Hash) -> Hash {
        keccak256(&[&self.tag().0, &word(u128::from(count)), &top.0])
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    keccak256(&[&left.0, &right.0])
}

/// Builds a tree leaf by leaf, in memory that does not grow with it.
#[derive(Debug, Clone)]
pub struct Builder {
    domain: Domain,
    count: u32,
    /// The roots of the complete subtrees so far, of 2^i leaves at place i.
    subtrees: [Option<Hash>; MAX_PATH + 1],
}

impl Builder {
    /// A tree without leaves.
    #[must_use]
    pub const fn new(domain: Domain) -> Self {
        Self { domain, count: 0, subtrees: [None; MAX_PATH + 1] }
    }

    /// How many leaves there are so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Adds the next leaf.
    ///
    /// # Errors
    /// [`TreeError::TooMany`].
    pub fn push(&mut self, leaf: Hash) -> Result<(), TreeError> {
        if self.count == MAX_LEAVES {
            return Err(TreeError::TooMany);
        }
        self.count += 1;
        let mut carried = leaf;
        for subtree in &mut self.subtrees {
            match subtree.take() {
                Some(left) => carried = node(&left, &carried),
                None => {
                    *subtree = Some(carried);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The root of the tree so far.
    ///
    /// # Errors
    /// [`TreeError::Empty`].
    pub fn root(&self) -> Result<Hash, TreeError> {
        let top = self.subtrees.iter().flatten().copied().reduce(|right, left| node(&left, &right));
        Ok(self.domain.root(self.count, &top.ok_or(TreeError::Empty)?))
    }
}

/// The root of a whole list of leaves.
///
/// # Errors
/// [`TreeError`].
pub fn root(domain: Domain, leaves: impl IntoIterator<Item = Hash>) -> Result<Hash, TreeError> {
    let mut builder = Builder::new(domain);
    leaves.into_iter().try_for_each(|leaf| builder.push(leaf))?;
    builder.root()
}

/// A whole tree, every level of it: paths are read, not computed, so that all of them take no longer than the tree.
#[derive(Debug)]
pub struct Tree<'s> {
    nodes: &'s [Hash],
    count: u32,
}

impl<'s> Tree<'s> {
    /// How many hashes a tree of so many leaves has on all its levels.
    #[must_use]
    pub const fn nodes(leaves: usize) -> usize {
        let (mut level, mut sum) = (leaves, leaves);
        while level > 1 {
            level = level.div_ceil(2);
            sum += level;
        }
        sum
    }

    /// The tree over the first `count` hashes of `space`; those behind them are overwritten.
    ///
    /// # Errors
    /// [`TreeError`].
    ///
    /// # Panics
    /// Where `space` has no room for all [`Tree::nodes`].
    pub fn over(space: &'s mut [Hash], count: usize) -> Result<Self, TreeError> {
        let leaves =
            u32::try_from(count).ok().filter(|count| *count <= MAX_LEAVES).ok_or(TreeError::TooMany)?;
        if leaves == 0 {
            return Err(TreeError::Empty);
        }
        assert!(space.len() >= Self::nodes(count), "a tree needs room for all its nodes");
        let (mut from, mut width) = (0, count);
        while width > 1 {
            let (level, above) = space[from..].split_at_mut(width);
            for (pair, place) in level.chunks(2).zip(above) {
                *place = match pair {
                    [left, right] => node(left, right),
                    alone => alone[0],
                };
            }
            from += width;
            width = width.div_ceil(2);
        }
        Ok(Self { nodes: &space[..=from], count: leaves })
    }

    /// Its root.
    #[must_use]
    pub fn root(&self, domain: Domain) -> Hash {
        domain.root(self.count, &self.nodes[self.nodes.len() - 1])
    }

    /// The path of the leaf at `index`; `None` where there is no such leaf.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Path> {
        let (mut level, mut width, mut index) = (self.nodes, self.count as usize, index);
        if index >= width {
            return None;
        }
        let mut path = Path::new();
        while width > 1 {
            if let Some(sibling) = level[..width].get(index ^ 1) {
                path.push(*sibling).ok()?;
            }
            level = &level[width..];
            width = width.div_ceil(2);
            index /= 2;
        }
        Some(path)
    }
}

/// The root that a leaf at `index` of `count` leads to along `path`; `None` where the path has another length
/// than such a leaf's.
#[must_use]
pub fn climb(domain: Domain, leaf: Hash, index: u32, count: u32, path: &[Hash]) -> Option<Hash> {
    if index >= count || count > MAX_LEAVES {
        return None;
    }
    let (mut hash, mut index, mut width, mut siblings) = (leaf, index, count, path.iter());
    while width > 1 {
        if index % 2 == 1 {
            hash = node(siblings.next()?, &hash);
        } else if index + 1 < width {
            hash = node(&hash, siblings.next()?);
        }
        index /= 2;
        width = width.div_ceil(2);
    }
    siblings.next().is_none().then(|| domain.root(count, &hash))
}
