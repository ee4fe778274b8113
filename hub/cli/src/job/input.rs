//! Files that tasks are given: found, named and hashed here, before anything is sent.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use sosna_api::job::InputFile;
use sosna_protocol::message::work::MAX_ITEMS;

use super::{DraftError, container_path};
use crate::image::{Blob, Source, digest};

/// How deep folders are searched: nobody means more, and a file system may have loops.
const MAX_DEPTH: usize = 32;

/// `SRC:DST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputArg {
    /// A file or folder here.
    pub source: PathBuf,
    /// An absolute path in the container; with a slash at its end, the folder to put it into.
    pub destination: String,
}

/// A file, hashed, and where it goes.
#[derive(Debug, Clone)]
pub struct LocalInput {
    /// As it is submitted.
    pub file: InputFile,
    /// Its content.
    pub blob: Blob,
}

impl FromStr for InputArg {
    type Err = DraftError;

    fn from_str(text: &str) -> Result<Self, DraftError> {
        let wrong = || DraftError::Input(text.to_owned());
        let (source, destination) = text.rsplit_once(':').ok_or_else(wrong)?;
        let mut clean = match destination {
            "/" => String::new(),
            path => container_path(path).ok_or_else(wrong)?,
        };
        if source.is_empty() {
            return Err(wrong());
        }
        if destination.ends_with('/') {
            clean.push('/');
        }
        Ok(Self { source: PathBuf::from(source), destination: clean })
    }
}

impl InputArg {
    /// Finds and hashes the files of all inputs. It reads every byte: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn open(inputs: &[Self]) -> Result<Vec<LocalInput>, DraftError> {
        let mut files = Vec::new();
        for input in inputs {
            let mut destination = input.destination.clone();
            let meta = fs::metadata(&input.source).map_err(unreadable(&input.source))?;
            if destination.ends_with('/') && !meta.is_dir() {
                let name = input.source.file_name().ok_or_else(|| DraftError::Name(input.source.clone()))?;
                destination.push_str(name.to_str().ok_or_else(|| DraftError::Name(input.source.clone()))?);
            }
            find(&input.source, destination.trim_end_matches('/'), 0, &mut files)?;
        }
        files.sort_by(|(_, a), (_, b)| a.cmp(b));
        let mut places = BTreeSet::new();
        let mut found = Vec::new();
        for (path, destination) in files {
            if !places.insert(destination.clone()) {
                return Err(DraftError::Twice(destination));
            }
            let file = fs::File::open(&path).map_err(unreadable(&path))?;
            let (sha256, length) = digest(file).map_err(unreadable(&path))?;
            found.push(LocalInput {
                file: InputFile { sha256: sha256.into(), length, destination },
                blob: Blob { sha256, length, source: Source::File { path, offset: 0 } },
            });
        }
        Ok(found)
    }
}

fn find(
    path: &Path,
    destination: &str,
    depth: usize,
    into: &mut Vec<(PathBuf, String)>,
) -> Result<(), DraftError> {
    let kind = |what| DraftError::Kind { path: path.to_owned(), what };
    // Links to files are followed, since their owner put them there; links to folders may lead anywhere.
    let meta = fs::metadata(path).map_err(unreadable(path))?;
    if meta.is_file() {
        if into.len() >= MAX_ITEMS {
            return Err(DraftError::TooMany(MAX_ITEMS));
        }
        into.push((path.to_owned(), destination.to_owned()));
        return Ok(());
    }
    if !meta.is_dir() {
        return Err(kind("neither file nor folder"));
    }
    if depth > 0 && fs::symlink_metadata(path).map_err(unreadable(path))?.is_symlink() {
        return Err(kind("a link to a folder"));
    }
    if depth > MAX_DEPTH {
        return Err(kind("too deep in folders"));
    }
    for entry in fs::read_dir(path).map_err(unreadable(path))? {
        let entry = entry.map_err(unreadable(path))?;
        let name = entry.file_name().into_string().map_err(|_| DraftError::Name(entry.path()))?;
        find(&entry.path(), &format!("{destination}/{name}"), depth + 1, into)?;
    }
    Ok(())
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> DraftError + use<> {
    let path = path.to_owned();
    move |source| DraftError::Unreadable { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn inputs_are_pairs() {
        let parse = |text: &str| text.parse::<InputArg>();
        assert_eq!(
            parse("scene.pov:/in/scene.pov").unwrap(),
            InputArg { source: "scene.pov".into(), destination: "/in/scene.pov".to_owned() }
        );
        assert_eq!(parse("a:b:/in").unwrap().source, PathBuf::from("a:b"));
        assert_eq!(parse("a:/in//x/./y").unwrap().destination, "/in/x/y");
        assert_eq!(parse("a:/in/").unwrap().destination, "/in/");
        assert_eq!(parse("a:/").unwrap().destination, "/");
        for text in ["a", "a:", ":/x", "a:x", "a:/x/../y", "a:/.."] {
            assert!(matches!(parse(text), Err(DraftError::Input(_))), "{text}");
        }
    }

    #[test]
    fn folders_become_one_input_a_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("deep/er")).unwrap();
        fs::write(folder.path().join("b.txt"), "b").unwrap();
        fs::write(folder.path().join("deep/er/a.txt"), "abc").unwrap();
        symlink("b.txt", folder.path().join("link.txt")).unwrap();
        let input = InputArg { source: folder.path().to_owned(), destination: "/in".to_owned() };
        let found = InputArg::open(std::slice::from_ref(&input)).unwrap();
        let places: Vec<_> =
            found.iter().map(|input| (input.file.destination.as_str(), input.file.length)).collect();
        assert_eq!(places, [("/in/b.txt", 1), ("/in/deep/er/a.txt", 3), ("/in/link.txt", 1)]);
        assert_eq!(found[1].file.sha256.0, sosna_protocol::hash::sha256(b"abc"));

        let into = InputArg { source: folder.path().join("b.txt"), destination: "/in/".to_owned() };
        assert_eq!(InputArg::open(&[into]).unwrap()[0].file.destination, "/in/b.txt");

        assert!(matches!(InputArg::open(&[input.clone(), input.clone()]), Err(DraftError::Twice(_))));
        symlink("..", folder.path().join("deep/loop")).unwrap();
        assert!(matches!(InputArg::open(&[input]), Err(DraftError::Kind { what: "a link to a folder", .. })));
        let gone = InputArg { source: folder.path().join("gone"), destination: "/x".to_owned() };
        assert_eq!(InputArg::open(&[gone]).unwrap_err().exit(), sosna_host::report::Exit::NotFound);
    }

    #[test]
    fn too_many_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MAX_ITEMS {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        let input = InputArg { source: folder.path().to_owned(), destination: "/in".to_owned() };
        assert!(matches!(InputArg::open(&[input]), Err(DraftError::TooMany(MAX_ITEMS))));
    }
}
