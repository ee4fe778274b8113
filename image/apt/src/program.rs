//! Programs of packages that are unpacked and not installed.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Apt, AptError, create_dir};

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
        within(root, program)
    }
}

/// A program of an unpacked tree.
pub(super) fn within(root: &Path, program: &str) -> Result<Unpacked, AptError> {
    // Links and the loader's path are read from other folders than this one.
    let root = std::path::absolute(root).map_err(AptError::io("find", root))?;
    let folders: Vec<String> = libraries(&root)?.iter().map(|path| path.display().to_string()).collect();
    Ok(Unpacked { program: root.join(program), root, libraries: folders.join(":") })
}

/// Where links to shared libraries are kept that lie beside the C library.
const LINKS: &str = "libraries";

/// The folders of an unpacked tree that hold shared libraries. The C library is left out, since it must be the one
/// that the system's loader belongs to: what lies beside it is linked to in a folder of its own.
fn libraries(root: &Path) -> Result<Vec<PathBuf>, AptError> {
    let entries =
        |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders: Vec<PathBuf> = ["lib", "usr/lib"]
        .into_iter()
        .flat_map(|folder| entries(root.join(folder)).chain([root.join(folder)]).collect::<Vec<_>>())
        .filter(|path| path.is_dir())
        .collect();
    let (with, mut without): (Vec<_>, Vec<_>) =
        folders.into_iter().partition(|path| path.join("libc.so.6").exists());
    let links = root.join(LINKS);
    for file in with.into_iter().flat_map(entries).filter(|file| file.is_file() && !of_c_library(file)) {
        create_dir(&links)?;
        let link = links.join(file.file_name().unwrap_or_default());
        // The tree may have been moved since it was made.
        if fs::read_link(&link).is_ok_and(|old| old != file) {
            let _ = fs::remove_file(&link);
        }
        match symlink(&file, &link) {
            // Another test was quicker, or an earlier run.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(AptError::io("make the link", &link)(error));
            }
            _ => {}
        }
    }
    if links.is_dir() {
        without.push(links);
    }
    Ok(without)
}

/// Whether a file is one of the package `libc6`.
fn of_c_library(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(['.', '-']).next().unwrap_or_default();
    matches!(
        stem,
        "ld" | "libBrokenLocale"
            | "libanl"
            | "libc"
            | "libc_malloc_debug"
            | "libdl"
            | "libm"
            | "libmemusage"
            | "libmvec"
            | "libnsl"
            | "libnss_compat"
            | "libnss_dns"
            | "libnss_files"
            | "libnss_hesiod"
            | "libpcprofile"
            | "libpthread"
            | "libresolv"
            | "librt"
            | "libthread_db"
            | "libutil"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn libraries_beside_the_c_library_are_offered_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(folder.join("pulse")).unwrap();
        for name in ["libc.so.6", "ld-linux-x86-64.so.2", "libm.so.6", "libz.so.1", "libmount.so.1"] {
            fs::write(folder.join(name), "").unwrap();
        }
        for _ in 0..2 {
            let found = within(dir.path(), "usr/bin/x").unwrap();
            let last = found.libraries.rsplit(':').next().unwrap();
            let mut names: Vec<_> =
                fs::read_dir(last).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            assert_eq!(names, ["libmount.so.1", "libz.so.1"]);
            assert!(!found.libraries.contains("x86_64-linux-gnu:"));
        }
    }

    #[test]
    fn a_tree_that_was_moved_links_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let folder = old.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&folder).unwrap();
        for name in ["libc.so.6", "libz.so.1"] {
            fs::write(folder.join(name), "").unwrap();
        }
        within(&old, "usr/bin/x").unwrap();
        fs::rename(&old, &new).unwrap();
        let found = within(&new, "usr/bin/x").unwrap();
        let link = found.libraries.split(':').map(Path::new).find(|path| path.ends_with(LINKS)).unwrap();
        assert!(link.join("libz.so.1").exists(), "{:?}", fs::read_link(link.join("libz.so.1")));
    }
}
