//! The contracts: what of them is committed beside their sources, and what is asked of them besides their tests.

pub mod artifacts;
pub mod coverage;
pub mod slither;

use std::io;
use std::path::PathBuf;

use crate::exec::Log;
use crate::paths::Tree;
use crate::tools::foundry::{Foundry, FoundryError};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ContractsError {
    /// Foundry cannot be had.
    #[error(transparent)]
    Foundry(#[from] FoundryError),
    /// They do not compile.
    #[error("the contracts do not compile; the compiler's words are in {log}", log = log.display())]
    Compile {
        /// What forge said.
        log: PathBuf,
    },
    /// A program's answer is not what it is known to be.
    #[error("{program} answers in another form than it is known to, in {path}", path = path.display())]
    Form {
        /// Whose.
        program: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Slither cannot be had.
    #[error(
        "Python's pip does not give Slither (its words are in {log}); installing python3-pip helps", log = log.display()
    )]
    Slither {
        /// What pip said.
        log: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn io_error(path: &std::path::Path) -> impl FnOnce(io::Error) -> ContractsError {
    let path = path.to_path_buf();
    move |source| ContractsError::Io { path, source }
}

/// Compiles the contracts and writes what is committed of that.
///
/// # Errors
/// [`ContractsError`].
pub fn write(tree: &Tree) -> Result<Vec<PathBuf>, ContractsError> {
    let path = tree.root().join("target/xtask/contracts-write.log");
    let mut log = Log::begin(&path).map_err(io_error(&path))?;
    let foundry = Foundry::obtain(tree, &mut log, &mut |text| eprintln!("{text}"))?;
    artifacts::write(&foundry, &mut log)
}
