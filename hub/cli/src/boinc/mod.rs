//! Statistics exports of BOINC projects: who has done how much, and who of them can be paid.
//!
//! Projects publish them as `host.gz` and `user.gz` (`db_dump`, with `<detail/>` for hosts), often by other names and
//! sometimes not compressed.

mod export;
mod gather;
mod payees;

use std::path::PathBuf;

use sosna_host::{file::FileError, report::Exit};

pub use gather::{Found, Sources, gather};
pub use payees::Payees;

/// Why an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoincError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not XML, or cut short.
    #[error("{path} cannot be read any further than byte {at} of what it unpacks to; was it fetched whole?")]
    Xml {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        #[source]
        source: quick_xml::Error,
    },
    /// Another table's.
    #[error("{path} is an export of `{found}`, and one of `{wanted}` is wanted here")]
    Table {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Something that must be there.
    #[error("{path}: {record} {id} has no sound `{field}`: `{text}`")]
    Field {
        /// The file.
        path: PathBuf,
        /// `host` or `user`.
        record: &'static str,
        /// Its number, as far as it is known.
        id: String,
        /// What is missing.
        field: &'static str,
        /// What is there instead.
        text: String,
    },
    /// No computer says whose it is.
    #[error(
        "none of the computers of {0} has a `userid`: the project exports hosts without `<detail/>`, and nobody can be paid \
         by that"
    )]
    NoOwners(PathBuf),
    /// The file of payees.
    #[error("{path} does not say who is paid; it looks like this:\n\n{example}\n")]
    Payees {
        /// The file.
        path: PathBuf,
        /// What it should be.
        example: &'static str,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl BoincError {
    /// What a script sees.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::File(_) => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}
