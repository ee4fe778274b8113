//! The composer of the device's operating system: from pinned Debian packages and our own programs to a bootable
//! disk image, without root, without mounts, and with the same bytes each time.
//!
//! It must never change the system that it runs on, write to a disk that it was not told to, or put anything into an
//! image whose hash it has not checked.

pub mod block;
pub mod board;
pub mod bootparts;
pub mod compose;
mod error;
pub mod flash;
pub mod ignition;
pub mod inspect;
pub mod package;
pub mod personal;
pub mod publish;
pub mod run;
mod sbom;
pub mod sources;

pub use error::Error;
