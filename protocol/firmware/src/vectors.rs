//! The committed vectors as constants: what they are. Their values are made by `build.rs`.
#![allow(clippy::unreadable_literal, reason = "generated")]

use sosna_protocol::{
    Hash,
    result::{Entry, EntryKind},
};

/// A frame, and its parts.
pub(crate) struct Frame {
    pub(crate) raw: bool,
    pub(crate) channel: u64,
    pub(crate) message: u64,
    pub(crate) arguments: &'static [u8],
    pub(crate) headers: Option<&'static [u8]>,
    pub(crate) frame: &'static [u8],
}

/// The arguments of one message.
pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [u8],
}

/// A sealed frame.
pub(crate) struct Sealed {
    pub(crate) sender: [u8; 20],
    pub(crate) audience: [u8; 20],
    pub(crate) expires_ms: u64,
    pub(crate) root: [u8; 32],
    pub(crate) frame: &'static [u8],
}

/// A result and its root.
pub(crate) struct Tree {
    pub(crate) entries: &'static [Entry<'static>],
    pub(crate) root: [u8; 32],
}

/// A commitment and what it is to.
pub(crate) struct Commitment {
    pub(crate) hub: [u8; 20],
    pub(crate) assignment: [u8; 16],
    pub(crate) device: [u8; 20],
    pub(crate) root: [u8; 32],
    pub(crate) salt: [u8; 32],
    pub(crate) commitment: [u8; 32],
}

/// What `ethers` and `viem` signed.
pub(crate) struct Signed {
    pub(crate) address: [u8; 20],
    pub(crate) digest: [u8; 32],
    pub(crate) signature: [u8; 65],
}

/// A voucher and its EIP-712 digest.
pub(crate) struct Voucher {
    pub(crate) chain_id: u64,
    pub(crate) wallet: [u8; 20],
    pub(crate) device: [u8; 20],
    pub(crate) cumulative: u128,
    pub(crate) receipts: [u8; 32],
    pub(crate) digest: [u8; 32],
}

mod made {
    use super::{Commitment, Entry, EntryKind, Frame, Hash, Message, Sealed, Signed, Tree, Voucher};
    include!(concat!(env!("OUT_DIR"), "/vectors.rs"));
}
pub(crate) use made::{COMMITMENTS, FRAMES, MESSAGES, RESULTS, SEALS, SIGNATURES, VOUCHERS};

/// How many there are.
#[cfg(test)]
pub(crate) fn count() -> usize {
    FRAMES.len()
        + MESSAGES.len()
        + SEALS.len()
        + RESULTS.len()
        + COMMITMENTS.len()
        + SIGNATURES.len()
        + VOUCHERS.len()
}
