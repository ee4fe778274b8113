//! This program as a sealed copy in memory, from which shims are started: a container that got hold of its shim's
//! executable could not change it (CVE-2019-5736), and an update of the file on disk does not mix versions.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::{
    error::{At, Result},
    shim, sys,
};

/// The sealed copy.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

impl Program {
    /// Copies the running program.
    pub(crate) fn of_this_process() -> Result<Self> {
        let path = "/proc/self/exe";
        let mut file = File::open(path).at("open", path)?;
        Ok(Self(sys::sealed_copy(&mut file).at("copy into memory", path)?))
    }

    /// A command that starts it as a shim: nothing of our environment, working folder or arguments.
    pub(crate) fn shim(&self, mode: &str, folder: &Path) -> Command {
        let mut command = Command::new(sys::fd_path(self.0.as_fd()));
        command.arg0(shim::ARGV0).arg(mode).arg(folder).env_clear().current_dir("/");
        command.stdin(std::process::Stdio::null());
        sosna_fault::pass_on(&mut command);
        command
    }
}
