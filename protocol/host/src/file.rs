//! Files that are either there whole or not there: written aside, flushed, renamed, and the folder flushed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A file or folder that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the operating system says.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Adds what was tried, and on what, to an error of the operating system.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone: keys and tokens.
    Private,
    /// Everybody.
    Public,
}

/// Replaces a file's content as a whole and returns once that is on disk.
///
/// # Errors
/// [`FileError`]; the old content is then still there.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    let aside = aside(path);
    let mode = if access == Access::Private { 0o600 } else { 0o644 };
    let written = (|| {
        // A leftover of an earlier attempt may have other rights.
        let _ = fs::remove_file(&aside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
        file.write_all(bytes)?;
        sosna_fault::point_of("file/sync", path)?;
        file.sync_all()
    })();
    written.map_err(FileError::of("write", &aside))?;
    sosna_fault::point_of("file/rename", path)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(FileError::of("replace", path))?;
    sosna_fault::point_of("file/sync-folder", path).map_err(FileError::of("flush the folder of", path))?;
    sync_folder_of(path)
}

/// Flushes the folder that holds `path`, so that a rename or removal in it survives a power cut.
///
/// # Errors
/// [`FileError`].
pub fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::of("flush", folder))
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`FileError`].
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::of("make the folder", path))
}

/// Reads a file that may not be there yet.
///
/// # Errors
/// [`FileError`] for anything but its absence.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error)),
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
