//! What the unpacking child, its parent, and the store say to each other: the order as one JSON argument, then one JSON
//! line per message on standard output. The parent trusts none of the child's beyond the types.

use serde::{Deserialize, Serialize};

use super::sandbox::SandboxReport;
use crate::digest::Digest;

/// Bounds on one layer. A layer over a bound is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of the uncompressed tar stream.
    pub stream_bytes: u64,
    /// Bytes that the unpacked tree may take on disk (files rounded up to 4 KiB, 512 bytes an entry).
    pub disk_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of one path or link target.
    pub path_bytes: usize,
    /// Components of one path.
    pub path_depth: usize,
    /// Bytes of all extended attributes of one entry, names included.
    pub xattr_bytes: usize,
    /// Address space of the child in bytes (RLIMIT_AS): a decompressor that asks for more dies.
    pub memory_bytes: u64,
}

impl Limits {
    /// The same within what a helper allows whoever asks: enough for every image, and for a folder that can be removed.
    #[must_use]
    pub(crate) fn clamped(self) -> Self {
        let most = Self::for_store(u64::MAX);
        Self {
            entries: self.entries.min(most.entries),
            path_bytes: self.path_bytes.min(most.path_bytes),
            path_depth: self.path_depth.min(most.path_depth),
            xattr_bytes: self.xattr_bytes.min(most.xattr_bytes),
            memory_bytes: self.memory_bytes.min(most.memory_bytes),
            ..self
        }
    }

    /// Defaults for a store with this disk limit: a layer may be as large as the whole store, never more.
    #[must_use]
    pub fn for_store(limit_bytes: u64) -> Self {
        Self {
            stream_bytes: limit_bytes,
            disk_bytes: limit_bytes,
            // At 512 bytes an entry, more entries than this cannot fit either.
            entries: (limit_bytes / 512).clamp(1024, 1_000_000),
            path_bytes: 4095,
            path_depth: 128,
            xattr_bytes: 64 * 1024,
            memory_bytes: 512 * 1024 * 1024,
        }
    }
}

/// What the child is told to do: standard input is the blob, the working directory is the empty target.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) diff_id: Digest,
    pub(crate) limits: Limits,
}

/// One line from the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// How far the sandbox could be built; always first.
    Sandbox(SandboxReport),
    /// Uncompressed bytes read so far. A parent that has died makes this write fail, which ends the child.
    Progress(u64),
    /// A directory that hides everything below it, as hexadecimal bytes of its path; empty for the layer's root.
    Opaque(String),
    /// The tree is complete and the diff_id is right.
    Done(Unpacked),
    /// The layer is refused.
    Refused(Refusal),
}

/// How an unpacking goes, to whoever asked for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// How far the sandbox could be built.
    Sandbox(SandboxReport),
    /// Uncompressed bytes read so far.
    Progress(u64),
    /// The layer is in its place.
    Done {
        /// What it turned out to be.
        unpacked: Unpacked,
        /// It hides everything below it.
        root_opaque: bool,
    },
    /// The layer is refused.
    Refused(Refusal),
    /// The child did not do as it should.
    Failed(ChildFailure),
    /// The finished folder could not be completed: in words, and the number of the system's error where it is one.
    Finish(String, Option<i32>),
}

/// What was wrong with the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ChildFailure {
    /// It could not be started or talked to.
    Child(String),
    /// It said nothing for too long.
    Silent,
    /// It spoke nonsense.
    Protocol(String),
    /// It died, with this wait status.
    Died(i32),
}

/// What one layer turned out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Bytes of the uncompressed tar stream.
    pub stream_bytes: u64,
    /// Bytes taken on disk, counted as [`Limits::disk_bytes`] counts.
    pub disk_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Extended attributes that were not kept: those of overlay, of other security modules, or unknown to the disk.
    pub dropped_xattrs: u64,
    /// Directories that entries lie in but the archive does not list; they got mode 0755 and owner 0.
    pub implied_directories: u64,
    /// Whether owners could be set; without the capability everything belongs to the unpacking user.
    pub owners_kept: bool,
}

/// Why a layer was refused. Paths are those of the archive, made printable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An entry's path contains `..`.
    #[error("the entry {path} climbs out of the layer with '..'")]
    Climbs {
        /// The entry.
        path: String,
    },
    /// An entry lies below a symbolic link.
    #[error("the entry {path} goes through a symbolic link of the same layer")]
    ThroughSymlink {
        /// The entry.
        path: String,
    },
    /// A hard link's target is not in the layer.
    #[error("the hard link {path} points at {target}, which is not in the layer")]
    HardLinkOutside {
        /// The entry.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A hard link's target is a symbolic link, a directory, a FIFO or a whiteout.
    #[error("the hard link {path} points at {target}, which is not a regular file")]
    HardLinkToNonFile {
        /// The entry.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A device node: an image has no business to bring one.
    #[error("the entry {path} is a device node")]
    Device {
        /// The entry.
        path: String,
    },
    /// A whiteout without a name to hide.
    #[error("the whiteout {path} names nothing that can be hidden")]
    Whiteout {
        /// The entry.
        path: String,
    },
    /// An entry needs the place of another that cannot give way.
    #[error("the entry {path} lies where the layer has something else already")]
    Conflict {
        /// The entry.
        path: String,
    },
    /// A kind of entry that layers do not have (sparse, multi-volume and the like).
    #[error("the entry {path} is of tar type {kind:?}, which is not supported in layers")]
    Kind {
        /// The entry.
        path: String,
        /// The type character.
        kind: char,
    },
    /// More entries than allowed.
    #[error("the layer has more than {limit} entries")]
    Entries {
        /// The bound.
        limit: u64,
    },
    /// A path or link target longer than allowed.
    #[error("a path in the layer is longer than {limit} bytes: {path}...")]
    PathLength {
        /// The first bytes of it.
        path: String,
        /// The bound.
        limit: usize,
    },
    /// A path with more components than allowed.
    #[error("the entry {path} lies more than {limit} folders deep")]
    PathDepth {
        /// The entry.
        path: String,
        /// The bound.
        limit: usize,
    },
    /// Too many bytes of extended attributes on one entry.
    #[error("the extended attributes of {path} are larger than {limit} bytes")]
    Xattrs {
        /// The entry.
        path: String,
        /// The bound.
        limit: usize,
    },
    /// The uncompressed stream is longer than allowed: a bomb, or simply too large.
    #[error("the layer is larger than {limit} bytes when uncompressed")]
    Stream {
        /// The bound.
        limit: u64,
    },
    /// The tree would take more of the disk than this store has left.
    #[error("the unpacked layer needs more than the {limit} bytes that are left under the disk limit")]
    DiskRoom {
        /// The room that was left.
        limit: u64,
    },
    /// The file system is full.
    #[error("no space left on the device")]
    NoSpace,
    /// The uncompressed content is not what the image's configuration promises.
    #[error("the uncompressed layer is {found}, the image promises {expected}")]
    DiffId {
        /// Promised by the configuration.
        expected: Digest,
        /// What came out.
        found: Digest,
    },
    /// The stream ended too early.
    #[error("the layer ends in the middle of {place}")]
    Truncated {
        /// Where it ended.
        place: String,
    },
    /// Not a tar archive, or the compression is damaged.
    #[error("the layer is damaged: {detail}")]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The system refused an operation.
    #[error("{action} {path} failed: {detail}")]
    System {
        /// What was tried.
        action: String,
        /// On which entry.
        path: String,
        /// The system's answer.
        detail: String,
    },
}
