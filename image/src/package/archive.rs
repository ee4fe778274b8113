//! Reads a Debian package: an `ar` archive whose member `data.tar.*` holds the files.
//!
//! Must never write, and never trust a length that the archive claims: what is kept is bounded.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::Error;

/// Of one package at most this much is kept in memory; the largest kernel has 110 MB of modules.
const MOST: u64 = 512 << 20;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path without a slash in front.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What a file of a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An ordinary file.
    File(Vec<u8>),
    /// A symbolic or hard link to this.
    Link(String),
}

/// The files of a package that `keep` wants, in the archive's order.
///
/// # Errors
/// [`Error::Io`], [`Error::Malformed`]: not a Debian package, or one packed in a way that is not known.
pub fn read(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Vec<Entry>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let entries = members(&mut reader, |member, data| {
        let Some(packing) = member.strip_prefix("data.tar") else { return Ok(None) };
        let data: Box<dyn Read + '_> = match packing {
            ".xz" => Box::new(liblzma::read::XzDecoder::new(data)),
            ".zst" => Box::new(zstd::Decoder::new(data)?),
            ".gz" => Box::new(flate2::read::GzDecoder::new(data)),
            "" => Box::new(data),
            other => {
                return Err(io::Error::other(format!("its files are packed as {other}, which is not known")));
            }
        };
        files(data, &keep).map(Some)
    });
    entries.map_err(|error| Error::malformed(name, error))
}

/// Calls `each` with the archive's members until it returns something.
fn members<T>(
    reader: &mut impl Read,
    mut each: impl FnMut(&str, &mut dyn Read) -> io::Result<Option<T>>,
) -> io::Result<T> {
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(io::Error::other("not a Debian package"));
    }
    loop {
        let mut header = [0; 60];
        if let Err(error) = reader.read_exact(&mut header) {
            let eof = error.kind() == io::ErrorKind::UnexpectedEof;
            return Err(if eof { io::Error::other("it holds no data.tar") } else { error });
        }
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_owned();
        let name = text(0..16).trim_end_matches('/').to_owned();
        let size: u64 = text(48..58).parse().map_err(|_| io::Error::other("a member's size is no number"))?;
        let mut member = reader.by_ref().take(size);
        if let Some(found) = each(&name, &mut member)? {
            return Ok(found);
        }
        io::copy(&mut member, &mut io::sink())?;
        if size % 2 == 1 {
            reader.read_exact(&mut [0])?;
        }
    }
}

fn files(data: impl Read, keep: &impl Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
    let mut archive = tar::Archive::new(data);
    let (mut found, mut total) = (Vec::new(), 0);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() || !keep(&path) {
            continue;
        }
        let mode = entry.header().mode()? & 0o7777;
        let content = if kind.is_file() {
            total += entry.size();
            if total > MOST {
                return Err(io::Error::other(format!("its files are larger than {MOST} bytes together")));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Content::File(bytes)
        } else {
            let Some(target) = entry.link_name_bytes() else { continue };
            Content::Link(String::from_utf8_lossy(&target).into_owned())
        };
        found.push(Entry { path, mode, content });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write as _;

    fn package(packing: &str, pack: impl Fn(Vec<u8>) -> Vec<u8>) -> tempfile::NamedTempFile {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o755);
        tar.append_data(&mut header, "./usr/bin/a", &b"hello"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        tar.append_link(&mut link, "./usr/bin/b", "a").unwrap();
        let data = pack(tar.into_inner().unwrap());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"!<arch>\n").unwrap();
        for (name, bytes) in [("debian-binary", &b"2.0"[..]), (&format!("data.tar{packing}"), &data)] {
            writeln!(file, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, bytes.len()).unwrap();
            file.write_all(bytes).unwrap();
            if bytes.len() % 2 == 1 {
                file.write_all(b"\n").unwrap();
            }
        }
        file
    }

    #[test]
    fn packages_of_all_packings_are_read() {
        let xz = |bytes: Vec<u8>| {
            let mut out = Vec::new();
            liblzma::read::XzEncoder::new(&bytes[..], 6).read_to_end(&mut out).unwrap();
            out
        };
        let zst = |bytes: Vec<u8>| zstd::encode_all(&bytes[..], 3).unwrap();
        for (packing, file) in
            [(".xz", package(".xz", xz)), (".zst", package(".zst", zst)), ("", package("", |b| b))]
        {
            let entries = read(file.path(), |_| true).unwrap();
            assert_eq!(entries.len(), 2, "{packing}");
            assert_eq!((entries[0].path.as_str(), entries[0].mode), ("usr/bin/a", 0o755));
            assert_eq!(entries[0].content, Content::File(b"hello".to_vec()));
            assert_eq!(entries[1].content, Content::Link("a".to_owned()));
            assert!(read(file.path(), |p| p.ends_with("/c")).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let file = package(".br", |b| b);
        assert!(read(file.path(), |_| true).unwrap_err().to_string().contains("packed as .br"));
        let cut = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(cut.path(), &std::fs::read(package("", |b| b).path()).unwrap()[..90]).unwrap();
        assert!(read(cut.path(), |_| true).is_err());
        std::fs::write(cut.path(), "hello world").unwrap();
        assert!(read(cut.path(), |_| true).unwrap_err().to_string().contains("not a Debian package"));
    }
}
