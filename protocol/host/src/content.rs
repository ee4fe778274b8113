//! Content addressed by its SHA-256, in files: written aside, verified, flushed, renamed. What is there is whole
//! and is what its name says.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};
use sosna_protocol::Hash;

use crate::file::{self, FileError};

/// A folder of content.
#[derive(Debug, Clone)]
pub struct ContentStore {
    root: PathBuf,
}

/// Why content was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The store's files fail.
    #[error("the content store fails")]
    File(#[from] FileError),
    /// Whoever sent it stopped.
    #[error("the content did not arrive whole")]
    Source(#[source] io::Error),
    /// It is something else than was announced.
    #[error("the content is {found}, not {expected}")]
    Digest {
        /// What it should have been.
        expected: Hash,
        /// What it is.
        found: Hash,
    },
    /// It is longer or shorter than was announced.
    #[error("the content has {found} bytes, not {expected}")]
    Length {
        /// Announced.
        expected: u64,
        /// Found (at least, where it was cut off).
        found: u64,
    },
}

/// Content that is being written. Dropping it unfinished leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    store: ContentStore,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    kept: bool,
}

// === impl ContentStore ===

impl ContentStore {
    /// Opens a store, and removes what an interrupted writer left.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(root: &Path) -> Result<Self, FileError> {
        let store = Self { root: root.to_owned() };
        let incoming = store.incoming();
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::of("empty", &incoming)(error));
            }
            _ => file::create_folder(&incoming)?,
        }
        file::create_folder(&root.join("sha256"))?;
        Ok(store)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Where content of this name is, if it is there.
    #[must_use]
    pub fn path(&self, name: &Hash) -> PathBuf {
        let hex = name.to_string();
        // Two levels: folders of a million entries are slow on small devices.
        self.root.join("sha256").join(&hex[..2]).join(&hex)
    }

    /// How long the content of this name is, if it is there.
    #[must_use]
    pub fn length(&self, name: &Hash) -> Option<u64> {
        fs::metadata(self.path(name)).ok().map(|meta| meta.len())
    }

    /// When the content of this name was taken last, if it is there.
    #[must_use]
    pub fn taken(&self, name: &Hash) -> Option<SystemTime> {
        fs::metadata(self.path(name)).and_then(|meta| meta.modified()).ok()
    }

    /// Tells of every piece its name, its length, and when it was taken last. What comes or goes meanwhile may be
    /// told or not.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn each(&self, mut tell: impl FnMut(Hash, u64, SystemTime)) -> Result<(), FileError> {
        let root = self.root.join("sha256");
        for folder in fs::read_dir(&root).map_err(FileError::of("read the folder", &root))? {
            let folder = folder.map_err(FileError::of("read the folder", &root))?.path();
            for file in fs::read_dir(&folder).map_err(FileError::of("read the folder", &folder))? {
                let file = file.map_err(FileError::of("read the folder", &folder))?;
                let Ok(name) = file.file_name().to_string_lossy().parse::<Hash>() else { continue };
                // One that is gone by now is nobody's business any more.
                if let Ok(meta) = file.metadata()
                    && let Ok(taken) = meta.modified()
                {
                    tell(name, meta.len(), taken);
                }
            }
        }
        Ok(())
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins to take content.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn incoming_content(&self) -> Result<Incoming, FileError> {
        let path = self.incoming().join(Hash(crate::random()).to_string());
        let file = File::create_new(&path).map_err(FileError::of("create", &path))?;
        Ok(Incoming { store: self.clone(), path, file, hasher: Sha256::new(), length: 0, kept: false })
    }

    /// Takes bytes as a whole and returns their name.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn put(&self, bytes: &[u8]) -> Result<Hash, FileError> {
        let name = sosna_protocol::hash::sha256(bytes);
        if self.length(&name).is_none() {
            let mut incoming = self.incoming_content()?;
            incoming.write(bytes)?;
            incoming.keep()?;
        }
        Ok(name)
    }

    /// Takes a reader's content and returns its name and length.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn put_reader(&self, mut reader: impl Read) -> Result<(Hash, u64), ContentError> {
        let mut incoming = self.incoming_content()?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => incoming.write(&buffer[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ContentError::Source(error)),
            }
        }
        let length = incoming.length;
        Ok((incoming.keep()?, length))
    }

    /// Forgets content. What is not there stays away.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove(&self, name: &Hash) -> Result<(), FileError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::of("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

// === impl Incoming ===

impl Incoming {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(FileError::of("write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes there are so far.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Keeps the content only if it is what was announced.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn keep_as(self, name: &Hash, length: u64) -> Result<(), ContentError> {
        if self.length != length {
            return Err(ContentError::Length { expected: length, found: self.length });
        }
        let found = Hash(self.hasher.clone().finalize().into());
        if found != *name {
            return Err(ContentError::Digest { expected: *name, found });
        }
        self.keep()?;
        Ok(())
    }

    /// Brings what has come so far to the disk, so that keeping it takes no time afterwards.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn flush(&self) -> Result<(), FileError> {
        sosna_fault::point("content/sync")
            .and_then(|()| self.file.sync_all())
            .map_err(FileError::of("flush", &self.path))
    }

    /// Keeps the content under the name that it has.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn keep(mut self) -> Result<Hash, FileError> {
        let name = Hash(self.hasher.clone().finalize().into());
        let path = self.store.path(&name);
        self.flush()?;
        let folder = path.parent().expect("content lies in a folder of the store");
        if !folder.is_dir() {
            file::create_folder(folder)?;
            file::sync_folder_of(folder)?;
        }
        sosna_fault::point("content/rename")
            .and_then(|()| fs::rename(&self.path, &path))
            .map_err(FileError::of("keep", &path))?;
        self.kept = true;
        sosna_fault::point("content/sync-folder").map_err(FileError::of("flush the folder of", &path))?;
        file::sync_folder_of(&path)?;
        Ok(name)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            // What stays after a failure here is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}
