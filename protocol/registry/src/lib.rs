//! Asks OCI registries for content, for hub and agent alike: names of images, one GET with its sign-in, and which
//! addresses may be spoken to at all.
//!
//! What it must never do: believe a registry what a digest says (its callers compare), send a password anywhere but
//! over TLS or to this very machine, or connect to a private address that nobody has named.
//!
//! The program that uses it installs a rustls crypto provider first.

mod client;
pub mod digest;
mod reach;
mod reference;

pub use client::{Kind, Registries, RegistryAuth, RegistryError, reason};
pub use digest::{Digest, DigestError};
pub use reach::{Denied, Reach, is_public};
pub use reference::{Reference, ReferenceError};
