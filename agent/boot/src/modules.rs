//! Loads kernel modules from a folder in the order of its file `order`: one file name a line. The order was resolved
//! when the image was composed, so nothing is looked up here. Must never end the boot by itself: a machine without
//! the hardware of a module is the usual case, and what is really missing shows at what needed it.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// The kernel unpacks the file itself (`include/uapi/linux/module.h`).
const COMPRESSED: libc::c_int = 4;

/// Why a module is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// There is no list.
    #[error("cannot read {path}, the list of kernel modules; the image is incomplete", path = path.display())]
    Order {
        /// The list.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The name has folders or is not one of a module.
    #[error("{path} names {name:?}, which is not a module's file", path = path.display())]
    Name {
        /// The list.
        path: PathBuf,
        /// The line.
        name: String,
    },
    /// The kernel refused it.
    #[error("cannot load the kernel module {path}", path = path.display())]
    Load {
        /// The module.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Loads all that `folder/order` names and returns what went wrong. That a device is not there (ENODEV), and that a
/// module is there already (EEXIST), is as it should be.
pub fn load_all(folder: &Path) -> Vec<ModuleError> {
    let path = folder.join("order");
    let order = match fs::read_to_string(&path) {
        Ok(order) => order,
        Err(source) => return vec![ModuleError::Order { path, source }],
    };
    let mut wrong = Vec::new();
    for name in names(&order) {
        let file = folder.join(name);
        if !is_module(name) {
            wrong.push(ModuleError::Name { path: path.clone(), name: name.to_owned() });
        } else if let Err(source) = load(&file) {
            wrong.push(ModuleError::Load { path: file, source });
        }
    }
    wrong
}

fn names(order: &str) -> impl Iterator<Item = &str> {
    order.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn is_module(name: &str) -> bool {
    !name.contains('/') && (name.ends_with(".ko") || name.ends_with(".ko.xz") || name.ends_with(".ko.zst"))
}

fn load(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = if path.extension().is_some_and(|e| e == "ko") { 0 } else { COMPRESSED };
    let parameters = CString::default();
    // SAFETY: the file is open and the parameters are a text with its zero for as long as the call takes.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::EEXIST) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_list_is_read_line_by_line() {
        let order = "virtio_blk.ko.xz\n\n# network\n  virtio_net.ko \n";
        assert_eq!(names(order).collect::<Vec<_>>(), ["virtio_blk.ko.xz", "virtio_net.ko"]);
    }

    #[test]
    fn a_missing_list_and_a_strange_name_are_told_and_end_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load_all(folder.path()).as_slice(), [ModuleError::Order { .. }]));
        fs::write(folder.path().join("order"), "../evil.ko\nfile.txt\nabsent.ko\n").unwrap();
        let wrong = load_all(folder.path());
        assert!(matches!(wrong[0], ModuleError::Name { .. }) && matches!(wrong[1], ModuleError::Name { .. }));
        assert!(matches!(wrong[2], ModuleError::Load { .. }), "{wrong:?}");
    }
}
