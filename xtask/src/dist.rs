//! What devices get: the agent as one static file, small before fast.

use std::env::consts::ARCH;
use std::path::PathBuf;

use crate::exec::{self, Log};
use crate::paths::Tree;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum DistError {
    /// It does not compile.
    #[error("it does not compile for distribution; the compiler's words are in {log}", log = log.display())]
    Build {
        /// Cargo's output.
        log: PathBuf,
    },
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

/// Compiles the agent for this machine's kind of processor, with the C library that the toolchain has, and returns
/// the file.
///
/// # Errors
/// [`DistError`].
pub fn native_agent(tree: &Tree, watch: impl FnMut(&str)) -> Result<PathBuf, DistError> {
    let folder = native(tree, &["--package", "sosna-agent", "--bin", "sosna-agent"], watch)?;
    Ok(folder.join("sosna-agent"))
}

/// The same for whatever `what` selects, such as a bench that shall be built as the agent is; returns the folder that
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
        .env("RUSTFLAGS", FLAGS);
    match exec::run(&mut command, None, &mut log, watch)?.success() {
        true => Ok(tree.target().join(target).join("dist")),
        false => Err(DistError::Build { log: log.path().to_path_buf() }),
    }
}
