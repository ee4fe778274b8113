//! A compiler for machines other than this one. Uses the installed toolchain where it has the target or the source of
//! the standard library, else Debian's compiler, unpacked with that source. Must never change the system.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sosna_apt::elf::{self, ElfError};
use sosna_apt::{Apt, AptError};

use crate::exec;

use crate::paths::Tree;

/// Debian's packages: the compiler, its cargo, the source of the standard library, and what build scripts link with.
/// These names have the newest version in every release of Debian, as browsers need it.
const PACKAGES: [&str; 4] = ["cargo-web", "rustc-web", "rust-web-src", "libstd-rust-web-dev"];

/// What can go wrong when a compiler is looked for.
#[derive(Debug, thiserror::Error)]
pub enum CompilerError {
    /// Neither here nor to be had.
    #[error(
        "neither the target {target} nor the standard library's source is installed, and Debian's compiler could not be had; `rustup component add rust-src` helps"
    )]
    Packages {
        /// For which machine.
        target: String,
        /// Why not.
        #[source]
        source: AptError,
    },
    /// Debian's compiler lacks a library.
    #[error("Debian's compiler could not be put together")]
    Libraries(#[source] ElfError),
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

/// How the target's standard library comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// The target is installed.
    Installed,
    /// Built from the installed toolchain's own source.
    Source,
    /// Built by Debian's compiler.
    Debian(Debian),
}

/// Debian's compiler, as it was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    /// What starts its cargo.
    pub cargo: PathBuf,
    /// What starts the compiler.
    pub rustc: PathBuf,
    /// The version of the package.
    pub version: String,
}

impl Compiler {
    /// Finds or obtains the means to compile for `target`.
    ///
    /// # Errors
    /// [`CompilerError`].
    pub fn obtain(tree: &Tree, target: &str) -> Result<Self, CompilerError> {
        if let Some(sysroot) = sysroot() {
            if sysroot.join("lib/rustlib").join(target).join("lib").is_dir() {
                return Ok(Self::Installed);
            }
            if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
                return Ok(Self::Source);
            }
        }
        debian(tree, target).map(Self::Debian)
    }

    /// In words: of whom the compiler and the standard library are.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Installed => "the installed target".to_owned(),
            Self::Source => "the installed source of the standard library".to_owned(),
            Self::Debian(debian) => format!("Debian's rustc-web {}", debian.version),
        }
    }

    /// Cargo, told to do something (`build`), and to build `parts` of the standard library (`core`) where there are none.
    #[must_use]
    pub fn cargo(&self, what: &str, parts: &str) -> Command {
        let mut command = match self {
            Self::Debian(debian) => {
                let mut command = Command::new(&debian.cargo);
                exec::clean(&mut command);
                command.env("RUSTC", &debian.rustc).env("CARGO", &debian.cargo);
                command
            }
            Self::Installed | Self::Source => exec::cargo(),
        };
        command.arg(what);
        if *self != Self::Installed {
            // Building the standard library is unstable; the variable opens it for this one build.
            command.arg(format!("-Zbuild-std={parts}")).env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Where the installed toolchain is.
pub(super) fn sysroot() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Unpacks Debian's compiler and writes scripts that start it with its libraries.
fn debian(tree: &Tree, target: &str) -> Result<Debian, CompilerError> {
    let failed = |source| CompilerError::Packages { target: target.to_owned(), source };
    let root = tree.tools().join("rust");
    let packages = Apt::new(&tree.tools()).unpack(&PACKAGES, true, &root).map_err(failed)?;
    let found = packages.into_iter().find(|p| p.name == "rustc-web").map(|p| p.version).unwrap_or_default();
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    if numbers(&found) < numbers(wanted) {
        // The next run looks again instead of finding this one.
        let _ = fs::remove_dir_all(&root);
        let package = "rustc-web".to_owned();
        return Err(failed(AptError::TooOld { package, found, wanted: wanted.to_owned() }));
    }
    Ok(Debian {
        cargo: starter(tree, &root, "cargo")?,
        rustc: starter(tree, &root, "rustc")?,
        version: found,
    })
}

/// The first two numbers of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The script that starts one of the compiler's programs.
fn starter(tree: &Tree, root: &Path, program: &str) -> Result<PathBuf, CompilerError> {
    let libraries = tree.tools().join("rust-libraries");
    let script = libraries.join(program);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CompilerError::Io { path, source }
    };
    fs::create_dir_all(&libraries).map_err(failed(&libraries))?;
    let path = format!("usr/bin/{program}");
    for file in elf::closure(root, &path).map_err(CompilerError::Libraries)? {
        let Some(name) = Path::new(&file).file_name() else { continue };
        // The C library must be the one that the system's loader belongs to.
        let text = name.to_string_lossy();
        if ["ld-linux", "libc.so", "libm.so", "libdl.so", "librt.so", "libpthread.so", "libresolv.so"]
            .iter()
            .any(|p| text.starts_with(p))
            || text == program
        {
            continue;
        }
        let link = libraries.join(name);
        let _ = fs::remove_file(&link);
        symlink(root.join(&file), &link).map_err(failed(&link))?;
    }
    let text = format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH='{}'\nexec '{}' \"$@\"\n",
        libraries.display(),
        root.join(&path).display()
    );
    // Cargo builds everything again when its compiler's file is newer than its memory of it.
    if fs::read_to_string(&script).is_ok_and(|old| old == text) {
        return Ok(script);
    }
    fs::write(&script, text).map_err(failed(&script))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(failed(&script))?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_compiler_is_told_from_a_new_one() {
        assert!(numbers("1.85.0+dfsg3-1~deb12u3") < numbers("1.95"));
        assert!(numbers("1.96.0+dfsg1-1~deb12u2") >= numbers("1.95"));
    }
}
