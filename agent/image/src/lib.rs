//! Brings OCI images onto a device: pulls by digest, verifies everything, unpacks in a sandboxed child, keeps layers
//! shared between tasks, and collects garbage under a disk limit.
//!
//! What it must never do: fork from a threaded process, trust a name, a size or a digest that came over the network,
//! follow a symbolic link out of a layer, or show a layer that is not completely written and verified.
//!
//! The program that uses this crate calls [`helper::run_if_requested`] as the first line of `main` (what works on layers
//! is the same binary started again, with rights that the program itself need not have) and installs a rustls crypto
//! provider before the first pull.

mod config;
mod disk;
mod error;
mod fetch;
pub mod helper;
mod http;
mod ledger;
mod locks;
mod merged;
mod prepared;
mod request;
mod store;
pub mod unpack;
mod user;

pub use config::{DocumentError, Platform, RunConfig};
pub use error::{Failures, ImageError, SourceError, SourceFailure};
pub use ledger::Collected;
pub use prepared::{OverlayMode, Prepared};
pub use request::{ImageRequest, Progress, Source};
use sosna_registry::digest;
pub use sosna_registry::{Denied, Digest, DigestError, Reach, Reference, ReferenceError, RegistryAuth};
pub use store::{Image, ImageStore, StoreOptions};
pub use user::{ResolvedUser, UserError, resolve_user};
