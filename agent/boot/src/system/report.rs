//! How the device started, for the agent, which tells its hub: `/run/sosna/boot.json`.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{console, file, status::Shared};

/// Where it lies: in memory, replaced whole, readable by everybody.
pub const BOOT: &str = "/run/sosna/boot.json";
/// The boot image was not compared yet, or there is nothing to compare it with.
const UNCHECKED: &str = "unchecked";

/// What [`BOOT`] holds. Fields may be added: readers take what they know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootReport {
    /// The board that the image was composed for.
    pub board: String,
    /// The slot that runs: `a` or `b`.
    pub slot: String,
    /// The image's version.
    pub version: String,
    /// The kernel that runs (`uname -r`).
    pub kernel: String,
    /// How many kernel modules are loaded.
    pub modules: usize,
    /// `sound`, `differs: …`, or `unchecked` with or without a reason.
    pub boot_image: String,
    /// The data area in words: ready, or why it is held.
    pub data: String,
    /// Whether the data area is held, and with it the agent.
    pub held: bool,
}

// === impl BootReport ===

impl BootReport {
    /// Reads what PID 1 has written; none where there is nothing, as on a system that is not ours.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood.
    pub fn load() -> io::Result<Option<Self>> {
        match fs::read(BOOT) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(io::Error::other)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(shared: &Shared) -> Self {
        let facts = shared.facts();
        let or = |text: &str| if text.is_empty() { UNCHECKED.to_owned() } else { text.to_owned() };
        Self {
            board: facts.board.clone(),
            slot: facts.slot.clone(),
            version: facts.version.clone(),
            kernel: facts.kernel.clone(),
            modules: facts.modules,
            boot_image: or(&facts.boot_image),
            data: facts.data.clone(),
            held: facts.held,
        }
    }
}

/// Writes what is known now; one thread after the other.
pub(super) fn write(shared: &Shared) {
    static WRITES: Mutex<()> = Mutex::new(());
    let _turn = WRITES.lock().unwrap_or_else(PoisonError::into_inner);
    let report = BootReport::of(shared);
    let written = serde_json::to_vec(&report)
        .map_err(io::Error::other)
        .and_then(|text| file::write_whole(Path::new(BOOT), &text, 0o644));
    if let Err(error) = written {
        // Not a remark: it would have to be written, too.
        console::say(&format!(
            "{BOOT} cannot be written, the agent will not know how this device started: {error}"
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_not_compared_says_so_and_unknown_fields_do_no_harm() {
        let shared = Shared::default();
        shared.facts().board = "x86_64-uefi".into();
        let report = BootReport::of(&shared);
        assert_eq!((report.board.as_str(), report.boot_image.as_str()), ("x86_64-uefi", "unchecked"));
        let text = serde_json::to_string(&report).unwrap().replacen('{', "{\"later\":[1],", 1);
        assert_eq!(serde_json::from_str::<BootReport>(&text).unwrap(), report);
    }
}
