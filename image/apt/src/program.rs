//! Programs of packages that are unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Apt, AptError};

/// A program that can be started where its package was unpacked.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// The folder that stands for `/`.
    pub root: PathBuf,
    /// The program's file.
    pub program: PathBuf,
    /// What its `LD_LIBRARY_PATH` must say.
    pub libraries: String,
}

// === impl Unpacked ===

impl Unpacked {
    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }
}

// === impl Apt ===

impl Apt {
    /// Unpacks a package with what it needs into the folder `root`, and finds `program` (a path within it).
    ///
    /// # Errors
    /// [`AptError`].
    pub fn program(&self, package: &str, program: &str, root: &Path) -> Result<Unpacked, AptError> {
        self.unpack(&[package], true, root)?;
        Ok(Unpacked {
            root: root.to_owned(),
            program: root.join(program),
            libraries: libraries(root).join(":"),
        })
    }
}

/// The folders of an unpacked tree that hold shared libraries, the C library's left out: it must be the one that
/// the system's loader belongs to.
fn libraries(root: &Path) -> Vec<String> {
    let entries =
        |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders: Vec<PathBuf> = ["lib", "usr/lib"]
        .into_iter()
        .flat_map(|folder| entries(root.join(folder)).chain([root.join(folder)]).collect::<Vec<_>>())
        .filter(|path| path.is_dir() && !path.join("libc.so.6").exists())
        .collect();
    folders.iter().map(|path| path.display().to_string()).collect()
}
