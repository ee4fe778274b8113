//! Programs that tests run for real, beside those that they start by libraries of their own: found on `PATH` by the
//! tests, and put there by this when the tests are run as a stage.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::paths::Tree;
pub use sosna_apt::Unpacked;
use sosna_apt::{Apt, AptError};

/// Debian's package, and the program in it.
const PROGRAMS: [(&str, &str); 2] = [("mosquitto", "usr/sbin/mosquitto"), ("busybox-static", "bin/busybox")];

/// Why a program cannot be had: tests that need it say that they were skipped.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// Its package cannot.
    #[error("packages cannot be had")]
    Apt(#[from] AptError),
    /// A file cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Unpacks the programs and returns a `PATH` that begins with the folder that they can be started from.
///
/// # Errors
/// [`ProgramsError`].
pub fn path_with_programs(tree: &Tree) -> Result<OsString, ProgramsError> {
    for (package, program) in PROGRAMS {
        starter(tree, package, program)?;
    }
    let old = env::var_os("PATH").unwrap_or_default();
    let all = [folder(tree).join("bin")].into_iter().chain(env::split_paths(&old));
    Ok(env::join_paths(all).unwrap_or(old))
}

/// One program: that of `PATH`, or what starts the one of Debian's `package`, where it is `program`.
///
/// # Errors
/// [`ProgramsError`].
pub fn find(tree: &Tree, package: &str, program: &str) -> Result<PathBuf, ProgramsError> {
    let name = Path::new(program).file_name().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let here = env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    here.map_or_else(|| starter(tree, package, program), Ok)
}

fn folder(tree: &Tree) -> PathBuf {
    tree.tools().join("programs")
}

/// Unpacks a program and makes the file that starts it.
fn starter(tree: &Tree, package: &str, program: &str) -> Result<PathBuf, ProgramsError> {
    let bin = folder(tree).join("bin");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ProgramsError::Write { path, source }
    };
    fs::create_dir_all(&bin).map_err(failed(&bin))?;
    let Unpacked { program, libraries, .. } = unpack(tree, package, program)?;
    let starter = bin.join(program.file_name().unwrap_or_default());
    if package.ends_with("-static") {
        // Tests put the file itself into images.
        fs::copy(&program, &starter).map_err(failed(&starter))?;
    } else {
        // The unpacked libraries are for this program alone: in everybody's path they would replace the system's.
        let text = format!("#!/bin/sh\nLD_LIBRARY_PATH='{libraries}' exec '{}' \"$@\"\n", program.display());
        fs::write(&starter, text).map_err(failed(&starter))?;
    }
    fs::set_permissions(&starter, fs::Permissions::from_mode(0o755)).map_err(failed(&starter))?;
    Ok(starter)
}

/// Unpacks Debian's `package` with what it needs, and finds `program` (a path within it).
///
/// # Errors
/// [`ProgramsError`].
pub fn unpack(tree: &Tree, package: &str, program: &str) -> Result<Unpacked, ProgramsError> {
    let root = folder(tree).join(package);
    Ok(Apt::new(&tree.tools()).program(package, program, &root)?)
}
