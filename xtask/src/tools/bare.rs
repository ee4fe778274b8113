//! A compiler for a bare microcontroller, and an emulator of one: to prove that sosna-protocol has neither a standard
//! library nor an allocator under it.
//!
//! The build has a target folder of its own: its flags would make the ordinary one build everything again.

use std::path::{Path, PathBuf};
use std::process::Command;

use sosna_apt::{AptError, qemu::Qemu};

use crate::paths::Tree;
use crate::tools::compiler::{Compiler, CompilerError, sysroot};
use crate::tools::programs::{self, ProgramsError};

/// The microcontroller: Cortex-M3 without an operating system.
pub const TARGET: &str = "thumbv7m-none-eabi";

/// Debian's package of the emulator, and the program in it.
const QEMU: (&str, &str) = ("qemu-system-arm", "qemu-system-arm");

/// How it is built: for size.
const PROFILE: &str = "dist";

/// What can go wrong when the means are looked for.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// Nothing to compile with.
    #[error("there is no compiler for {TARGET}")]
    Compiler(#[from] CompilerError),
    /// Nothing to link with.
    #[error("there is no linker for {TARGET}; installing `lld` helps")]
    Linker(#[source] ProgramsError),
    /// Nothing to run it on.
    #[error("there is no emulator of a microcontroller; installing `qemu-system-arm` helps")]
    Emulator(#[source] AptError),
}

/// The compiler for the microcontroller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare(Compiler);

impl Bare {
    /// Finds or obtains the means.
    ///
    /// # Errors
    /// [`BareError`].
    pub fn obtain(tree: &Tree) -> Result<Self, BareError> {
        Ok(Self(Compiler::obtain(tree, TARGET)?))
    }

    /// In words, for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.describe()
    }

    /// The command that builds a program of the workspace for the target, as small as what devices get.
    ///
    /// # Errors
    /// [`BareError`], where there is no linker.
    pub fn build(&self, tree: &Tree, package: &str) -> Result<Command, BareError> {
        // Without `alloc` on purpose: whatever names it does not compile.
        let mut command = self.0.cargo("build", "core");
        command.current_dir(tree.root()).args(["--profile", PROFILE, "--package", package]);
        command.args(["--target", TARGET, "--target-dir"]).arg(folder(tree));
        let linker = format!("CARGO_TARGET_{}_LINKER", TARGET.to_uppercase().replace('-', "_"));
        command.env(linker, linker_of(tree)?);
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
