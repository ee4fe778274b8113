//! What a program on an operating system needs to speak the protocol, once for devices, hubs and their clients:
//! keys and files that survive a power cut, a clock, configuration, retry, TLS with a pinned authority, errors
//! that a person can act on.
//!
//! It must never know what a job is, open a socket by itself, or decide policy.

pub mod address;
pub mod clock;
pub mod config;
pub mod content;
pub mod file;
pub mod identity;
pub mod manifest;
pub mod memory;
pub mod report;
pub mod retry;
pub mod seal;
pub mod telemetry;
pub mod tls;
pub mod token;

/// Fills an array with randomness from the operating system.
///
/// # Panics
/// Where the operating system has none: no key or nonce may ever be guessed instead.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
