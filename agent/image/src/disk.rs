//! Where things lie in the store, and how a file or folder comes and goes so that a power cut leaves either all of it
//! or nothing: written aside, flushed, renamed, and the folder flushed.
//!
//! ```text
//! blobs/sha256/<hex>        manifests, configurations, layers not yet unpacked
//! blobs/sha256/<hex>.part   what has come of one
//! layers/<hex>/             one unpacked layer, by diff_id; helpers' alone, as `work`
//! index/layers/<hex>.json   its size
//! index/images/<hex>.json   an image that was complete once, by manifest digest, and its last use
//! tmp/                      half-done things; emptied at start
//! work/                     half-done layers; emptied at start
//! lock                      held as long as the store is open
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{digest::Digest, error::ImageError};

/// Paths of one store.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    next: AtomicU64,
}

// === impl Disk ===

impl Disk {
    /// Throws away what a crash left half done of the store's own.
    pub(crate) fn open(root: &Path) -> Result<Self, ImageError> {
        let tmp = root.join("tmp");
        for name in names(&tmp)? {
            remove(&tmp.join(name))?;
        }
        Ok(Self { root: root.to_owned(), next: AtomicU64::new(0) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn part(&self, digest: Digest) -> PathBuf {
        self.blobs().join(format!("{}.part", digest.hex()))
    }

    pub(crate) fn layers(&self) -> PathBuf {
        layers(&self.root)
    }

    pub(crate) fn layer(&self, diff_id: Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(crate) fn layer_note(&self, diff_id: Digest) -> PathBuf {
        note_of(&self.root, &diff_id.hex())
    }

    pub(crate) fn layer_note_of(&self, name: &str) -> PathBuf {
        note_of(&self.root, name)
    }

    pub(crate) fn image_notes(&self) -> PathBuf {
        self.root.join("index/images")
    }

    pub(crate) fn image_note(&self, manifest: Digest) -> PathBuf {
        self.image_notes().join(format!("{}.json", manifest.hex()))
    }

    /// A name in `tmp` that nobody has.
    pub(crate) fn aside(&self) -> PathBuf {
        self.root.join("tmp").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Writes a small file durably.
    pub(crate) fn write_note(&self, path: &Path, note: &impl Serialize) -> Result<(), ImageError> {
        let aside = self.aside();
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&aside)?;
            file.write_all(&serde_json::to_vec(note)?)?;
            sosna_fault::point("layers/sync-note")?;
            file.sync_all()?;
            publish(&aside, path)
        };
        write().map_err(|e| ImageError::io("writing", path, e))
    }
}

/// What is the store's, and no helper's.
pub(crate) const OF_THE_STORE: [&str; 4] = ["blobs", "index", "tmp", "lock"];

/// Where layers are.
pub(crate) fn layers(root: &Path) -> PathBuf {
    root.join("layers")
}

/// Where they are made, and where they go to be removed.
pub(crate) fn work(root: &Path) -> PathBuf {
    root.join("work")
}

/// The note of the layer of this name.
pub(crate) fn note_of(root: &Path, name: &str) -> PathBuf {
    root.join("index/layers").join(format!("{name}.json"))
}

/// Makes all folders of a store, and its lock.
pub(crate) fn make_folders(root: &Path) -> Result<(), ImageError> {
    for folder in ["blobs/sha256", "layers", "index/layers", "index/images", "tmp", "work"] {
        make_folder(&root.join(folder))?;
    }
    let lock = root.join("lock");
    let made = File::options().append(true).create(true).mode(0o600).open(&lock);
    made.map(drop).map_err(|e| ImageError::io("creating", lock, e))
}

/// Reads a note; nothing when it is missing or was damaged.
pub(crate) fn read_note<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Renames what is already flushed to its place, and flushes the folder.
pub(crate) fn publish(from: &Path, to: &Path) -> io::Result<()> {
    sosna_fault::point("layers/rename")?;
    fs::rename(from, to)?;
    sosna_fault::point("layers/sync-folder")?;
    match to.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file or a whole folder; it may be gone already. Never follows a link.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    let removed = match fs::symlink_metadata(path) {
        // An unpacker whose agent died a moment ago may still be writing for an instant.
        Ok(meta) if meta.is_dir() => (0..20)
            .find_map(|_| match fs::remove_dir_all(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    None
                }
                answer => Some(answer),
            })
            .unwrap_or_else(|| fs::remove_dir_all(path)),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io("removing", path, error)),
        _ => Ok(()),
    }
}

/// Names in a folder; those that are not text are not ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, ImageError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(|e| ImageError::io("listing", folder, e))
}

fn make_folder(path: &Path) -> Result<(), ImageError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| ImageError::io("making", path, e))
}
