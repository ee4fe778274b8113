//! QEMU for everything that emulates a machine here: the composer's `run`, the tests of boot and images, firmware for
//! a microcontroller. The program and the files that it loads (its BIOS, option ROMs) come from one place always.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stamp::Stamp;
use super::{Apt, AptError, Package, Unpacked, program};

/// The oldest major version that is used where there is a choice. 7.2, of Debian 12, sometimes fails in Linux's
/// `do_sync_core` when it emulates an x86_64, before the first program, whatever the image; 10.0 does not. What lies
/// between was not measured.
pub const OLDEST: u32 = 10;

/// A QEMU that can be started.
#[derive(Debug, Clone)]
pub struct Qemu {
    origin: Origin,
    /// Why it may disappoint: it is older than [`OLDEST`] and a newer one could not be had.
    pub doubt: Option<String>,
}

#[derive(Debug, Clone)]
enum Origin {
    Installed(PathBuf),
    Unpacked(Unpacked),
}

impl Qemu {
    /// Finds QEMU on `PATH` when it is new enough, else unpacks Debian's `package` with what it needs below `tools`:
    /// of the system's own release when that is new enough, else of its backports. `program` is the name of the
    /// program (`qemu-system-x86_64`).
    ///
    /// # Errors
    /// [`AptError`]: there is none on `PATH`, and none can be had.
    pub fn obtain(tools: &Path, package: &str, program: &str) -> Result<Self, AptError> {
        let installed = on_path(program);
        let version = installed.as_deref().and_then(version_of);
        if let (Some(file), Some(OLDEST..)) = (&installed, version) {
            return Ok(Self { origin: Origin::Installed(file.clone()), doubt: None });
        }
        match (unpacked(tools, package, program), installed) {
            (Ok(unpacked), _) => Ok(Self { origin: Origin::Unpacked(unpacked), doubt: None }),
            (Err(error), Some(file)) => {
                let version = version.map_or_else(|| "an unknown version".to_owned(), |v| v.to_string());
                let doubt = format!(
                    "{} is {version}, older than {OLDEST}, which can fail by itself at boot; a newer one cannot be had: {error}",
                    file.display()
                );
                Ok(Self { origin: Origin::Installed(file), doubt: Some(doubt) })
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The command that starts it, told where its own files are.
    #[must_use]
    pub fn command(&self) -> Command {
        match &self.origin {
            Origin::Installed(file) => Command::new(file),
            Origin::Unpacked(unpacked) => {
                let mut command = unpacked.command();
                for folder in ["usr/share/qemu", "usr/share/seabios"] {
                    command.arg("-L").arg(unpacked.root.join(folder));
                }
                command
            }
        }
    }

    /// Its major version, asked of itself.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        let mut command = match &self.origin {
            Origin::Installed(file) => Command::new(file),
            Origin::Unpacked(unpacked) => unpacked.command(),
        };
        said(&mut command)
    }
}

fn unpacked(tools: &Path, package: &str, name: &str) -> Result<Unpacked, AptError> {
    let root = tools.join("programs").join(package);
    let path = format!("usr/bin/{name}");
    let recent = |packages: &[Package]| {
        packages.iter().any(|p| p.name == package && major(&p.version) >= Some(OLDEST))
    };
    // Who comes second finds what the first has unpacked.
    let apt = Apt::new(tools);
    let _lock = apt.lock_for("qemu")?;
    if Stamp::read(&root).is_some_and(|stamp| recent(&stamp.packages)) {
        return program::within(&root, &path);
    }
    let apt = if major(&apt.candidate(package)?) >= Some(OLDEST) { apt } else { apt.backports()? };
    // What an older archive gave for the same request must not answer it now.
    Stamp::remove(&root).map_err(AptError::io("replace", &root))?;
    let packages = apt.unpack(&[package], true, &root)?;
    if recent(&packages) {
        return program::within(&root, &path);
    }
    let found = packages.into_iter().find(|p| p.name == package).map(|p| p.version).unwrap_or_default();
    Err(AptError::TooOld { package: package.to_owned(), found, wanted: OLDEST.to_string() })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn version_of(program: &Path) -> Option<u32> {
    said(&mut Command::new(program))
}

/// `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`
fn said(command: &mut Command) -> Option<u32> {
    let output = command.arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    major(text.split_once("version ")?.1)
}

/// The first number of a version, its epoch left out.
fn major(version: &str) -> Option<u32> {
    let version =
        version.split_once(':').filter(|(epoch, _)| epoch.parse::<u32>().is_ok()).map_or(version, |v| v.1);
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read_without_their_epoch() {
        assert_eq!(major("1:10.0.2+ds-2+deb13u1~bpo12+1"), Some(10));
        assert_eq!(major("7.2.18 (Debian 1:7.2+dfsg-7+deb12u16)"), Some(7));
        assert_eq!(major(""), None);
        assert!(major("1:7.2") < Some(OLDEST) && major("1:10.1") >= Some(OLDEST));
    }
}
