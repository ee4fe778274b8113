//! The contracts as Rust sees them.
//!
//! Duties: typed calls, answers, events and errors of every contract ([`bindings`]), the tree of payouts that a period's
//! root is over ([`payouts`]), what has to be sent to set all of it up on a chain ([`deployment`]), and transactions that
//! a key of ours signs ([`transaction`]).
//!
//! It must never speak to a network: who asks a chain, which one and whom to believe is the hub's and the device's
//! affair, and they ask in different ways.

pub mod bindings;
pub mod deployment;
pub mod payouts;
mod phase;
pub mod transaction;

use alloy_primitives::U256;
use sosna_protocol::{Address, Amount, Hash, eip712};

use bindings::HubWallet;
pub use phase::Phase;

/// An address for a call.
#[must_use]
pub fn address(ours: &Address) -> alloy_primitives::Address {
    ours.0.into()
}

/// An address out of an answer.
#[must_use]
pub fn from_address(theirs: &alloy_primitives::Address) -> Address {
    Address(theirs.0.0)
}

/// A hash for a call.
#[must_use]
pub fn hash(ours: &Hash) -> alloy_primitives::B256 {
    ours.0.into()
}

/// An amount for a call, in units.
#[must_use]
pub fn amount(ours: Amount) -> U256 {
    U256::from(ours.units())
}

/// An amount out of an answer; `None` for what no books of ours can hold (2^128 units and more).
#[must_use]
pub fn from_amount(theirs: &U256) -> Option<Amount> {
    u128::try_from(*theirs).ok().map(Amount::from_units)
}

impl From<&eip712::Payout> for HubWallet::Payout {
    fn from(ours: &eip712::Payout) -> Self {
        Self {
            wallet: address(&ours.wallet),
            device: address(&ours.device),
            to: address(&ours.to),
            cumulative: amount(ours.cumulative),
            maxFee: amount(ours.max_fee),
            deadline: U256::from(ours.deadline),
        }
    }
}

impl From<&eip712::Payee> for HubWallet::Payee {
    fn from(ours: &eip712::Payee) -> Self {
        Self {
            device: address(&ours.device),
            payee: address(&ours.payee),
            sharePerMille: U256::from(ours.share_per_mille),
            nonce: U256::from(ours.nonce),
            deadline: U256::from(ours.deadline),
        }
    }
}
