//! A container from start to exit: ours, crun and runc on the same bundle, taking turns.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::examples::run;
use super::{BenchError, Measured};
use crate::dist;
use crate::live::Line;
use crate::paths::Tree;
use crate::tools::programs::{Unpacked, unpack};

pub(super) fn measure(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err(BenchError::NotRoot("runtimes are compared as a device runs them").into());
    }
    line.now("looking for crun, runc and busybox");
    let peers = [("crun", "usr/bin/crun"), ("runc", "usr/sbin/runc")]
        .map(|(name, program)| (name, unpack(tree, name, program)));
    let rootfs = rootfs(tree)?;
    line.step("compiling as for distribution");
    let what = ["--package", "sosna-runtime", "--example", "bench-containers"];
    let folder = dist::native(tree, &what, |text| line.now(text))?;
    let mut command = Command::new(folder.join("examples/bench-containers"));
    command.arg("--rootfs").arg(&rootfs);
    for (name, found) in peers {
        // Started directly: a shell around them would be counted as theirs.
        let Unpacked { program, libraries, .. } = found?;
        command.arg("--peer").arg(format!("{name}={}", program.display())).arg("--libraries").arg(libraries);
    }
    run(tree, line, &mut command)
}

/// A busybox with the two commands that the bench runs.
pub(crate) fn rootfs(tree: &Tree) -> Result<PathBuf, Box<dyn Error>> {
    let busybox = unpack(tree, "busybox-static", "bin/busybox")?.program;
    let rootfs = tree.target().join("bench/rootfs");
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(folder))?;
    }
    for applet in ["true", "cat"] {
        fs::copy(&busybox, rootfs.join("bin").join(applet))?;
    }
    Ok(rootfs)
}
