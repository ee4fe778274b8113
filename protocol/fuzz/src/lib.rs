//! What the fuzzer calls: each function takes bytes as an enemy would send them and panics where a promise of the
//! protocol is broken. Refusing is always right; accepting must lead to something that can be written and read
//! again.
//!
//! They are plain functions so that `cargo test` can replay the corpus without a fuzzer.

mod codec;
mod frame;
mod names;

pub use codec::codec;
pub use frame::frame;
pub use names::names;

/// A target's function.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 3] = [("frame", frame), ("codec", codec), ("names", names)];
