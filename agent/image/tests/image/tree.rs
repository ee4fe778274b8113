//! Looks at a tree without the crate's help.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Everything below `root`, one line for each path.
pub(crate) fn list(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            // overlayfs lists a whiteout that hides nothing in a folder of one layer only, but it is not there.
            let Ok(meta) = fs::symlink_metadata(root.join(&path)) else { continue };
            let mode = meta.mode() & 0o7777;
            let kind = meta.file_type();
            let text = if kind.is_dir() {
                todo.push(path.clone());
                format!("dir {mode:o}")
            } else if kind.is_symlink() {
                format!("link {}", fs::read_link(root.join(&path)).unwrap().display())
            } else if kind.is_char_device() && meta.rdev() == 0 {
                "whiteout".into()
            } else if kind.is_fifo() {
                format!("fifo {mode:o}")
            } else if kind.is_file() {
                format!("file {mode:o} {}", String::from_utf8_lossy(&fs::read(root.join(&path)).unwrap()))
            } else {
                format!("other {kind:?}")
            };
            found.insert(path.to_str().unwrap().to_owned(), text);
        }
    }
    found
}

pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}
