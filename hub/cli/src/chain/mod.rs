//! The chain on which hubs' wallets are, as a person with a key meets it: what is there, and transactions of theirs.
//!
//! Whatever is done looks first, as of one block, and sends only what is missing there, so that a command can be
//! repeated after any failure. An endpoint's address may hold an access key: no message has more of it than its host.

pub mod args;
mod claim;
mod error;
pub mod escrow;
mod key;
mod node;
mod payee;
mod refusal;
mod send;
pub mod wallet;

pub use claim::{By, Call, Claim, ClaimError};
pub use error::ChainError;
pub use key::KeyError;
pub use node::{Block, Node};
pub use payee::Registration;
pub use send::{Advice, Moment, Sender, Sent};

use sosna_protocol::Amount;

/// Ether for people, in nine places, rounded up: what is shown is enough.
#[must_use]
pub fn ether(units: u128) -> String {
    const GWEI: u128 = 1_000_000_000;
    Amount::from_units(units.div_ceil(GWEI).saturating_mul(GWEI)).to_string()
}

#[cfg(test)]
mod tests {
    use super::ether;

    #[test]
    fn ether_is_rounded_up_to_what_people_read() {
        assert_eq!(ether(0), "0");
        assert_eq!(ether(1), "0.000000001");
        assert_eq!(ether(1_500_000_000_000_000_000), "1.5");
        assert_eq!(ether(123_456_789_012_345_678), "0.12345679");
    }
}
