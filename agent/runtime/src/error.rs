//! What can go wrong when the agent asks for a container. Ends of a container are no errors: they are an
//! [`crate::EndCause`] in its exit record.

use std::{io, path::PathBuf};

pub(crate) use sosna_privsep::chain;

/// Why a call of the runtime failed; says what was tried, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// An identifier that is not `[a-z0-9-]{1,64}`.
    #[error("'{0}' is not a container id: use 1 to 64 of a-z, 0-9 and '-'")]
    BadId(String),
    /// A specification that no container could be made of.
    #[error("the container's {field} cannot be used: {problem}")]
    BadSpec {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Asked for something that this build or this machine does not have.
    #[error("{what} is not available in this build; run the task without it")]
    NotAvailable {
        /// The feature that is missing.
        what: &'static str,
    },
    /// Two different specifications under one id.
    #[error("container {id} exists already with another specification; remove it first or use another id")]
    Conflict {
        /// The id that is taken.
        id: String,
    },
    /// Nothing is known under this id.
    #[error("there is no container {id} here")]
    Unknown {
        /// The id asked for.
        id: String,
    },
    /// All ranges of user ids are taken.
    #[error("all {count} ranges of user ids are in use; wait for a container to end or raise uid_count")]
    NoUidRange {
        /// How many ranges there are.
        count: u32,
    },
    /// The shim did not come up or did not answer.
    #[error("the shim of container {id} {problem}; its messages are in {log}")]
    Shim {
        /// The container.
        id: String,
        /// What happened.
        problem: String,
        /// Where to look.
        log: PathBuf,
    },
    /// A seccomp profile that we cannot honour in full.
    #[error("cannot honour the seccomp profile")]
    Seccomp(#[from] crate::seccomp::SeccompError),
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, in words.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of ours has content that we do not understand.
    #[error("{path} is damaged or of another version; remove the container to go on")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it could not be read.
        #[source]
        source: serde_json::Error,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Turns an I/O error into ours, with what was tried and where.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|e| RuntimeError::Io { action, path: path.into(), source: e.into() })
    }
}
