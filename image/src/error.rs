//! What can go wrong, in words for whoever composes an image.

use std::io;
use std::path::{Path, PathBuf};

/// Why a command of the composer did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A package cannot be had.
    #[error("cannot obtain the package {package}")]
    Package {
        /// Its name.
        package: String,
        /// Why not.
        #[source]
        source: sosna_apt::AptError,
    },
    /// The archive has moved on.
    #[error(
        "the archive no longer has {package}, which is pinned, but {now}; `sosna-image build --current` takes what it has now and says what differs, `sosna-image lock` pins that for all builds, and --mirror may name an archive that keeps old versions"
    )]
    Gone {
        /// The package with its version.
        package: String,
        /// What there is instead.
        now: String,
    },
    /// A package's bytes are not the pinned ones.
    #[error(
        "{package} has the SHA-256 {found}, not {wanted} as pinned: nothing of it was used; `sosna-image lock` pins what the archive has now"
    )]
    Hash {
        /// The package with its version.
        package: String,
        /// What was pinned.
        wanted: String,
        /// What came.
        found: String,
    },
    /// A package, image or file is not built as it should be.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which file or part.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that should be there is not.
    #[error("{what} is not there: looked for {looked}; {hint}")]
    Missing {
        /// Which.
        what: String,
        /// The paths.
        looked: String,
        /// What to do.
        hint: String,
    },
    /// Something does not fit where it has to go.
    #[error("{what} needs {needed} bytes, and there is room for {room}")]
    Room {
        /// Which part.
        what: String,
        /// Its size.
        needed: u64,
        /// The room.
        room: u64,
    },
    /// What was asked for does not exist or makes no sense.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// For `map_err` of an operation on a file.
    pub fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// A part that is not built as it should be.
    pub fn malformed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string() }
    }
}
