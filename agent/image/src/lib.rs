//! Brings OCI images onto a device: pulls by digest, verifies everything, unpacks in a sandboxed child, keeps layers
//! shared between tasks, and collects garbage under a disk limit.
//!
//! What it must never do: fork from a threaded process, trust a name, a size or a digest that came over the network,
//! follow a symbolic link out of a layer, or show a layer that is not completely written and verified.
//!
//! The program that uses this crate calls [`unpack::run_if_requested`] as the first line of `main` (the unpacker is
//! the same binary started again) and installs a rustls crypto provider before the first pull.

mod config;
mod digest;
mod disk;
mod error;
mod fetch;
mod ledger;
mod locks;
mod merged;
mod reference;
mod registry;
mod request;
mod store;
pub mod unpack;
mod user;

pub use config::{DocumentError, Platform, RunConfig};
pub use digest::{Digest, DigestError};
pub use error::{Failures, ImageError, SourceError, SourceFailure};
pub use ledger::Collected;
pub use reference::{Reference, ReferenceError};
pub use request::{ImageRequest, Progress, RegistryAuth, Source};
pub use store::{Image, ImageStore, OverlayMode, StoreOptions};
pub use user::{ResolvedUser, UserError, resolve_user};
