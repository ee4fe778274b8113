//! Boards: what an image is made for. Each is one description file with one lock file beside it, in `boards/`.

mod description;
mod refresh;

pub use description::{Boot, Description, Firmware, Modules, Packages, Run, Sizes, Wifi};
pub use refresh::refresh;

use crate::Error;
use crate::package::Lock;

/// A board that images can be composed for.
#[derive(Debug, Clone)]
pub struct Board {
    /// Its name.
    pub name: String,
    /// What it is and what it needs.
    pub description: Description,
    /// Its packages, exactly.
    pub lock: Lock,
}

macro_rules! boards {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../boards/", $name, ".toml")), include_str!(concat!("../../boards/", $name, ".lock")))),*]
    };
}

/// Name, description file, lock file.
const BOARDS: &[(&str, &str, &str)] =
    boards!["x86_64-uefi", "x86_64-uefi-cloud", "arm64-uefi", "arm64-uefi-cloud", "rpi"];

// === impl Board ===

impl Board {
    /// The names of all boards.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BOARDS.iter().map(|(name, ..)| *name)
    }

    /// The board of this name.
    ///
    /// # Errors
    /// [`Error::Refused`]: there is none, and these there are. [`Error::Malformed`]: its files cannot be read.
    pub fn find(wanted: &str) -> Result<Self, Error> {
        let Some((name, description, lock)) = BOARDS.iter().find(|(name, ..)| *name == wanted) else {
            let known: Vec<_> = Self::names().collect();
            return Err(Error::Refused(format!(
                "there is no board {wanted}; there are {}",
                known.join(", ")
            )));
        };
        Ok(Self {
            name: (*name).to_owned(),
            description: Description::parse(name, description)?,
            lock: Lock::parse(name, lock)?,
        })
    }

    /// A board from files of one's own.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(name: &str, description: &str, lock: &str) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            description: Description::parse(name, description)?,
            lock: Lock::parse(name, lock)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_board_is_sound_and_its_lock_answers_its_description() {
        for name in Board::names() {
            let board = Board::find(name).unwrap();
            let packages = &board.description.packages;
            let kernel = board.lock.find("linux-image-").unwrap();
            assert_eq!(kernel.arch, board.description.architecture, "{name}");
            for package in &packages.others {
                assert!(
                    board.lock.packages.iter().any(|pin| pin.name == *package),
                    "{name}: {package} is not pinned"
                );
            }
            assert_eq!(board.lock.packages.len(), packages.others.len() + 1, "{name}");
            assert!(board.lock.packages.iter().all(|pin| pin.suite == packages.suite), "{name}");
        }
        assert!(Board::find("toaster").unwrap_err().to_string().contains("x86_64-uefi"));
    }
}
