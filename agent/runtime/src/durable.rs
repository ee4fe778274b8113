//! Files that count only once they are safe: written aside, synced, renamed, and the folder synced.
//! Must never leave a half-written file under its final name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Replaces `path` with `content` so that after a power cut it holds the old or the new content, never a part.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put(path, content, mode, true)
}

/// Replaces `path` with `content` so that no reader ever sees a part; what a power cut makes of it does not matter.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put(path, content, mode, false)
}

fn put(path: &Path, content: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // The process id keeps two writers (an agent and a shim) from sharing one temporary file.
    let aside = folder.join(format!(".{name}.{}", std::process::id()));
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.write_all(content)?;
        if sync {
            sosna_fault::point_of("runtime/sync", path)?;
            file.sync_all()?;
        }
        sosna_fault::point_of("runtime/rename", path)?;
        fs::rename(&aside, path)?;
        if sync { sync_folder(folder) } else { Ok(()) }
    })();
    if result.is_err() {
        let _ = fs::remove_file(&aside);
    }
    result
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    sosna_fault::point("runtime/sync-folder")?;
    File::open(folder)?.sync_all()
}

/// Removes a folder with all in it; that it is gone already is success.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        replace(&path, b"three", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&dir.path().join("missing/record"), b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
