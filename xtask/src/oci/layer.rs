//! One layer: a tree of files put together in memory and written as a tar that depends on its content alone
//! (sorted by path, no dates, owners as numbers that are said, not found).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// A user and group number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner(pub u32);

/// Root.
pub const ROOT: Owner = Owner(0);

#[derive(Debug)]
enum Body {
    Folder,
    Link(PathBuf),
    Bytes(Vec<u8>),
    Source(PathBuf),
}

#[derive(Debug)]
struct Entry {
    body: Body,
    mode: u32,
    owner: Owner,
}

/// A layer in the making. Paths are relative to the image's root, without a leading slash; the folders above
/// an entry come by themselves (0755, root).
#[derive(Debug, Default)]
pub struct Layer {
    entries: BTreeMap<String, Entry>,
}

impl Layer {
    fn put(&mut self, path: &str, body: Body, mode: u32, owner: Owner) {
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            self.entries.entry(parent.to_owned()).or_insert(Entry {
                body: Body::Folder,
                mode: 0o755,
                owner: ROOT,
            });
            above = parent;
        }
        self.entries.insert(path.to_owned(), Entry { body, mode, owner });
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32, owner: Owner) {
        self.put(path, Body::Folder, mode, owner);
    }

    /// Adds a file with this content.
    pub fn bytes(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        self.put(path, Body::Bytes(content.into()), mode, ROOT);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: impl Into<PathBuf>) {
        self.put(path, Body::Link(target.into()), 0o777, ROOT);
    }

    /// Adds `root/path` as it is, and where it is a symbolic link inside `root`, what it leads to as well.
    ///
    /// # Errors
    /// When the file or what it leads to cannot be read, or a link leads out of `root`.
    pub fn copy(&mut self, root: &Path, path: &str) -> io::Result<()> {
        let source = root.join(path);
        let meta = fs::symlink_metadata(&source)?;
        if meta.is_symlink() {
            let target = fs::read_link(&source)?;
            let next = inside(path, &target).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{path} leads out of the tree"))
            })?;
            self.link(path, target);
            return self.copy(root, &next);
        }
        if meta.is_dir() {
            self.folder(path, 0o755, ROOT);
            for entry in fs::read_dir(&source)? {
                self.copy(root, &format!("{path}/{}", entry?.file_name().to_string_lossy()))?;
            }
            return Ok(());
        }
        // setuid and the like have no place in an image for a single unprivileged user.
        self.put(path, Body::Source(source), meta.permissions().mode() & 0o755, ROOT);
        Ok(())
    }

    /// Writes the tar.
    ///
    /// # Errors
    /// When a source cannot be read or the output refuses.
    pub fn write<W: Write>(&self, out: W) -> io::Result<W> {
        let mut tar = Builder::new(out);
        for (path, entry) in &self.entries {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.0.into());
            header.set_gid(entry.owner.0.into());
            header.set_mtime(0);
            header.set_size(0);
            match &entry.body {
                Body::Folder => {
                    header.set_entry_type(EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Body::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, path, target)?;
                }
                Body::Bytes(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice())?;
                }
                Body::Source(source) => {
                    let file = File::open(source)?;
                    let size = file.metadata()?.len();
                    header.set_size(size);
                    tar.append_data(&mut header, path, file.take(size))?;
                }
            }
        }
        tar.into_inner()
    }
}

/// Where a link at `path` leads, relative to the root; none when it leads above it.
fn inside(path: &str, target: &Path) -> Option<String> {
    let target = target.to_str()?;
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => path.rsplit_once('/').map(|(parent, _)| parent.split('/').collect()).unwrap_or_default(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn links_are_followed_inside_only() {
        assert_eq!(inside("lib64/ld.so", Path::new("/lib/ld-2.so")).unwrap(), "lib/ld-2.so");
        assert_eq!(inside("usr/lib/a/b.so", Path::new("../c/b.so.1")).unwrap(), "usr/lib/c/b.so.1");
        assert_eq!(inside("a", Path::new("../../etc/passwd")), None);
    }

    #[test]
    fn order_and_dates_do_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let mut one = Layer::default();
        one.bytes("etc/passwd", "root", 0o644);
        one.copy(dir.path(), "f").unwrap();
        one.folder("tmp", 0o1777, ROOT);
        let mut two = Layer::default();
        two.folder("tmp", 0o1777, ROOT);
        fs::write(dir.path().join("f"), "x").unwrap();
        two.copy(dir.path(), "f").unwrap();
        two.bytes("etc/passwd", "root", 0o644);
        let tar = one.write(Vec::new()).unwrap();
        assert_eq!(tar, two.write(Vec::new()).unwrap());

        let mut archive = tar::Archive::new(tar.as_slice());
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                let h = e.header();
                (
                    e.path().unwrap().display().to_string(),
                    h.mode().unwrap(),
                    h.uid().unwrap(),
                    h.mtime().unwrap(),
                )
            })
            .collect();
        let expected = [("etc/", 0o755), ("etc/passwd", 0o644), ("f", 0o644), ("tmp/", 0o1777)];
        assert_eq!(seen, expected.map(|(p, m)| (p.to_owned(), m, 0, 0)));
    }

    #[test]
    fn a_link_brings_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lib")).unwrap();
        fs::write(dir.path().join("lib/x.so.1.2"), "x").unwrap();
        std::os::unix::fs::symlink("x.so.1.2", dir.path().join("lib/x.so.1")).unwrap();
        let mut layer = Layer::default();
        layer.copy(dir.path(), "lib/x.so.1").unwrap();
        assert!(layer.entries.contains_key("lib/x.so.1.2"));
        std::os::unix::fs::symlink("../../../etc/passwd", dir.path().join("lib/out")).unwrap();
        assert!(layer.copy(dir.path(), "lib/out").is_err());
    }
}
