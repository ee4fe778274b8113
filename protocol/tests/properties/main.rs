//! What holds for every input, tried on many.
//!
//! `PROPTEST_CASES` sets how many (256 of each by default); a failure is shrunk and shown, with its seed kept
//! beside the test.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests; what is cut off here is cut off on purpose"
)]

mod amount;
mod codec;
mod envelope;
mod generate;
mod merkle;
mod message;
mod names;
mod result;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tree.rs"]
mod tree;
mod window;
