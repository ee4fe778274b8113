//! Foundry, the Solidity compiler and OpenZeppelin's contracts: packages for npm, in the versions and with the hashes of
//! `contracts/package-lock.json`.

use std::env::consts;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::exec::{self, Log};
use crate::paths::Tree;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum FoundryError {
    /// npm does not give the packages.
    #[error(
        "npm does not install what contracts/package-lock.json names (its words are in {log}); installing node 20 and npm helps", log = log.display()
    )]
    Npm {
        /// What npm said.
        log: PathBuf,
    },
    /// There is no such program for this machine.
    #[error("Foundry has no {program} for this machine: {path} is missing", path = path.display())]
    Missing {
        /// Its name.
        program: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
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

/// Foundry's programs.
#[derive(Debug, Clone)]
pub struct Foundry {
    contracts: PathBuf,
    forge: PathBuf,
}

impl Foundry {
    /// Installs what the lock file names, where that has not been done.
    ///
    /// # Errors
    /// [`FoundryError`].
    pub fn obtain(tree: &Tree, log: &mut Log, watch: &mut dyn FnMut(&str)) -> Result<Self, FoundryError> {
        let contracts = tree.root().join("contracts");
        // Tests ask at once.
        let _turn = turn(&tree.root().join("target/xtask/foundry.turn"))?;
        let lock = contracts.join("package-lock.json");
        // Written when all is there.
        let stamp = contracts.join("node_modules/installed.lock");
        let wanted = fs::read(&lock).map_err(io_error(&lock))?;
        if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
            watch("installing Foundry and the compiler");
            let mut command = Command::new("npm");
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&contracts);
            let done = exec::run(&mut command, None, log, &mut *watch).is_ok_and(|status| status.success());
            if !done {
                return Err(FoundryError::Npm { log: log.path().to_path_buf() });
            }
            fs::write(&stamp, &wanted).map_err(io_error(&stamp))?;
        }
        let forge = program(&contracts, "forge")?;
        Ok(Self { contracts, forge })
    }

    /// forge, with the compiler of the lock file.
    #[must_use]
    pub fn forge(&self, what: &str) -> Command {
        let mut command = Command::new(&self.forge);
        command.arg(what).current_dir(&self.contracts);
        if what != "fmt" {
            command.args(["--use", "./solc.cjs"]);
        }
        command
    }

    /// The folder of the contracts.
    #[must_use]
    pub fn contracts(&self) -> &Path {
        &self.contracts
    }

    /// The folder that forge is in.
    #[must_use]
    pub fn programs(&self) -> &Path {
        self.forge.parent().unwrap_or(&self.contracts)
    }

    /// anvil, a chain on this machine.
    ///
    /// # Errors
    /// [`FoundryError::Missing`].
    pub fn anvil(&self) -> Result<PathBuf, FoundryError> {
        program(&self.contracts, "anvil")
    }
}

/// Waits until nobody else installs.
fn turn(path: &Path) -> Result<Flock<File>, FoundryError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
    }
    let file = File::create(path).map_err(io_error(path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io_error(path)(errno.into()))
}

fn program(contracts: &Path, program: &'static str) -> Result<PathBuf, FoundryError> {
    let architecture = if consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let path =
        contracts.join(format!("node_modules/@foundry-rs/{program}-linux-{architecture}/bin/{program}"));
    if path.is_file() { Ok(path) } else { Err(FoundryError::Missing { program, path }) }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FoundryError {
    let path = path.to_path_buf();
    move |source| FoundryError::Io { path, source }
}
