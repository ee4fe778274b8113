//! What devices get: the agent and the image's first program, each one static file, small before fast.

mod architecture;
pub mod check;
mod cross;
mod libcontainer;
mod package;
mod run;
mod twice;
mod wrapper;

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use architecture::{Architecture, UnknownArchitecture};
pub use package::packages;
pub use run::{check_all, prove, run};
pub use twice::twice;
pub use wrapper::when_called_as_tool;

use crate::exec::{self, Log};
use crate::paths::Tree;
use crate::tools::compiler::CompilerError;
use crate::tools::zig::ZigError;
use cross::Built;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum DistError {
    /// It does not compile.
    #[error("it does not compile for distribution; the compiler's words are in {log}", log = log.display())]
    Build {
        /// Cargo's output.
        log: PathBuf,
    },
    /// No compiler for another machine.
    #[error("there is no compiler for another machine")]
    Compiler(#[from] CompilerError),
    /// No linker and C library for another machine.
    #[error("there is no linker for another machine")]
    Zig(#[from] ZigError),
    /// A crate that is edited for a machine is not there.
    #[error(
        "cargo does not know {0} {1}, which is edited for armv7; with another version xtask/src/dist/libcontainer.rs must follow"
    )]
    Crate(&'static str, &'static str),
    /// A crate that is edited for a machine has another text.
    #[error(
        "libcontainer's {path} does not have `{old}` exactly once; xtask/src/dist/libcontainer.rs must follow"
    )]
    Edit {
        /// In which file.
        path: &'static str,
        /// What should be there.
        old: &'static str,
    },
    /// What was compiled is not what it should be.
    #[error("{program} must not be given to anybody")]
    Check {
        /// Which.
        program: String,
        /// What is wrong with it.
        #[source]
        source: check::CheckError,
    },
    /// The unit is written otherwise than packages expect.
    #[error(
        "image/assets/sosna-agent.service does not start the agent by exactly one line `ExecStart=@AGENT@ run`; xtask/src/dist/package.rs must follow"
    )]
    Unit,
    /// Cargo does not start, or the log cannot be written.
    #[error("cannot compile for distribution")]
    Io(#[from] std::io::Error),
}

/// For the compiler: everything in one file, relocations packed (they would be half a megabyte), and no tables for
/// unwinding (a megabyte), because a panic ends the program. Paths are relative to the work tree: where it lies must
/// not show in what is built.
const FLAGS: &str = "-C target-feature=+crt-static -C force-unwind-tables=no \
    -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--no-eh-frame-hdr \
    -C link-arg=-Wl,-T,agent/slim/no-unwinding.ld";

/// Functions that are the same are there once, whatever they are called: no part compares functions by where they lie.
/// Where Rust links with LLD by itself; GNU's linker has nothing of the kind.
const FOLD: &str = if cfg!(target_arch = "x86_64") { " -C link-arg=-Wl,--icf=all" } else { "" };

/// What is built for a device, in the order in which it is shown: cargo's package and its program.
const PROGRAMS: [(&str, &str); 2] = [("sosna-agent", "sosna-agent"), ("sosna-boot", "sosna-init")];

/// The programs for one kind of processor.
#[derive(Debug, Clone)]
pub struct Programs {
    /// For which.
    pub architecture: Architecture,
    /// `sosna-agent`.
    pub agent: PathBuf,
    /// `sosna-init`: the first program of an image.
    pub init: PathBuf,
    /// How they were built, in words.
    pub built: String,
}

// === impl Programs ===

impl Programs {
    /// What was compiled before, where it is there.
    #[must_use]
    pub fn found(tree: &Tree, architecture: Architecture) -> Option<Self> {
        let folder = tree.target().join("dist").join(architecture.name());
        let [agent, init] = PROGRAMS.map(|(_, name)| folder.join(name));
        let there = agent.is_file() && init.is_file();
        there.then(|| Self { architecture, agent, init, built: "before".to_owned() })
    }
}

