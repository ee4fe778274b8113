//! Debian packages: pinned by hash, obtained once, read without unpacking them anywhere.

mod archive;
mod cache;
mod lock;

pub use archive::{Content, Entry, read};
pub use cache::Cache;
pub use lock::{Change, Lock, Pin};
