//! Vouchers: what a hub owes, in its own signature.

use super::messages;
use crate::{
    amount::Amount,
    codec::{Bounded, List, structure},
    eip712::{Domain, Voucher},
    hash::Hash,
    identity::{Address, AssignmentId, Signature, TaskId},
    result::Usage,
};

/// How many receipts one voucher is the first to cover at most.
pub const MAX_COVERED: usize = 1024;
/// How many receipts are shown at once.
pub const MAX_PRESENTED: usize = 16;
/// How many receipts a device shows in all after a restoration, and a hub records that nothing proves.
pub const MAX_SHOWN: usize = 4096;
/// The longest frame that a hub is shown as proof of what it has signed.
pub const MAX_PROOF: usize = 4096;

structure! {
    /// A voucher and its signature, for whoever knows the device.
    #[derive(Copy, Eq)]
    pub struct Statement {
        /// The chain, 0 for none.
        pub chain_id: u64,
        /// The hub's wallet there, or its own address.
        pub wallet: Address,
        /// All that was ever earned.
        pub cumulative: Amount,
        /// The root of the receipts that it is the first to cover.
        pub receipts: Hash,
        /// The hub's.
        pub signature: Signature,
    }
}

impl Statement {
    /// The structure that was signed, for `device`, and its domain.
    #[must_use]
    pub const fn voucher(&self, device: Address) -> (Voucher, Domain) {
        (
            Voucher { device, cumulative: self.cumulative, receipts: self.receipts },
            Domain { chain_id: self.chain_id, wallet: self.wallet },
        )
    }
}

structure! {
    /// A hub gives a device a voucher.
    pub struct Issue<'a> {
        /// The voucher.
        pub statement: Statement,
        /// The assignments whose receipts its root covers, in the tree's order.
        pub covers: List<'a, AssignmentId, MAX_COVERED>,
    }
}

structure! {
    /// The device has the voucher on disk.
    #[derive(Copy, Eq)]
    pub struct Held {
        /// Which: cumulative amounts only rise.
        pub cumulative: Amount,
    }
}

structure! {
    /// A receipt that no voucher names, as far as its device knows.
    #[derive(Copy, Eq)]
    pub struct Presented<'a> {
        /// Under which lease.
        pub assignment: AssignmentId,
        /// Of which task.
        pub task: TaskId,
        /// The image's manifest.
        pub image: Hash,
        /// The result tree's root.
        pub result: Hash,
        /// What it took.
        pub usage: Usage,
        /// What was agreed on.
        pub price: Amount,
        /// The device's signature of the receipt.
        pub signature: Signature,
        /// The hub's own frame with its verdict, where the device has one.
        pub verdict: Option<Bounded<&'a [u8], MAX_PROOF>>,
    }
}

structure! {
    /// A device shows a hub that was restored the receipts that it has not been paid for.
    pub struct Present<'a> {
        /// Some of them.
        pub receipts: List<'a, Presented<'a>, MAX_PRESENTED>,
    }
}

messages! { Pay:
    /// What hubs say.
    Down<'a> { Issue<'a> = 0, }
    /// What devices answer.
    Up<'a> { Held = 1, Present<'a> = 2, }
}
