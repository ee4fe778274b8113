//! The store on real files: what it keeps, when it counts, and what it survives.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod books;
mod chain;
mod crash;
mod deposits;
mod full;
mod lives;
mod support;
mod writer;
