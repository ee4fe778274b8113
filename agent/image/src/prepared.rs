//! What needs rights before there is a store: its folders, whose they are, what a crash left of layers, and how overlayfs
//! marks them.

use std::{
    fmt, fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{XattrFlags, lsetxattr},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sosna_privsep::{Helper, User, check_own, give};

use crate::{
    disk::{self, names, remove},
    error::ImageError,
    helper,
};

/// How overlayfs must be told to read the layers' marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OverlayMode {
    /// `trusted.overlay.*`: mount without further options, as the real root.
    Trusted,
    /// `user.overlay.*`: mount with the option `userxattr`, as in a user namespace.
    UserXattr,
}

/// A store's folders, ready for whoever is to keep the store: it needs no rights any more.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) root: PathBuf,
    pub(crate) mode: OverlayMode,
}

// === impl OverlayMode ===

impl OverlayMode {
    /// The attribute by which a folder hides what lies below it (kernel, overlayfs.rst, "whiteouts and opaque
    /// directories").
    #[must_use]
    pub const fn opaque_attribute(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::UserXattr => "user.overlay.opaque",
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::UserXattr => "user",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::Trusted, Self::UserXattr].into_iter().find(|mode| mode.word() == word)
    }

    fn find_out(work: &Path) -> Result<Self, ImageError> {
        let probe = work.join("probe");
        let failed = |e: io::Error| ImageError::io("trying attributes in", work, e);
        fs::create_dir(&probe).map_err(failed)?;
        let set = |mode: Self| lsetxattr(&probe, mode.opaque_attribute(), b"y", XattrFlags::empty());
        let mode = match set(Self::Trusted) {
            Ok(()) => Ok(Self::Trusted),
            Err(Errno::PERM) => Ok(Self::UserXattr),
            // The disk has no such attributes: overlayfs works all the same, opaque folders will be refused.
            Err(Errno::NOTSUP) => Ok(Self::Trusted),
            Err(errno) => Err(failed(errno.into())),
        };
        remove(&probe)?;
        mode
    }
}

impl fmt::Display for OverlayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trusted => "trusted.overlay",
            Self::UserXattr => "user.overlay (mount with userxattr)",
        })
    }
}

// === impl Prepared ===

impl Prepared {
    /// Makes the folders of the store in `folder` and throws away layers that a crash left half done. With a `user` the
    /// store is theirs to keep, but for the layers, which stay with who prepares. Blocks for a moment.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn new(folder: &Path, user: Option<User>, mode: Option<OverlayMode>) -> Result<Self, ImageError> {
        fs::create_dir_all(folder).map_err(|e| ImageError::io("making", folder, e))?;
        let root = folder.canonicalize().map_err(|e| ImageError::io("finding", folder, e))?;
        // Closed to all but the owner: layers hold strangers' set-uid programs.
        allow(&root, 0o700)?;
        disk::make_folders(&root)?;
        let (work, layers) = (disk::work(&root), disk::layers(&root));
        for folder in [&root, &work, &layers] {
            check_own(folder).map_err(|e| ImageError::io("using", folder, e))?;
        }
        for name in names(&work)? {
            remove(&work.join(name))?;
        }
        for name in names(&layers)? {
            if fs::symlink_metadata(disk::note_of(&root, &name)).is_err() {
                remove(&layers.join(name))?;
            }
        }
        if let Some(user) = user {
            for name in disk::OF_THE_STORE {
                let path = root.join(name);
                give(&path, user).map_err(|e| ImageError::io("giving away", path, e))?;
            }
            // To see which layers there are, and not into them: through a descriptor that the agent passes on, anybody
            // on the machine could run their set-uid programs.
            for (path, mode) in [(&root, 0o750), (&layers, 0o740)] {
                chown(path, None, Some(user.0)).map_err(|e| ImageError::io("opening", path, e))?;
                allow(path, mode)?;
            }
        }
        let mode = mode.map_or_else(|| OverlayMode::find_out(&work), Ok)?;
        Ok(Self { root, mode })
    }

    /// The folder whose folders are layers.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        disk::layers(&self.root)
    }

    /// What a monitor must know, so that layers can come and go.
    #[must_use]
    pub fn helpers(&self) -> Vec<Helper> {
        helper::NAMES
            .map(|name| Helper {
                name,
                argv0: helper::ARGV0,
                arguments: vec![name.into(), self.root.clone().into(), self.mode.word().into()],
                // Each notices that nobody waits for it, and leaves nothing half done.
                ends_with_caller: false,
                // The store unpacks one at a time; those that were given up may still be clearing up.
                most: if name == helper::LAYER { 8 } else { 64 },
            })
            .into()
    }
}

fn allow(path: &Path, mode: u32) -> Result<(), ImageError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| ImageError::io("closing", path, e))
}
