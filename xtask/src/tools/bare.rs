//! A compiler for a bare microcontroller, and an emulator of one: to prove that sosna-protocol has neither a standard
//! library nor an allocator under it.
//!
//! Uses the installed target where there is one, else the installed source of the standard library, else
//! Debian's compiler with its source, unpacked. The build has a target folder of its own: its flags would
//! make the ordinary one build everything again.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exec;
use crate::paths::Tree;
use crate::tools::programs::{self, ProgramsError};
use sosna_apt::elf::{self, ElfError};
use sosna_apt::{Apt, AptError, qemu::Qemu};

/// The microcontroller: Cortex-M3 without an operating system.
pub const TARGET: &str = "thumbv7m-none-eabi";

/// Debian's package of the emulator, and the program in it.
const QEMU: (&str, &str) = ("qemu-system-arm", "qemu-system-arm");

/// How it is built: for size.
const PROFILE: &str = "dist";

/// What can go wrong when the compiler is looked for.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// Neither here nor to be had.
    #[error(
        "neither the target {TARGET} nor the standard library's source is installed, and Debian's could not be had; `rustup target add {TARGET}` helps"
    )]
    Packages(#[source] AptError),
    /// Nothing to link with.
    #[error("there is no linker for {TARGET}; installing `lld` helps")]
    Linker(#[source] ProgramsError),
    /// Nothing to run it on.
    #[error("there is no emulator of a microcontroller; installing `qemu-system-arm` helps")]
    Emulator(#[source] AptError),
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

/// How the target's `core` comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bare {
    /// The target is installed.
    Installed,
    /// Built from the installed toolchain's own source.
    Source,
    /// Built by Debian's compiler; this is the program to call.
    Debian(PathBuf),
}

impl Bare {
    /// Finds or obtains the means.
    ///
    /// # Errors
    /// [`BareError`].
    pub fn obtain(tree: &Tree) -> Result<Self, BareError> {
        if let Some(sysroot) = sysroot() {
            if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
                return Ok(Self::Installed);
            }
            if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
                return Ok(Self::Source);
            }
        }
        debian(tree).map(Self::Debian)
    }

    /// In words, for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Installed => format!("the installed target {TARGET}"),
            Self::Source => "the installed source of the standard library".to_owned(),
            Self::Debian(_) => "Debian's compiler and its source of the standard library".to_owned(),
        }
    }

    /// The command that builds a program of the workspace for the target, as small as what devices get.
    ///
    /// # Errors
    /// [`BareError`], where there is no linker.
    pub fn build(&self, tree: &Tree, package: &str) -> Result<Command, BareError> {
        let mut command = exec::cargo();
        command.current_dir(tree.root()).args(["build", "--profile", PROFILE, "--package", package]);
        command.args(["--target", TARGET, "--target-dir"]).arg(folder(tree));
        let linker = format!("CARGO_TARGET_{}_LINKER", TARGET.to_uppercase().replace('-', "_"));
        command.env(linker, linker_of(tree)?);
        if *self != Self::Installed {
            // build-std is unstable; the variable opens it for this one build. Without `alloc` on purpose: whatever
            // names it does not compile.
            command.arg("-Zbuild-std=core").env("RUSTC_BOOTSTRAP", "1");
        }
        if let Self::Debian(rustc) = self {
            command.env("RUSTC", rustc);
        }
        Ok(command)
    }
}

/// Where [`Bare::build`] puts a program.
#[must_use]
pub fn built(tree: &Tree, program: &str) -> PathBuf {
    folder(tree).join(TARGET).join(PROFILE).join(program)
}

fn folder(tree: &Tree) -> PathBuf {
    tree.target().join("bare")
}

/// The command that runs firmware in an emulated LM3S6965: it ends with the exit code that the firmware says.
///
/// # Errors
/// [`BareError::Emulator`], where there is no emulator.
pub fn emulate(tree: &Tree, firmware: &Path) -> Result<Command, BareError> {
    let mut command = Qemu::obtain(&tree.tools(), QEMU.0, QEMU.1).map_err(BareError::Emulator)?.command();
    command
        .args(["-M", "lm3s6965evb", "-nodefaults", "-nic", "none", "-nographic"])
        .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(firmware);
    Ok(command)
}

/// LLVM's linker: the toolchain's own, else the system's, else Debian's.
fn linker_of(tree: &Tree) -> Result<PathBuf, BareError> {
    let host = ["x86_64", "aarch64"].map(|arch| format!("lib/rustlib/{arch}-unknown-linux-gnu/bin/rust-lld"));
    let own = sysroot().and_then(|root| host.iter().map(|path| root.join(path)).find(|path| path.is_file()));
    match own {
        Some(path) => Ok(path),
        None => programs::find(tree, "lld", "usr/bin/ld.lld").map_err(BareError::Linker),
    }
}

fn sysroot() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Unpacks Debian's compiler and writes a script that starts it with its libraries.
fn debian(tree: &Tree) -> Result<PathBuf, BareError> {
    let root = tree.tools().join("rust");
    Apt::new(&tree.tools())
        .unpack(&["rustc-web", "rust-web-src"], true, &root)
        .map_err(BareError::Packages)?;

    let libraries = tree.tools().join("rust-libraries");
    let script = libraries.join("rustc");
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| BareError::Io { path, source }
    };
    fs::create_dir_all(&libraries).map_err(failed(&libraries))?;
    for file in elf::closure(&*root, "usr/bin/rustc").map_err(BareError::Libraries)? {
        let Some(name) = Path::new(&file).file_name() else { continue };
        // The C library must be the one that the system's loader belongs to.
        let text = name.to_string_lossy();
        if ["ld-linux", "libc.so", "libm.so", "libdl.so", "librt.so", "libpthread.so"]
            .iter()
            .any(|p| text.starts_with(p))
            || text == "rustc"
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
        root.join("usr/bin/rustc").display()
    );
    // Cargo builds everything again when its compiler's file is newer than its memory of it.
    if fs::read_to_string(&script).is_ok_and(|old| old == text) {
        return Ok(script);
    }
    fs::write(&script, text).map_err(failed(&script))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(failed(&script))?;
    Ok(script)
}
