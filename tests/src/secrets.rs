//! Looks for a key everywhere but where it belongs.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
};

use memchr::memmem;
use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use serde_json::Value;

/// Files are read in pieces of this size.
const PIECE: usize = 1 << 20;

/// A key, in all the forms in which somebody might write it.
#[derive(Debug)]
pub struct Needle {
    forms: Vec<Vec<u8>>,
    longest: usize,
}

// === impl Needle ===

impl Needle {
    /// The key in a file, as Sosna's programs keep them.
    ///
    /// # Panics
    /// When it holds none.
    #[must_use]
    pub fn of_file(text: &[u8]) -> Self {
        let stored: Value = serde_json::from_slice(text).unwrap();
        let bytes = HEXLOWER.decode(stored["key"].as_str().unwrap().trim_start_matches("0x").as_bytes());
        Self::new(&bytes.unwrap())
    }

    fn new(key: &[u8]) -> Self {
        assert_eq!(key.len(), 32);
        // In base 32 and 64 the last letters also have bits of what follows.
        let stem = |text: String, letters: usize| text.as_bytes()[..letters].to_vec();
        let forms = vec![
            key.to_vec(),
            key.iter().rev().copied().collect(),
            HEXLOWER.encode(key).into_bytes(),
            HEXUPPER.encode(key).into_bytes(),
            stem(BASE64.encode(key), 42),
            stem(BASE64URL.encode(key), 42),
            stem(BASE32_NOPAD.encode(key), 51),
            stem(BASE32_NOPAD.encode(key).to_lowercase(), 51),
            // As debugging output of bytes.
            key.iter().map(u8::to_string).collect::<Vec<_>>().join(", ").into_bytes(),
        ];
        let longest = forms.iter().map(Vec::len).max().unwrap_or_default();
        Self { forms, longest }
    }

    /// Whether it is in there, in any form.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memmem::find(bytes, form).is_some())
    }

    /// Whether it is in a file.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn is_in_file(&self, path: &Path) -> bool {
        self.is_in_part(path, 0..u64::MAX)
    }

    /// Whether it is in a part of a file. Holes, of which disk images consist for the most part, are passed over.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn is_in_part(&self, path: &Path, part: Range<u64>) -> bool {
        let mut file = File::open(path).unwrap();
        let (mut piece, mut kept) = (vec![0; self.longest + PIECE], 0);
        let mut at = part.start;
        while at < part.end {
            match next_data(&file, at) {
                Some(data) if data > at => (at, kept) = (data, 0),
                Some(_) => {}
                None => return false,
            }
            file.seek(SeekFrom::Start(at)).unwrap();
            let room = (PIECE as u64).min(part.end.saturating_sub(at));
            let read = file.read(&mut piece[kept..kept + usize::try_from(room).unwrap()]).unwrap();
            if read == 0 {
                return false;
            }
            let end = kept + read;
            if self.is_in(&piece[..end]) {
                return true;
            }
            at += read as u64;
            // What lies across two pieces.
            kept = end.min(self.longest - 1);
            piece.copy_within(end - kept..end, 0);
        }
        false
    }

    /// Every file below a folder that has it.
    ///
    /// # Panics
    /// When something cannot be read.
    #[must_use]
    pub fn files_with_it(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                found.extend(self.files_with_it(&entry.path()));
            } else if kind.is_file() && self.is_in_file(&entry.path()) {
                found.push(entry.path());
            }
        }
        found
    }
}

/// Where the next bytes are that a file really has; `None` at its end.
fn next_data(file: &File, from: u64) -> Option<u64> {
    let from = i64::try_from(from).unwrap();
    match lseek(file, from, Whence::SeekData) {
        Ok(at) => u64::try_from(at).ok(),
        Err(Errno::ENXIO) => None,
        // Not every file system tells.
        Err(_) => u64::try_from(from).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_every_form_and_across_pieces() {
        let key: Vec<u8> = (1..=32).map(|n| n * 7).collect();
        let needle = Needle::new(&key);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        let path = folder.path().join("deep/file");
        for form in needle.forms.clone() {
            for before in [0, 1, PIECE - 5, PIECE + 3] {
                fs::write(&path, [&vec![b'x'; before][..], &form, b"tail"].concat()).unwrap();
                assert_eq!(
                    needle.files_with_it(folder.path()),
                    std::slice::from_ref(&path),
                    "{before} {form:?}"
                );
            }
            fs::write(&path, &form[..form.len() - 1]).unwrap();
            assert!(needle.files_with_it(folder.path()).is_empty());
        }
    }
}