/// Compiles the agent and the image's first program for a kind of processor and puts them into `target/dist/NAME`.
///
/// # Errors
/// [`DistError`].
pub fn programs(
    tree: &Tree,
    architecture: Architecture,
    mut watch: impl FnMut(&str),
) -> Result<Programs, DistError> {
    let Built { folder: built, how } = if Architecture::here() == Some(architecture) {
        let what: Vec<&str> =
            PROGRAMS.iter().flat_map(|(package, bin)| ["--package", package, "--bin", bin]).collect();
        Built { folder: native(tree, &what, watch)?, how: "the installed compiler, glibc".to_owned() }
    } else {
        let mut log = Log::begin(&tree.logs().join(format!("dist-{architecture}.log")))?;
        cross::build(tree, architecture, &mut log, &mut watch)?
    };
    let folder = tree.target().join("dist").join(architecture.name());
    fs::create_dir_all(&folder)?;
    let [agent, init] = PROGRAMS.map(|(_, bin)| place(&built.join(bin), &folder.join(bin)));
    Ok(Programs { architecture, agent: agent?, init: init?, built: how })
}

/// Has the compiler read what devices get for a kind of processor, without making it.
///
/// # Errors
/// [`DistError`].
pub fn compiles(
    tree: &Tree,
    architecture: Architecture,
    mut watch: impl FnMut(&str),
) -> Result<(), DistError> {
    let mut log = Log::begin(&tree.logs().join(format!("check-{architecture}.log")))?;
    if Architecture::here() != Some(architecture) {
        return cross::check(tree, architecture, &mut log, &mut watch);
    }
    let mut command = exec::cargo();
    command.current_dir(tree.root()).arg("check");
    select(&mut command);
    finish(&mut command, &mut log, &mut watch)
}

/// Tells cargo to do it with what devices get.
fn select(command: &mut Command) {
    for (package, program) in PROGRAMS {
        command.args(["--package", package, "--bin", program]);
    }
}

/// Runs cargo to its end.
fn finish(command: &mut Command, log: &mut Log, watch: impl FnMut(&str)) -> Result<(), DistError> {
    match exec::run(command, None, log, watch)?.success() {
        true => Ok(()),
        false => Err(DistError::Build { log: log.path().to_path_buf() }),
    }
}

/// Copies a program to its place at once, so that whoever runs the old one keeps it.
fn place(from: &Path, to: &Path) -> Result<PathBuf, DistError> {
    let new = to.with_extension("new");
    fs::copy(from, &new)?;
    fs::rename(&new, to)?;
    Ok(to.to_path_buf())
}

/// The agent for this machine's kind of processor, with the C library that the toolchain has.
///
/// # Errors
/// [`DistError`].
pub fn native_agent(tree: &Tree, watch: impl FnMut(&str)) -> Result<PathBuf, DistError> {
    let folder = native(tree, &["--package", "sosna-agent", "--bin", "sosna-agent"], watch)?;
    Ok(folder.join("sosna-agent"))
}

/// Compiles, for this machine's kind of processor, whatever `what` selects, such as a bench that shall be built as the agent is; returns the folder that
/// programs are put into.
///
/// # Errors
/// [`DistError`].
pub fn native(tree: &Tree, what: &[&str], watch: impl FnMut(&str)) -> Result<PathBuf, DistError> {
    // Named even though it is the host: else the flags would reach build scripts and macros too.
    let target = format!("{ARCH}-unknown-linux-gnu");
    let mut log = Log::begin(&tree.logs().join("dist.log"))?;
    let mut command = exec::cargo();
    command
        .current_dir(tree.root())
        .args(["build", "--profile", "dist", "--target", &target])
        .args(what)
        .env("RUSTFLAGS", [FLAGS, FOLD].concat());
    finish(&mut command, &mut log, watch)?;
    Ok(tree.target().join(target).join("dist"))
}
