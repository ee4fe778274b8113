//! Whose files are.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::{
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{Mode, SFlag, fstat},
    unistd::{Gid, Uid, fchown, fchownat},
};

/// A user and the group of the same number, which nobody else on the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(pub u32);

impl User {
    /// Whether this user may pass through all folders above `path`, which exists.
    ///
    /// # Errors
    /// When one of them cannot be looked at.
    pub fn reaches(self, path: &Path) -> io::Result<bool> {
        for folder in path.canonicalize()?.ancestors().skip(1) {
            let meta = fs::metadata(folder)?;
            let passable = match (meta.uid() == self.0, meta.gid() == self.0) {
                (true, _) => 0o100,
                (_, true) => 0o010,
                _ => 0o001,
            };
            if meta.mode() & passable == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Checks that a folder, which may have been there already, is this process's user's: in another's, names lead anywhere.
///
/// # Errors
/// Whose it is, and what to do; when it cannot be looked at.
pub fn check_own(folder: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    let own = nix::unistd::geteuid();
    if meta.is_dir() && meta.uid() == own.as_raw() {
        return Ok(());
    }
    let whose =
        format!("it is no folder of user {own}, but user {}'s; remove it, or give it back", meta.uid());
    Err(io::Error::other(whose))
}

/// Gives a file, or a folder with all in it, to a user. What is theirs already is not looked into. Links are not
/// followed, and a file with several names is left alone: one of them may be somebody else's.
///
/// # Errors
/// The system's, at the first file that cannot be given; that there is none is fine.
pub fn give(path: &Path, user: User) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    entry(&folder, Path::new(name), user)
}

fn entry(folder: impl std::os::fd::AsFd, name: &Path, user: User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.0), Gid::from_raw(user.0));
    // What is looked at is what is given, whatever becomes of the name meanwhile.
    let file =
        match openat(&folder, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(nix::errno::Errno::ENOENT) => return Ok(()),
            file => file?,
        };
    let stat = fstat(&file)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFDIR {
        if stat.st_nlink == 1 && (stat.st_uid, stat.st_gid) != (user.0, user.0) {
            fchownat(&file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
        }
        return Ok(());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let inner = openat(&folder, name, flags, Mode::empty())?;
    let stat = fstat(&inner)?;
    if (stat.st_uid, stat.st_gid) == (user.0, user.0) {
        return Ok(());
    }
    for found in fs::read_dir(crate::fd_path(std::os::fd::AsFd::as_fd(&inner)))? {
        entry(&inner, Path::new(&found?.file_name()), user)?;
    }
    // Last, so that what was interrupted is done again.
    Ok(fchown(&inner, Some(uid), Some(gid))?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_in_a_folder_is_given_and_what_links_lead_to_is_not() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (given, other) = (dir.path().join("given"), dir.path().join("other"));
        fs::create_dir_all(given.join("deep/er")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "").unwrap();
        fs::write(given.join("deep/er/file"), "").unwrap();
        symlink(&other, given.join("link")).unwrap();
        fs::hard_link(other.join("file"), given.join("another name")).unwrap();
        let user = User(54_321);
        give(&given, user).unwrap();
        give(&given.join("nothing"), user).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        for path in ["", "deep", "deep/er", "deep/er/file", "link"] {
            assert_eq!(owner(&given.join(path)), 54_321, "{path}");
        }
        assert_eq!((owner(&other), owner(&other.join("file"))), (0, 0));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!user.reaches(&given).unwrap());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(user.reaches(&given.join("deep/er/file")).unwrap());
    }
}
