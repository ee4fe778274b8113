//! Which packages a board is made of, exactly: one committed file a board, written by `sosna-image lock`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A board's packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// When this was written, in seconds since 1970: the time of all files of images that are made from it.
    pub epoch: u64,
    /// The packages, in the order in which the board names them.
    #[serde(rename = "package")]
    pub packages: Vec<Pin>,
}

/// One package, as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// Its version with the epoch.
    pub version: String,
    /// Its architecture, or `all`.
    pub arch: String,
    /// The suite that it comes from.
    pub suite: String,
    /// SHA-256 of the package file.
    pub sha256: String,
    /// Bytes of the package file.
    pub size: u64,
    /// The package file's path in the archive: it stays there for a while after the suite has a newer one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The source package.
    pub source: String,
    /// The source package's version.
    pub source_version: String,
    /// Further source packages that it contains parts of, as `name version`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub built_using: Vec<String>,
}

/// A package that the archive has in another version than it was pinned in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name now.
    pub package: String,
    /// The version that was pinned.
    pub pinned: String,
    /// The version that there is.
    pub current: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} instead of {}", self.package, self.current, self.pinned)
    }
}

// === impl Pin ===

impl Pin {
    /// All source packages that it is made of, as `name version`.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        let own = format!("{} {}", self.source, self.source_version);
        [own].into_iter().chain(self.built_using.iter().cloned()).collect()
    }
}

// === impl Lock ===

impl Lock {
    /// Reads a lock file's text.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(board: &str, text: &str) -> Result<Self, Error> {
        let lock: Self = toml::from_str(text)
            .map_err(|error| Error::malformed(format!("the lock file of {board}"), error))?;
        for pin in &lock.packages {
            if pin.sha256.len() != 64 || !pin.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(Error::malformed(
                    format!("the lock file of {board}"),
                    format!("the SHA-256 of {} is not 64 hexadecimal digits", pin.name),
                ));
            }
        }
        Ok(lock)
    }

    /// The lock file's text.
    ///
    /// # Errors
    /// [`Error::Malformed`]: never for what [`Lock::parse`] read.
    pub fn to_text(&self) -> Result<String, Error> {
        let text = toml::to_string(self).map_err(|error| Error::malformed("a lock file", error))?;
        Ok(format!("# Written by `sosna-image lock`: do not edit.\n{text}"))
    }

    /// How another lock of the same board differs from this one.
    #[must_use]
    pub fn changes(&self, current: &Self) -> Vec<Change> {
        // Both are in the order in which the board names its packages; the kernel's name has its version in it.
        let both = self.packages.iter().zip(&current.packages);
        both.filter(|(pinned, current)| pinned.sha256 != current.sha256)
            .map(|(pinned, current)| Change {
                package: current.name.clone(),
                pinned: pinned.version.clone(),
                current: current.version.clone(),
            })
            .collect()
    }

    /// The first package whose name begins so.
    #[must_use]
    pub fn find(&self, prefix: &str) -> Option<&Pin> {
        self.packages.iter().find(|pin| pin.name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let pin = Pin {
            name: "a".into(),
            version: "1:2".into(),
            arch: "all".into(),
            suite: "trixie".into(),
            sha256: "ab".repeat(32),
            size: 3,
            file: "pool/a.deb".into(),
            source: "s".into(),
            source_version: "2".into(),
            built_using: vec!["c 3".into()],
        };
        let lock = Lock { epoch: 1, packages: vec![pin] };
        let text = lock.to_text().unwrap();
        assert_eq!(Lock::parse("x", &text).unwrap(), lock);
        assert!(Lock::parse("x", &text.replace("abab", "xyab")).is_err());
        assert!(Lock::parse("x", &text.replace("epoch", "epoche")).is_err());
    }
}
