//! Copies the declared outputs out of a container that has ended.
//!
//! What is in there was made by a stranger: links are kept, never followed; only files, folders and links are
//! taken; bytes and entries are bounded by the container's own disk limit (a file may be sparse).

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{MetadataExt, OpenOptionsExt, symlink},
        },
    },
    path::Path,
};

use nix::{
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};
use pathrs::Root;
use sha2::{Digest, Sha256};

use crate::{
    durable, hex,
    record::{OutputEntry, OutputKind},
    sys,
};

/// Deeper folders are refused: their paths would not fit the kernel's own limit.
const DEEPEST: usize = 100;

/// What was kept, and what could not be and why.
#[derive(Debug, Default)]
pub(super) struct Collected {
    entries: BTreeMap<Vec<u8>, OutputEntry>,
    pub(super) problems: Vec<String>,
}

impl Collected {
    /// The manifest, sorted by path bytes.
    pub(super) fn into_parts(self) -> (Vec<OutputEntry>, Vec<String>) {
        (self.entries.into_values().collect(), self.problems)
    }
}

struct Copy<'a> {
    to: &'a Path,
    bytes_left: u64,
    entries_left: u64,
    out: Collected,
}

/// Copies `outputs` (absolute paths in `root`) to the same paths below `to`. An error is this machine's (its disk is
/// full): then nothing is kept, which also makes room for the record of that.
pub(super) fn collect(
    root: &Path,
    outputs: &[String],
    to: &Path,
    bytes: u64,
    entries: u64,
) -> io::Result<Collected> {
    let mut copy = Copy { to, bytes_left: bytes, entries_left: entries, out: Collected::default() };
    match copy.all(root, outputs) {
        Ok(()) => Ok(copy.out),
        Err(error) => {
            // Whatever stays goes with the container's folder.
            let _ = durable::remove_tree(to);
            Err(error)
        }
    }
}

impl Copy<'_> {
    fn all(&mut self, root: &Path, outputs: &[String]) -> io::Result<()> {
        durable::remove_tree(self.to)?;
        fs::create_dir(self.to)?;
        let root = Root::open(root).map_err(io::Error::other)?;
        for output in outputs {
            let plain = output.trim_matches('/');
            let (parent, name) = plain.rsplit_once('/').unwrap_or(("", plain));
            // The parent is resolved within the root, whatever links it contains; the name itself is not followed.
            let folder = root
                .resolve(Path::new("/").join(parent))
                .and_then(|h| h.reopen(pathrs::flags::OpenFlags::O_DIRECTORY));
            let Ok(folder) = folder else {
                self.out.problems.push(format!("{output}: was not made"));
                continue;
            };
            self.place_parents(parent)?;
            match self.entry(folder.as_fd(), OsString::from(name).as_os_str(), plain.as_bytes(), 0) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.out.problems.push(format!("{output}: was not made"));
                }
                other => other?,
            }
        }
        sync_tree(self.to)
    }

    /// The folders above an output are no outputs, but its copy needs a place.
    fn place_parents(&self, parent: &str) -> io::Result<()> {
        fs::create_dir_all(self.to.join(parent))
    }

    fn problem(&mut self, path: &[u8], what: &str) {
        // One line for each of the first hundred says enough.
        if self.out.problems.len() < 100 {
            self.out.problems.push(format!("/{}: {what}", String::from_utf8_lossy(path)));
        }
    }

    /// Takes one name in an open folder. Errors are of the host's side and end it all.
    fn entry(
        &mut self,
        folder: std::os::fd::BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let Ok(text) = std::str::from_utf8(path) else {
            self.problem(path, "the name is not UTF-8");
            return Ok(());
        };
        let text = text.to_owned();
        if self.entries_left == 0 {
            self.problem(path, "left out: more files than the limit");
            return Ok(());
        }
        self.entries_left -= 1;
        let target = self.to.join(&text);
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let (kind, length, sha256) = match kind {
            SFlag::S_IFREG => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = openat(folder, name, flags, Mode::empty())?;
                match self.file(file, &stat, &target)? {
                    Some((length, sum)) => (OutputKind::File, length, sum),
                    None => {
                        self.problem(path, "left out: more bytes than the limit");
                        return Ok(());
                    }
                }
            }
            SFlag::S_IFLNK => {
                let link = readlinkat(folder, name)?;
                let length = link.as_bytes().len() as u64;
                if length > self.bytes_left {
                    self.problem(path, "left out: more bytes than the limit");
                    return Ok(());
                }
                self.bytes_left -= length;
                if !self.out.entries.contains_key(path) {
                    symlink(&link, &target)?;
                }
                let bytes = link.into_vec();
                (OutputKind::Symlink, bytes.len() as u64, hex(&Sha256::digest(&bytes)))
            }
            SFlag::S_IFDIR => {
                match fs::create_dir(&target) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    _ => {}
                }
                if depth >= DEEPEST {
                    self.problem(path, "left out: folders nested too deep");
                } else {
                    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                    let inner = openat(folder, name, flags, Mode::empty())?;
                    self.folder(&inner, path, depth)?;
                }
                (OutputKind::Folder, 0, String::new())
            }
            _ => {
                self.problem(path, "left out: not a file, a folder or a link");
                return Ok(());
            }
        };
        let entry = OutputEntry { kind, path: text, mode: stat.st_mode & 0o777, length, sha256 };
        self.out.entries.insert(path.to_vec(), entry);
        Ok(())
    }

    fn folder(&mut self, folder: &OwnedFd, path: &[u8], depth: usize) -> io::Result<()> {
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(sys::fd_path(folder.as_fd()))? {
            names.push(entry?.file_name());
        }
        // In a fixed order, so that a limit always leaves out the same.
        names.sort();
        for name in names {
            if CString::new(name.as_bytes()).is_err() {
                continue;
            }
            let path = [path, b"/", name.as_bytes()].concat();
            self.entry(folder.as_fd(), &name, &path, depth + 1)?;
        }
        Ok(())
    }

    /// Copies a file's content; None when it is too long.
    fn file(&mut self, from: OwnedFd, seen: &FileStat, to: &Path) -> io::Result<Option<(u64, String)>> {
        let is = fstat(&from)?;
        if is.st_ino != seen.st_ino || SFlag::from_bits_truncate(is.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG
        {
            return Err(io::Error::other("a file changed after the container had ended"));
        }
        let from = File::from(from);
        if from.metadata()?.size() > self.bytes_left {
            return Ok(None);
        }
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o640).open(to)?;
        let mut hasher = Sha256::new();
        let mut length = 0;
        let mut chunk = vec![0; 256 << 10];
        // One byte more than allowed shows that there was too much.
        let mut from = from.take(self.bytes_left.saturating_add(1));
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            hasher.update(&chunk[..n]);
            file.write_all(&chunk[..n])?;
            length += n as u64;
        }
        sosna_fault::point("shim/sync-output")?;
        file.sync_all()?;
        self.bytes_left = self.bytes_left.saturating_sub(length);
        Ok(Some((length, hex(&hasher.finalize()))))
    }
}

