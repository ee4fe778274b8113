//! A job before it is submitted: from the command line or from a file, with what of it lies on this machine.

mod file;
mod input;

use std::{io, path::PathBuf};

use sosna_api::job::NewJob;
use sosna_host::{file::FileError, report::Exit};
use sosna_protocol::resources::Arch;

pub use file::read;
pub use input::{InputArg, LocalInput};

use crate::{image::ImageArg, quantity::QuantityError};

/// What is submitted, as soon as the image and the inputs are at the hub.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The image, perhaps on this machine.
    pub image: ImageArg,
    /// The architecture that was asked for.
    pub arch: Option<Arch>,
    /// Files on this machine.
    pub inputs: Vec<InputArg>,
    /// Everything else. Its image is the text of [`Draft::image`], its inputs are empty.
    pub spec: NewJob,
}

/// Why a job cannot be submitted as it is.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The job's file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The job's file is not one.
    #[error("{} is not a job; `sosna submit --help` shows one", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value of the job's file.
    #[error("`{key}` in {} cannot be used", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not `SRC:DST`.
    #[error("`{0}` is not an input: write SRC:DST, with DST an absolute path in the container without `..`")]
    Input(String),
    /// Not a path of a container.
    #[error("`{0}` is not an output: write an absolute path in the container without `..`")]
    Output(String),
    /// Not `KEY=VALUE`.
    #[error("`{0}` is not an environment entry: write KEY=VALUE")]
    Environment(String),
    /// An input that cannot be read.
    #[error("the input {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither file nor folder.
    #[error("the input {} is {what}; inputs are files, and folders of files", path.display())]
    Kind {
        /// What was found.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A name that no task could be given.
    #[error("the input {} has a name that is not UTF-8; rename it", .0.display())]
    Name(PathBuf),
    /// More than a task can be given.
    #[error("there are more than {0} input files; pack them into one archive")]
    TooMany(usize),
    /// Two inputs in one place.
    #[error("two inputs go to {0}")]
    Twice(String),
}

impl DraftError {
    /// What a script sees.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match self {
            Self::File(error) if missing(&error.source) => Exit::NotFound,
            Self::Unreadable { source, .. } if missing(source) => Exit::NotFound,
            Self::File(_) | Self::Unreadable { .. } => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}

impl From<(PathBuf, &'static str, QuantityError)> for DraftError {
    fn from((path, key, error): (PathBuf, &'static str, QuantityError)) -> Self {
        Self::Value { path, key, source: Box::new(error) }
    }
}

/// An absolute path in a container: no `..`, nothing doubled, `/` alone excepted.
fn container_path(text: &str) -> Option<String> {
    let rest = text.strip_prefix('/')?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.contains(&"..") || text.contains('\0') {
        return None;
    }
    Some(format!("/{}", parts.join("/")))
}

/// A declared output.
///
/// # Errors
/// [`DraftError::Output`].
pub fn output(text: &str) -> Result<String, DraftError> {
    container_path(text).ok_or_else(|| DraftError::Output(text.to_owned()))
}

/// An environment entry.
///
/// # Errors
/// [`DraftError::Environment`].
pub fn environment(text: &str) -> Result<(String, String), DraftError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(DraftError::Environment(text.to_owned())),
    }
}
