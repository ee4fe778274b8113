//! The language that devices and hubs speak.
//!
//! Duties: encode and decode every message, bind it to its sender and audience, name the same thing in the
//! same way on both sides. It computes digests and verifies signatures.
//!
//! It must never do I/O, read a clock, draw randomness, hold a key, or allocate: a microcontroller without
//! an allocator speaks it as well as a hub does. Whatever comes from the network is bounded before it is read.
#![no_std]

pub mod amount;
pub mod codec;
pub mod eip712;
pub mod envelope;
pub mod frame;
pub mod hash;
pub mod identity;
pub mod merkle;
pub mod message;
pub mod payout;
pub mod resources;
pub mod result;
pub mod topic;
pub mod window;

pub use amount::Amount;
pub use hash::Hash;
pub use identity::{Address, Signature};
