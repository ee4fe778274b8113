//! End-to-end tests over real processes, sockets, TLS and containers.
#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test that asked")]

pub mod books;
pub mod chain;
pub mod guest;
pub mod held;
pub mod image;
pub mod leaks;
pub mod lives;
pub mod node;
pub mod opening;
pub mod program;
pub mod registry;
pub mod secrets;
pub mod time;
mod work;
pub mod world;
