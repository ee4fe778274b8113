//! Turns a compressed layer into a folder for overlayfs, in a child process that can do nothing else.
//!
//! The store asks a helper ([`crate::helper`]) and gives it a blob whose digest it has verified, and bounds. The helper
//! gives the child an empty folder. The child builds its sandbox, decompresses (gzip, zstd or nothing), checks the diff_id
//! over the uncompressed stream, and reports. The helper then sets what needs more power than the child has (the mark of
//! opaque folders), flushes, and only its rename makes the folder visible.
//!
//! Decisions: modes are kept with set-uid and set-gid bits (the store is closed to everybody but its owner, and
//! tasks run in user namespaces); owners, times, `user.*` attributes and `security.capability` are kept; other
//! attributes are dropped and counted; whiteouts become the character device 0:0; any other device refuses the layer.
//!
//! What the walls do not give: the child itself says that the diff_id is right. Layers are shared by diff_id, so code
//! that took the child over through a fault in a decompressor could lay a wrong tree under another image's diff_id;
//! both decompressors and the archive reader are safe Rust for that reason.

mod archive;
mod ask;
mod child;
mod message;
mod parent;
pub mod sandbox;
mod stream;
mod tree;

pub use ask::UnpackError;
pub(crate) use ask::{Job, unpack};
pub use message::{Limits, Refusal, Unpacked};
pub(crate) use parent::helper;

/// What the child is called by.
const ARGV0: &str = "sosna-unpack";
/// The first argument by which the binary knows that it is to unpack.
const REQUEST: &str = "sosna-unpack-layer";

/// Unpacks and exits when this process was started to do so; returns at once otherwise.
pub(crate) fn run_if_requested() {
    let mut arguments = std::env::args_os();
    let is_child = arguments.next().is_some_and(|name| name == ARGV0);
    if is_child && arguments.next().is_some_and(|first| first == REQUEST) {
        child::run(arguments);
    }
}
