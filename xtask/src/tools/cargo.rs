//! Cargo subcommands that the project needs, in the one version that it was written against.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::exec;
use crate::paths::Tree;

/// A program from the package registry.
#[derive(Debug, Clone, Copy)]
pub struct CargoTool {
    /// Its package and program.
    pub name: &'static str,
    /// The version that is wanted, no other.
    pub version: &'static str,
    /// Arguments for `cargo install`, such as features.
    pub install: &'static [&'static str],
}

/// Checks licences, bans, sources and advisories of all dependencies.
///
/// Without its default features it needs no C library for TLS, which it would use for nothing but `sync`.
pub const CARGO_DENY: CargoTool =
    CargoTool { name: "cargo-deny", version: "0.20.2", install: &["--no-default-features"] };

/// How tools are compiled: they run for seconds, and optimising them takes minutes.
const QUICKLY: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

/// What a tool is to be started as.
#[derive(Debug)]
pub enum Found {
    /// It is here.
    Here(PathBuf),
    /// It is not, and this command installs it into `target/tools`; then look again.
    Install(Box<Command>),
}

impl CargoTool {
    /// Looks in `target/tools/bin`, then on PATH, for the right version.
    #[must_use]
    pub fn find(&self, tree: &Tree) -> Found {
        let own = self.own(tree);
        for program in [own, PathBuf::from(self.name)] {
            if self.is_version(&program) {
                return Found::Here(program);
            }
        }
        let mut command = exec::cargo();
        command
            .args(["install", "--locked", "--force", "--version", self.version, self.name])
            .args(self.install)
            .arg("--root")
            .arg(tree.tools())
            .arg("--target-dir")
            .arg(tree.tools().join("build"))
            .envs(QUICKLY);
        Found::Install(Box::new(command))
    }

    /// Removes what building the tool left behind: some hundred megabytes that nothing needs again.
    ///
    /// # Errors
    /// When the folder is there and cannot be removed.
    pub fn tidy(&self, tree: &Tree) -> io::Result<()> {
        match std::fs::remove_dir_all(tree.tools().join("build")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn own(&self, tree: &Tree) -> PathBuf {
        tree.tools().join("bin").join(self.name)
    }

    fn is_version(&self, program: &PathBuf) -> bool {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|o| {
            let text = String::from_utf8_lossy(&o.stdout).into_owned();
            o.status.success() && text.split_whitespace().nth(1) == Some(self.version)
        })
    }
}
