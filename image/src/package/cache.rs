//! Package files on this machine, named by their hash: obtained once, checked at every use.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sosna_apt::{AptError, Candidate, Suite, digest};

use super::Pin;
use crate::Error;

/// A folder that keeps package files.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    mirror: Option<String>,
}

impl Cache {
    /// In this folder. `mirror` is the address of a Debian archive, for systems whose own sources are not Debian's.
    #[must_use]
    pub fn new(folder: &Path, mirror: Option<String>) -> Self {
        Self { folder: folder.to_owned(), mirror }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn suite(&self, name: &str) -> Suite {
        // Always both machines and both components: one set of lists serves all boards.
        Suite::new(
            &self.folder,
            name,
            &["main", "non-free-firmware"],
            &["amd64", "arm64"],
            self.mirror.as_deref(),
        )
    }

    /// The file of a pinned package.
    ///
    /// # Errors
    /// [`Error::Gone`]: the archive can be reached and has it no more. [`Error::Package`], [`Error::Hash`],
    /// [`Error::Io`].
    pub fn obtain(&self, pin: &Pin) -> Result<PathBuf, Error> {
        let folder = self.folder.join("packages");
        let path = folder.join(format!("{}_{}.deb", pin.name, pin.sha256));
        if path.exists() {
            if hash(&path)? == pin.sha256 {
                return Ok(path);
            }
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        // One's own: others may wait for the same file.
        let arriving = tempfile::tempdir_in(&folder).map_err(Error::io("use", &folder))?;
        let arrived = arriving.path();
        let suite = self.suite(&pin.suite);
        // By its path first: it is there longer than the suite names it, and no list need be fetched.
        if !pin.file.is_empty()
            && let Ok(file) = suite.fetch(&pin.file, arrived)
            && Self::keep(pin, &file, &path).is_ok()
        {
            return Ok(path);
        }
        let file = suite
            .download(&pin.name, &pin.version, &pin.arch, arrived)
            .map_err(|e| Self::gone(&suite, pin, e))?;
        Self::keep(pin, &file, &path)?;
        Ok(path)
    }

    /// Keeps a file that has arrived, if it is the pinned one.
    fn keep(pin: &Pin, file: &Path, path: &Path) -> Result<(), Error> {
        let found = hash(file)?;
        if found != pin.sha256 {
            fs::remove_file(file).map_err(Error::io("remove", file))?;
            return Err(Error::Hash {
                package: format!("{} {}", pin.name, pin.version),
                wanted: pin.sha256.clone(),
                found,
            });
        }
        fs::rename(file, path).map_err(Error::io("rename to", path))
    }

    /// Whether the archive answers and has something else now, or is not to be had at all.
    fn gone(suite: &Suite, pin: &Pin, source: AptError) -> Error {
        let package = format!("{} {}", pin.name, pin.version);
        match suite.candidate(&pin.name, &pin.arch, false) {
            Ok(found) if found.sha256 != pin.sha256 => Error::Gone { package, now: found.version },
            Err(AptError::NoPackage { .. }) => Error::Gone { package, now: "another package".to_owned() },
            _ => Error::Package { package, source },
        }
    }

    /// What a suite has now under a package's name; with `fresh`, after asking the archive.
    ///
    /// # Errors
    /// [`AptError`].
    pub fn candidate(
        &self,
        suite: &str,
        package: &str,
        arch: &str,
        fresh: bool,
    ) -> Result<Candidate, AptError> {
        self.suite(suite).candidate(package, arch, fresh)
    }
}

fn hash(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    Ok(digest::of_reader(&mut file).map_err(Error::io("read", path))?.hex())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_with_other_bytes_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        // No archive behind it: what is not in the folder cannot be had.
        let cache = Cache::new(dir.path(), Some("file:/nonexistent".to_owned()));
        let pin = Pin {
            name: "a".into(),
            version: "1".into(),
            arch: "all".into(),
            suite: "none".into(),
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
            size: 3,
            file: "pool/a.deb".into(),
            source: "a".into(),
            source_version: "1".into(),
            built_using: Vec::new(),
        };
        let path = dir.path().join("packages").join(format!("a_{}.deb", pin.sha256));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "abc").unwrap();
        assert_eq!(cache.obtain(&pin).unwrap(), path);
        fs::write(&path, "abd").unwrap();
        assert!(matches!(cache.obtain(&pin), Err(Error::Package { .. })));
        assert!(!path.exists(), "the file with the wrong bytes is gone");
    }
}
