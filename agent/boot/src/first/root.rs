//! From the initramfs to the slot as the root of everything, as util-linux's `switch_root` does it.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use crate::mounts::{self, MountError};

/// Why the slot did not become the root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A mount cannot be taken along.
    #[error(transparent)]
    Move(#[from] MountError),
    /// The change of the root.
    #[error("cannot make {0} the root")]
    Change(String, #[source] io::Error),
    /// The program.
    #[error("cannot start {0} of the slot")]
    Start(String, #[source] io::Error),
}

/// Takes `kept` mounts along, frees the initramfs's memory, makes `slot` the root and becomes `program`.
pub(super) fn switch(slot: &Path, kept: &[&str], program: &str, began: u64) -> Result<Infallible, RootError> {
    for mount in kept {
        mounts::shift(Path::new(mount), &slot.join(mount.trim_start_matches('/')))?;
    }
    let failed = |source| RootError::Change(slot.display().to_string(), source);
    let old = fs::metadata("/").map_err(failed)?.dev();
    std::env::set_current_dir(slot).map_err(failed)?;
    empty(Path::new("/"), old);
    mounts::shift(Path::new("."), Path::new("/"))?;
    std::os::unix::fs::chroot(".").map_err(failed)?;
    std::env::set_current_dir("/").map_err(failed)?;
    let source = Command::new(program)
        .env_clear()
        .env("PATH", "/usr/bin:/usr/sbin")
        .env(super::STAGE, "2")
        .env(super::BEGAN, began.to_string())
        .exec();
    Err(RootError::Start(program.to_owned(), source))
}

/// Removes what lies on the device `device` below `folder`: the initramfs, in memory. What is mounted over it is on
/// other devices and stays. What cannot be removed costs memory and nothing else.
fn empty(folder: &Path, device: u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.dev() != device {
            continue;
        }
        if found.is_dir() {
            empty(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn everything_on_the_device_is_removed_and_links_are_not_followed() {
        let kept = tempfile::tempdir().unwrap();
        fs::write(kept.path().join("file"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink(kept.path(), folder.path().join("link")).unwrap();
        let device = fs::metadata(folder.path()).unwrap().dev();
        empty(folder.path(), device + 1);
        assert!(folder.path().join("a/b/c").exists(), "another device's");
        empty(folder.path(), device);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(kept.path().join("file").exists());
    }
}
