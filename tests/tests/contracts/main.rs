//! Rust and Solidity agree: on trees of payouts and their proofs, on what is signed, on amounts. Random inputs meet the
//! contracts themselves, on a chain of this machine's own; trees also meet OpenZeppelin's library in JavaScript.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod scene;
mod signed;
mod trees;
