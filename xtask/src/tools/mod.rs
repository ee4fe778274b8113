//! Tools that the project needs but does not contain. Each is looked for first and obtained into
//! `target/tools` only when it is missing; the system is never changed.

/// Debian packages: shared with the composer of images.
pub use sosna_apt as apt;

pub mod bare;
pub mod cargo;
pub mod compiler;
pub mod foundry;
pub mod programs;
pub mod zig;
