//! Files by name, in a folder or in a tar file, without unpacking it.

use std::{
    collections::{BTreeMap, btree_map::Entry as Slot},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use sosna_protocol::Hash;
use tar::EntryType;

use super::{Blob, ImageError, MAX_JSON, Source, digest};

/// More files than any image archive has: one for each layer and a few.
const MAX_ENTRIES: usize = 65_536;
/// How many links lead to a file at most.
const MAX_LINKS: usize = 8;

/// A folder or an archive.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// `None` for a folder.
    entries: Option<BTreeMap<String, Entry>>,
}

#[derive(Debug, Clone)]
enum Entry {
    File { offset: u64, length: u64 },
    Link(String),
}

/// A file in a store.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) source: Source,
    pub(super) length: u64,
}

impl Store {
    pub(super) fn folder(path: &Path) -> Result<Self, ImageError> {
        let read = |source| ImageError::Read { path: path.to_owned(), source };
        if !fs::metadata(path).map_err(read)?.is_dir() {
            return Err(read(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { path: path.to_owned(), entries: None })
    }

    pub(super) fn archive(path: &Path) -> Result<Self, ImageError> {
        let read = |source| ImageError::Read { path: path.to_owned(), source };
        let hostile = |what: String| ImageError::Hostile { path: path.to_owned(), what };
        let mut file = File::open(path).map_err(read)?;
        let meta = file.metadata().map_err(read)?;
        if !meta.is_file() {
            return Err(read(io::Error::other("it is not a regular file")));
        }
        let mut magic = [0; 6];
        let had = file.read(&mut magic).map_err(read)?;
        if [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, b'7', b'z', b'X', b'Z']]
            .iter()
            .any(|known| magic[..had].starts_with(known))
        {
            return Err(ImageError::Compressed(path.to_owned()));
        }
        let mut tar = tar::Archive::new(File::open(path).map_err(read)?);
        let mut entries = BTreeMap::new();
        for entry in tar.entries_with_seek().map_err(read)? {
            let entry = entry.map_err(|error| hostile(format!("it is no tar file ({error})")))?;
            if entries.len() >= MAX_ENTRIES {
                return Err(hostile(format!("it has more than {MAX_ENTRIES} files")));
            }
            let raw = entry.path_bytes().into_owned();
            let name =
                String::from_utf8(raw).map_err(|_| hostile("a file's name is not UTF-8".to_owned()))?;
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            let (offset, length) = (entry.raw_file_position(), entry.size());
            let found = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    if offset.checked_add(length).is_none_or(|end| end > meta.len()) {
                        return Err(hostile(format!("`{name}` is cut off")));
                    }
                    Entry::File { offset, length }
                }
                kind @ (EntryType::Link | EntryType::Symlink) => {
                    let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                    let target =
                        String::from_utf8(target).map_err(|_| hostile(format!("`{name}` links nowhere")))?;
                    let from = if kind == EntryType::Link { "" } else { name.as_str() };
                    // What leads out of the archive is simply not there.
                    match join(from, &target) {
                        Some(target) => Entry::Link(target),
                        None => continue,
                    }
                }
                EntryType::Directory | EntryType::XGlobalHeader => continue,
                _ => return Err(hostile(format!("`{name}` is neither file, folder nor link"))),
            };
            match entries.entry(name) {
                Slot::Vacant(slot) => {
                    slot.insert(found);
                }
                // Which of two is meant is a question that different readers answer differently.
                Slot::Occupied(slot) => return Err(hostile(format!("`{}` is in it twice", slot.key()))),
            }
        }
        Ok(Self { path: path.to_owned(), entries: Some(entries) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file, if it is there. Names are the image format's own, or were checked by [`Store::json`]'s callers to be
    /// names within an archive; a folder is only ever asked for names that we made.
    pub(super) fn find(&self, name: &str) -> Result<Option<Piece>, ImageError> {
        match &self.entries {
            None => {
                let path = self.path.join(name);
                match fs::symlink_metadata(&path) {
                    Ok(meta) if meta.is_file() => {
                        Ok(Some(Piece { source: Source::File { path, offset: 0 }, length: meta.len() }))
                    }
                    Ok(_) => {
                        Err(ImageError::Read { path, source: io::Error::other("it is not a regular file") })
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(ImageError::Read { path, source }),
                }
            }
            Some(entries) => {
                let mut name = name;
                for _ in 0..MAX_LINKS {
                    match entries.get(name) {
                        Some(Entry::File { offset, length }) => {
                            let source = Source::File { path: self.path.clone(), offset: *offset };
                            return Ok(Some(Piece { source, length: *length }));
                        }
                        Some(Entry::Link(target)) => name = target,
                        None => return Ok(None),
                    }
                }
                Err(self.hostile(format!("`{name}` links in a circle")))
            }
        }
    }

    /// A file that has to be there.
    pub(super) fn need(&self, name: &str, expected: &'static str) -> Result<Piece, ImageError> {
        let missing = || ImageError::Missing { path: self.path.clone(), what: name.to_owned(), expected };
        self.find(name)?.ok_or_else(missing)
    }

    /// A file's bytes, as far as they are few.
    pub(super) fn bytes(&self, piece: &Piece, what: &str) -> Result<Vec<u8>, ImageError> {
        if piece.length > MAX_JSON {
            return Err(self.hostile(format!("{what} is larger than {MAX_JSON} bytes")));
        }
        let mut bytes = Vec::new();
        let read = piece.source.reader(piece.length).and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.map_err(|source| self.unreadable(source))?;
        Ok(bytes)
    }

    /// Reads JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, bytes: &[u8], what: &str) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| ImageError::Json {
            path: self.path.clone(),
            what: what.to_owned(),
            source: Box::new(error),
        })
    }

    /// A piece as content, compared with the name that it should have.
    pub(super) fn verified(&self, piece: Piece, expected: &Hash, what: &str) -> Result<Blob, ImageError> {
        let reader = piece.source.reader(piece.length).map_err(|source| self.unreadable(source))?;
        let (found, length) = digest(reader).map_err(|source| self.unreadable(source))?;
        if found != *expected || length != piece.length {
            return Err(self.differs(what, expected, &found));
        }
        Ok(Blob { sha256: found, length, source: piece.source })
    }

    pub(super) fn differs(&self, what: &str, expected: &Hash, found: &Hash) -> ImageError {
        ImageError::Digest {
            path: self.path.clone(),
            what: what.to_owned(),
            expected: format!("sha256:{expected}"),
            found: format!("sha256:{found}"),
        }
    }

    pub(super) fn unreadable(&self, source: io::Error) -> ImageError {
        ImageError::Read { path: self.path.clone(), source }
    }

    pub(super) fn hostile(&self, what: String) -> ImageError {
        ImageError::Hostile { path: self.path.clone(), what }
    }

    pub(super) fn unsupported(&self, what: String, next: &'static str) -> ImageError {
        ImageError::Unsupported { path: self.path.clone(), what, next }
    }
}

/// The name to which a link in `from` leads; `None` where that is outside.
fn join(from: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
