//! The programs for other machines than this one: the compiler and the source of its standard library from where they
//! can be had, musl and the linker from zig, everything in one static file that may lie anywhere in memory.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::wrapper::{AR, CC, LD};
use super::{Architecture, DistError, finish, libcontainer, select};
use crate::exec::Log;
use crate::paths::Tree;
use crate::tools::compiler::Compiler;
use crate::tools::zig::{VERSION, Zig};

/// As for this machine's kind of processor; the linker is called directly, not by way of a C compiler.
const FLAGS: &str = "-C linker-flavor=ld -C link-self-contained=no -C target-feature=+crt-static \
    -C force-unwind-tables=no -C relocation-model=pic -C link-arg=-zpack-relative-relocs \
    -C link-arg=--no-eh-frame-hdr -C link-arg=-Tagent/slim/no-unwinding.ld";

/// Where the programs for a machine were put, and how they were built.
pub(super) struct Built {
    pub(super) folder: PathBuf,
    pub(super) how: String,
}

/// Compiles the programs for a machine in the work tree `root`, with the tools and into the build folder of `tree`.
pub(super) fn build(
    tree: &Tree,
    architecture: Architecture,
    log: &mut Log,
    watch: &mut dyn FnMut(&str),
) -> Result<Built, DistError> {
    let (mut command, how) = cargo(tree, architecture, "build", log, watch)?;
    // Where work tree, registry and standard library lie must not show in what is built.
    command.args(["--profile", "dist", "-Ztrim-paths"]).env("CARGO_PROFILE_DIST_TRIM_PATHS", "all");
    select(&mut command);
    finish(&mut command, log, watch)?;
    let folder = tree.target().join("cross").join(architecture.target()).join("dist");
    Ok(Built { folder, how })
}

/// Has the compiler read the programs for a machine, and all that is in them, and make nothing of it: a fraction of the time
/// of [`build`].
pub(super) fn check(
    tree: &Tree,
    architecture: Architecture,
    log: &mut Log,
    watch: &mut dyn FnMut(&str),
) -> Result<(), DistError> {
    let (mut command, _) = cargo(tree, architecture, "check", log, watch)?;
    select(&mut command);
    finish(&mut command, log, watch)
}

/// Cargo, told to do this for a machine in the build folder of `tree`; and how it does, in words.
fn cargo(
    tree: &Tree,
    architecture: Architecture,
    what: &str,
    log: &mut Log,
    watch: &mut dyn FnMut(&str),
) -> Result<(Command, String), DistError> {
    let target = architecture.target();
    watch("looking for a compiler");
    let compiler = Compiler::obtain(tree, target)?;
    let zig = Zig::obtain(tree, log, &mut *watch)?;
    let tools = tools(tree, architecture, &zig)?;
    zig.library(architecture.machine(), &tools.join("lib"), log, watch)?;

    let mut command = compiler.cargo(what, "std,panic_abort");
    if compiler != Compiler::Installed {
        // Without what shows a stack: the programs have neither symbols nor tables to find one by.
        command.arg("-Zbuild-std-features=optimize_for_size");
    }
    command
        .current_dir(tree.root())
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["--target", target, "--target-dir"])
        .arg(tree.target().join("cross"));
    // Always the same, or everything is built again.
    let underscored = target.replace('-', "_");
    command
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", FLAGS)
        .env(format!("CARGO_TARGET_{}_LINKER", underscored.to_uppercase()), tools.join(LD))
        .env(format!("CC_{underscored}"), tools.join(CC))
        .env(format!("AR_{underscored}"), tools.join(AR))
        .env(format!("CFLAGS_{underscored}"), "");
    if architecture == Architecture::Armv7 {
        libcontainer::patch(tree, &mut command)?;
    }
    Ok((command, format!("{}, zig {VERSION}, musl", compiler.describe())))
}

/// The folder with what is called as C compiler, linker and archiver for a machine: this program.
fn tools(tree: &Tree, architecture: Architecture, zig: &Zig) -> Result<PathBuf, DistError> {
    let all = tree.tools().join("cross");
    let folder = all.join(architecture.name());
    fs::create_dir_all(&folder)?;
    let wrapper = all.join("wrapper");
    // A copy: the program itself is replaced when it is compiled anew, also while cargo runs it. Then its name is that
    // of a file which is not there any more; this way to it stays.
    let part = all.join("wrapper.part");
    fs::copy("/proc/self/exe", &part)?;
    fs::rename(&part, &wrapper)?;
    for name in [CC, LD, AR] {
        link(Path::new("../wrapper"), &folder.join(name))?;
    }
    link(&zig.program, &folder.join("zig"))?;
    link(zig.cache(), &all.join("cache"))?;
    Ok(folder)
}

fn link(to: &Path, name: &Path) -> io::Result<()> {
    if fs::read_link(name).is_ok_and(|old| old == to) {
        return Ok(());
    }
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(to, name),
    }
}
