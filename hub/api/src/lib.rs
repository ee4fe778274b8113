//! The types of the hub's REST interface, shared by the hub and its clients.
//!
//! How things are written, everywhere: hashes, ids and signatures as lower-case hexadecimal without `0x`; addresses
//! as `0x` and mixed case (EIP-55; read in any case); amounts as decimal strings of SNM; times as integers of
//! milliseconds since 1970 in fields that end in `_ms`; sizes as integers of bytes; cases as the words of
//! `sosna_protocol`. What a hub answers may gain fields at any time, and clients ignore what they do not know; what
//! clients send is refused where it has a field that does not exist.
//!
//! This crate must never do I/O, and must not decide anything: it says what is said.

pub mod boinc;
pub mod deposit;
pub mod device;
pub mod event;
pub mod hub;
pub mod job;
pub mod ledger;
pub mod owner;
pub mod problem;
pub mod route;
pub mod task;
pub mod text;
pub mod user;
pub mod wallet;
mod word;

pub use problem::{Code, Problem};
pub use text::Text;
