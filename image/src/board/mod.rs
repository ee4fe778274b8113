//! Boards: what an image is made for. Each is one description file with one lock file beside it, in `boards/`.

mod description;
mod refresh;

pub use description::{Boot, Description, Firmware, Modules, Packages, Run, Sizes, Wifi};
pub use refresh::refresh;

use crate::Error;
use crate::package::{Cache, Change, Lock};

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

    /// The same board with what the archive has now, as of `epoch`, and how that differs from the pins.
    ///
    /// # Errors
    /// [`Error::Package`]: the archive cannot be asked or lacks a package.
    pub fn current(&self, cache: &Cache, epoch: u64) -> Result<(Self, Vec<Change>), Error> {
        let lock = refresh(&self.description, cache, epoch, true)?;
        let changes = self.lock.changes(&lock);
        Ok((Self { lock, ..self.clone() }, changes))
    }

    /// The board itself where its pinned packages can be had, else with the archive's current ones, and what differs
    /// then: for tests, which must not end with the archive's next update.
    ///
    /// # Errors
    /// [`Error`]: neither can be had.
    pub fn obtainable(self, cache: &Cache) -> Result<(Self, Vec<Change>), Error> {
        for pin in &self.lock.packages {
            match cache.obtain(pin) {
                Ok(_) => {}
                Err(Error::Gone { .. }) => return self.current(cache, self.lock.epoch),
                Err(error) => return Err(error),
            }
        }
        Ok((self, Vec::new()))
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