/// Makes the names in all folders below durable.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    durable::sync_folder(folder)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn run(
        root: &Path,
        outputs: &[&str],
        bytes: u64,
        entries: u64,
    ) -> (Vec<OutputEntry>, Vec<String>, tempfile::TempDir) {
        let to = tempfile::tempdir().unwrap();
        let outputs: Vec<_> = outputs.iter().map(|o| (*o).to_owned()).collect();
        let (entries, problems) =
            collect(root, &outputs, &to.path().join("outputs"), bytes, entries).unwrap().into_parts();
        (entries, problems, to)
    }

    #[test]
    fn links_are_kept_and_never_followed() {
        let root = tempfile::tempdir().unwrap();
        let r = root.path();
        fs::create_dir_all(r.join("out/deep")).unwrap();
        fs::write(r.join("out/b"), "hello").unwrap();
        fs::set_permissions(r.join("out/b"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/etc/passwd", r.join("out/a")).unwrap();
        symlink("/", r.join("out/deep/root")).unwrap();
        symlink("/etc", r.join("etclink")).unwrap();
        symlink("../../../../../../../../etc/hostname", r.join("direct")).unwrap();
        let (entries, problems, to) =
            run(r, &["/out/", "/etclink/hostname", "/direct", "/none"], 1 << 20, 100);
        let paths: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.kind)).collect();
        use OutputKind::{File, Folder, Symlink};
        assert_eq!(
            paths,
            [
                ("direct", Symlink),
                ("out", Folder),
                ("out/a", Symlink),
                ("out/b", File),
                ("out/deep", Folder),
                ("out/deep/root", Symlink)
            ]
        );
        assert_eq!(problems, ["/etclink/hostname: was not made", "/none: was not made"]);
        let b = &entries[3];
        assert_eq!((b.mode, b.length), (0o751, 5));
        assert_eq!(b.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        let copied = to.path().join("outputs/out/b");
        assert_eq!(fs::metadata(&copied).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read(&copied).unwrap(), b"hello");
        assert_eq!(fs::read_link(to.path().join("outputs/out/a")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn other_things_and_too_much_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let r = root.path();
        fs::create_dir(r.join("out")).unwrap();
        nix::unistd::mkfifo(&r.join("out/fifo"), Mode::from_bits_truncate(0o666)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(r.join("out/socket")).unwrap();
        File::create(r.join("out/sparse")).unwrap().set_len(1 << 40).unwrap();
        fs::write(r.join("out/z"), [0; 10]).unwrap();
        fs::write(r.join("out").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        let (entries, problems, _to) = run(r, &["/out"], 100, 100);
        let paths: Vec<_> = entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["out", "out/z"]);
        assert_eq!(problems.len(), 4, "{problems:?}");
        let (entries, problems, _to) = run(r, &["/out"], 100, 1);
        assert_eq!(entries.len(), 1);
        assert!(problems.iter().any(|p| p.contains("more files")), "{problems:?}");
    }
}
