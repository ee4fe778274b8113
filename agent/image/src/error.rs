//! What can go wrong while an image is made ready, in words for the person who started the job.

use std::{fmt, io, path::PathBuf};

use sosna_registry::{Denied, Digest, ReferenceError};

use crate::{
    config::{DocumentError, Platform},
    unpack::UnpackError,
};

/// Why an image is not ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Every source failed; each is listed with its own reason.
    #[error("{what} {digest} could not be had from any source: {failures}")]
    Sources {
        /// `the manifest`, `the configuration` or `the layer`.
        what: &'static str,
        /// What was asked for.
        digest: Digest,
        /// One for each source, in order.
        failures: Failures,
    },
    /// The image is for another machine.
    #[error("the image is built for {found}, this device is {expected}; ask for that platform's manifest")]
    Platform {
        /// What the request asked for.
        expected: Box<Platform>,
        /// What the image says.
        found: Box<Platform>,
    },
    /// The image cannot fit even when everything unused is evicted.
    #[error(
        "the image is too large: {what} needs at least {needed} bytes, and {limit} bytes of disk for images leave {room}; \
         use a smaller image, raise the limit, or stop tasks that hold other images"
    )]
    TooLarge {
        /// What did not fit.
        what: String,
        /// Bytes needed, as far as known: at least so many.
        needed: u64,
        /// Bytes that are left beside what running tasks hold.
        room: u64,
        /// The store's limit.
        limit: u64,
    },
    /// More would have to be fetched than may be.
    #[error("{needed} bytes of the image are not here, and at most {limit} may be fetched")]
    Costly {
        /// Compressed bytes that are missing.
        needed: u64,
        /// The request's limit.
        limit: u64,
    },
    /// The file system is full, whatever the limit says.
    #[error("no space left on the disk of {}; free some, or lower the limit for images", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
    },
    /// A verified document that cannot be used.
    #[error("the image {digest} cannot be used")]
    Document {
        /// The document's digest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// A verified layer that cannot be unpacked.
    #[error("the layer {digest} cannot be unpacked")]
    Unpack {
        /// The blob's digest.
        digest: Digest,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// The request names no source and the image is not here.
    #[error("{digest} is not on this device and no source is named; name a registry or a content server")]
    NoSource {
        /// The manifest, configuration or layer.
        digest: Digest,
    },
    /// Another process uses the store.
    #[error("{} is in use by another process; stop it or choose another folder", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// The store's own files.
    #[error("{what} {} failed", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// What went wrong with each source.
#[derive(Debug)]
pub struct Failures(pub Vec<SourceFailure>);

/// One source and its reason.
#[derive(Debug)]
pub struct SourceFailure {
    /// The source, as [`crate::Source`] prints it.
    pub source: String,
    /// Its reason.
    pub error: SourceError,
}

/// Why one source could not give some content.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The reference cannot be read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The reference carries a digest of its own, and it is another one.
    #[error("the reference names {0} itself, which is not what was asked for")]
    OtherDigest(Digest),
    /// It is where this device may not ask.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The source does not have it.
    #[error("unknown there")]
    Unknown,
    /// The source wants other credentials.
    #[error("not authorised (HTTP {0}): it wants other credentials, or hides that it has no such image")]
    Unauthorised(u16),
    /// Nobody answers.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The source asks to come back later.
    #[error("too many requests; try again later or sign in")]
    Throttled,
    /// Any other answer.
    #[error("answered HTTP {0}")]
    Status(u16),
    /// The connection broke again and again.
    #[error("the connection broke after {done} bytes: {reason}")]
    Broken {
        /// Bytes on disk; the next attempt goes on from there.
        done: u64,
        /// The last reason.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("silent for {seconds} s after {done} bytes")]
    Stalled {
        /// How long.
        seconds: u64,
        /// Bytes on disk; the next attempt goes on from there.
        done: u64,
    },
    /// The content is something else.
    #[error("sent wrong content: digest {found}")]
    WrongDigest {
        /// What came.
        found: Digest,
    },
    /// The content is longer or shorter than promised.
    #[error("sent wrong size: {found} bytes or more, {expected} expected")]
    WrongSize {
        /// By the manifest, or the bound for documents.
        expected: u64,
        /// What came before the rest was refused.
        found: u64,
    },
    /// The token server's or the registry's sign-in cannot be followed.
    #[error("its sign-in cannot be followed: {0}")]
    Auth(String),
    /// No HTTP client could be built.
    #[error("no HTTP client: {0}")]
    Client(String),
}

// === impl SourceError ===

impl SourceError {
    /// Whether this source is not worth another request within the same pull.
    pub(crate) fn is_about_the_source(&self) -> bool {
        !matches!(
            self,
            Self::Unknown | Self::WrongDigest { .. } | Self::WrongSize { .. } | Self::Broken { .. }
        )
    }
}

// === impl Failures ===

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, SourceFailure { source, error }) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{source}: {error}")?;
        }
        Ok(())
    }
}

// === impl ImageError ===

impl ImageError {
    /// A failed operation of the store, or the disk's being full.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path },
            _ => Self::Io { what, path, source },
        }
    }
}
