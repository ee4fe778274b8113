//! The tree of payouts: what a hub owes each device in all, under one root on the chain.
//!
//! A device proves its own line by the hashes beside the way up. The tree is a heap as OpenZeppelin's
//! `StandardMerkleTree` makes it, whose multiproofs a contract can check: node `i` has the children `2i + 1` and
//! `2i + 2`, the leaves are at the end, and a node hashes its two children in order of size. Unlike there, the first
//! line is the last node, so that lines which stand together are proven together. The number of lines is part of the
//! root. Building trees is the hub's affair (`sosna-contracts`).

use crate::{
    amount::Amount,
    hash::{Hash, keccak256, word},
    identity::Address,
};

/// No tree has more lines than this.
pub const MAX_LINES: u32 = 1 << 24;
/// The longest way up.
pub const MAX_PATH: usize = 24;

const TAG: &[u8] = b"sosna payout tree v1";

/// A line's leaf: `keccak(keccak(abi.encode(tag, device, cumulative)))`.
#[must_use]
pub fn leaf(device: &Address, cumulative: Amount) -> Hash {
    let tag = keccak256(&[TAG]);
    keccak256(&[&keccak256(&[&tag.0, &device.word(), &word(cumulative.units())]).0])
}

/// The node above two others, in whichever order they come.
#[must_use]
pub fn node(one: &Hash, other: &Hash) -> Hash {
    let (small, large) = if one <= other { (one, other) } else { (other, one) };
    keccak256(&[&small.0, &large.0])
}

/// What is posted: `keccak(abi.encode(tag, count, top))`, above the `top` of a tree of `count` lines.
#[must_use]
pub fn root(count: u32, top: &Hash) -> Hash {
    keccak256(&[&keccak256(&[TAG]).0, &word(u128::from(count)), &top.0])
}

/// The root that a device's line leads to along `path`; `None` where no tree of `count` lines has so long a way.
#[must_use]
pub fn climb(device: &Address, cumulative: Amount, count: u32, path: &[Hash]) -> Option<Hash> {
    // A heap's leaves are on two levels at most.
    let deepest = count.checked_next_power_of_two()?.trailing_zeros() as usize;
    let is_whole = count.is_power_of_two();
    let is_possible = path.len() == deepest || (!is_whole && path.len() + 1 == deepest);
    if count == 0 || count > MAX_LINES || !is_possible {
        return None;
    }
    let top = path.iter().fold(leaf(device, cumulative), |hash, sibling| node(&hash, sibling));
    Some(root(count, &top))
}
