//! What a folder was unpacked from: written last, so that a folder with a stamp is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sibling;
use crate::digest;

/// Raised when the way of unpacking changes, so that older folders are made again.
const FORMAT: u32 = 1;

/// One package as it was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name in the archive.
    pub name: String,
    /// Its version with the epoch.
    pub version: String,
    /// Its architecture, `all` where it has none.
    pub arch: String,
    /// SHA-256 of the package file in hex.
    pub sha256: String,
}

impl Package {
    /// Reads the name that apt gave the file (`name_version_arch.deb`, a colon as `%3a`), and hashes it.
    pub(super) fn of_archive(path: &Path) -> io::Result<Self> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut parts = stem.splitn(3, '_');
        let mut part = || parts.next().unwrap_or_default().replace("%3a", ":");
        let (name, version, arch) = (part(), part(), part());
        Ok(Self { name, version, arch, sha256: digest::of_reader(&mut File::open(path)?)?.hex() })
    }
}

/// A request and what answered it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stamp {
    format: u32,
    requested: Vec<String>,
    with_dependencies: bool,
    /// The suite that was preferred to the system's own.
    #[serde(default)]
    suite: Option<String>,
    pub(super) packages: Vec<Package>,
}

impl Stamp {
    pub(super) fn new(
        requested: &[&str],
        with_dependencies: bool,
        suite: Option<&str>,
        packages: Vec<Package>,
    ) -> Self {
        let requested = requested.iter().map(ToString::to_string).collect();
        Self { format: FORMAT, requested, with_dependencies, suite: suite.map(str::to_owned), packages }
    }

    /// The stamp of a folder, when folder and stamp are there.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(path(folder)).ok()?;
        folder.is_dir().then(|| serde_json::from_slice(&text).ok())?
    }

    pub(super) fn answers(&self, requested: &[&str], with_dependencies: bool, suite: Option<&str>) -> bool {
        self.format == FORMAT
            && self.requested == requested
            && self.with_dependencies == with_dependencies
            && self.suite.as_deref() == suite
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        let (path, part) = (path(folder), sibling(folder, "stamp.part"));
        fs::write(&part, text)?;
        fs::rename(part, path)
    }

    pub(super) fn remove(folder: &Path) -> io::Result<()> {
        match fs::remove_file(path(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn path(folder: &Path) -> PathBuf {
    sibling(folder, "stamp.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn archive_names_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("povray_1%3a3.7.0.10-2+b2_amd64.deb");
        fs::write(&file, "abc").unwrap();
        let package = Package::of_archive(&file).unwrap();
        assert_eq!((package.name.as_str(), package.arch.as_str()), ("povray", "amd64"));
        assert_eq!(package.version, "1:3.7.0.10-2+b2");
        assert_eq!(package.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_stamp_answers_only_its_own_request() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tree");
        Stamp::new(&["a", "b"], true, None, vec![]).write(&folder).unwrap();
        assert!(Stamp::read(&folder).is_none(), "a stamp without its folder counts for nothing");
        fs::create_dir(&folder).unwrap();
        let stamp = Stamp::read(&folder).unwrap();
        assert!(stamp.answers(&["a", "b"], true, None));
        assert!(!stamp.answers(&["a"], true, None));
        assert!(!stamp.answers(&["a", "b"], false, None));
        assert!(!stamp.answers(&["a", "b"], true, Some("x-backports")));
        Stamp::remove(&folder).unwrap();
        Stamp::remove(&folder).unwrap();
        assert!(Stamp::read(&folder).is_none());
    }
}
