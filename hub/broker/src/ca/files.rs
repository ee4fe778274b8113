//! The authority's files: written aside, synced, then put in place; never readable by others; never overwritten
//! by a new authority.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::CaError;

/// Longer than any authority's file: key and certificate take about 900 bytes.
const MAX_FILE: u64 = 64 * 1024;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_path_buf();
    move |source| CaError::File { what, path, source }
}

fn sync_folder_of(path: &Path) -> Result<(), CaError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    sosna_fault::point_of("ca/sync-folder", path)
        .and_then(|()| File::open(folder))
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", folder))
}

pub(super) fn make_folder(path: &Path) -> Result<(), CaError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make the folder", path))
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn write_aside(path: &Path, text: &str) -> Result<PathBuf, CaError> {
    let aside = aside(path);
    // One left over from a crash was never in use.
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &aside)(e)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        sosna_fault::point_of("ca/sync", path)?;
        file.sync_all()
    };
    write().map_err(failed("write", &aside))?;
    Ok(aside)
}

/// Writes a file that must not exist yet. After return it survives a power cut.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), CaError> {
    let aside = write_aside(path, text)?;
    // A link, unlike a rename, refuses to replace.
    let linked = sosna_fault::point_of("ca/link", path).and_then(|()| fs::hard_link(&aside, path));
    fs::remove_file(&aside).map_err(failed("remove", &aside))?;
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CaError::Exists { path: path.to_path_buf() });
        }
        other => other.map_err(failed("write", path))?,
    }
    sync_folder_of(path)
}

/// Copies a private file over another.
pub(super) fn copy_over(from: &Path, to: &Path) -> Result<(), CaError> {
    let text = read_private(from)?;
    let aside = write_aside(to, &text)?;
    rename(&aside, to)
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CaError> {
    sosna_fault::point_of("ca/rename", to)
        .and_then(|()| fs::rename(from, to))
        .map_err(failed("rename", from))?;
    sync_folder_of(to)
}

pub(super) fn remove(path: &Path) -> Result<(), CaError> {
    fs::remove_file(path).map_err(failed("remove", path))?;
    sync_folder_of(path)
}

/// Reads a file that nobody else may read.
pub(super) fn read_private(path: &Path) -> Result<String, CaError> {
    let file = File::open(path).map_err(failed("open", path))?;
    let mode = file.metadata().map_err(failed("look at", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CaError::Exposed { path: path.to_path_buf(), mode });
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(failed("read", path))?;
    Ok(text)
}

/// One object in PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), lines)
}
