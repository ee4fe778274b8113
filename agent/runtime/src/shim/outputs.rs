//! Copies the declared outputs out of a container that has ended.
//!
//! What is in there was made by a stranger: links are kept, never followed; only files, folders and links are
//! taken; bytes and entries are bounded by the container's own disk limit (a file may be sparse), and names by what a
//! result can list. What is left out is the same on every device.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat},
    unistd::symlinkat,
};
use pathrs::{Root, error::ErrorKind};
use sha2::{Digest, Sha256};

use crate::{
    durable, hex,
    record::{OutputEntry, OutputKind},
    sys,
};

/// Deeper folders are refused: their paths would not fit the kernel's own limit.
const DEEPEST: usize = 100;
/// What is told of an output that is not there.
const NOT_MADE: &str = "was not made";
/// How folders are opened.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// The longest path, bytes: no result names a longer one (sosna-protocol's `result::MAX_PATH`).
const LONGEST: usize = 1024;
/// How many problems are told: as many as a result may tell (sosna-host's `MAX_LEFT_OUT`).
const PROBLEMS: usize = 100;
/// What the list of all may take, bytes of JSON: a result's manifest has at most 16 MiB (sosna-host's `MAX_MANIFEST`), and
/// tells problems beside.
const LIST: u64 = 15 << 20;
/// What an entry of it takes beside its path: hash, numbers and their names.
const LINE: u64 = 160;
/// The longest target of a link, bytes: not every file system has longer ones.
const TARGET: usize = 1023;

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

struct Copy {
    bytes_left: u64,
    entries_left: u64,
    list_left: u64,
    out: Collected,
}

/// A name in an open folder of the container, and its place in an open folder of ours.
struct Found<'a> {
    folder: BorrowedFd<'a>,
    name: &'a OsStr,
    into: BorrowedFd<'a>,
    /// Relative to the container's root.
    path: &'a [u8],
    depth: usize,
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
    let mut copy =
        Copy { bytes_left: bytes, entries_left: entries, list_left: LIST, out: Collected::default() };
    match copy.all(root, outputs, to) {
        Ok(()) => Ok(copy.out),
        Err(error) => {
            // Whatever stays goes with the container's folder.
            let _ = durable::remove_tree(to);
            Err(error)
        }
    }
}

/// What is to be kept, each once, by paths without slashes too many; and of that what lies within another. Within a folder it
/// is kept with that; within a link it is elsewhere, and what is kept must have one place.
fn distinct(outputs: &[String]) -> (Vec<String>, Vec<String>) {
    let parts = |path: &String| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let mut all: Vec<Vec<String>> = outputs.iter().map(parts).filter(|parts| !parts.is_empty()).collect();
    // By parts: what lies within another comes behind it.
    all.sort();
    all.dedup();
    let mut outer: Vec<&Vec<String>> = Vec::new();
    let mut inner = Vec::new();
    for parts in &all {
        match outer.last() {
            Some(last) if parts.starts_with(last) => inner.push(parts.join("/")),
            _ => outer.push(parts),
        }
    }
    (outer.into_iter().map(|parts| parts.join("/")).collect(), inner)
}

/// Whether an error says that there is nothing of that name. All others are this machine's: taken for that, they would make
/// another result of it than other devices have.
const fn is_absence(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG)
}

/// The same of a path, which may also lead out of the root.
fn leads_nowhere(error: &pathrs::error::Error) -> bool {
    match error.kind() {
        ErrorKind::OsError(number) => number.is_some_and(|number| is_absence(Errno::from_raw(number))),
        ErrorKind::SafetyViolation => true,
        _ => false,
    }
}

impl Copy {
    fn all(&mut self, root: &Path, outputs: &[String], to: &Path) -> io::Result<()> {
        durable::remove_tree(to)?;
        fs::create_dir(to)?;
        let (root, top) = (Root::open(root).map_err(io::Error::other)?, File::open(to)?);
        let (outer, inner) = distinct(outputs);
        for plain in outer {
            let (parent, name) = plain.rsplit_once('/').unwrap_or(("", &plain));
            // The parent is resolved within the root, whatever links it contains; the name itself is not followed.
            let folder = root
                .resolve(Path::new("/").join(parent))
                .and_then(|h| h.reopen(pathrs::flags::OpenFlags::O_DIRECTORY));
            let folder = match folder {
                Ok(folder) => folder,
                Err(error) if leads_nowhere(&error) => {
                    self.problem(plain.as_bytes(), NOT_MADE);
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            match fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => {}
                Err(error) if is_absence(error) => {
                    self.problem(plain.as_bytes(), NOT_MADE);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let into = place(top.as_fd(), parent)?;
            let (name, path) = (OsStr::new(name), plain.as_bytes());
            self.entry(&Found { folder: folder.as_fd(), name, into: into.as_fd(), path, depth: 0 })?;
        }
        for plain in inner {
            let told = format!("/{plain}: ");
            let is_told = self.out.problems.iter().any(|problem| problem.starts_with(&told));
            if !is_told && !self.out.entries.contains_key(plain.as_bytes()) {
                self.problem(plain.as_bytes(), NOT_MADE);
            }
        }
        sync_tree(to)
    }

    fn problem(&mut self, path: &[u8], what: &str) {
        // One line for each of the first says enough.
        if self.out.problems.len() < PROBLEMS {
            let path = String::from_utf8_lossy(&path[..path.len().min(LONGEST)]);
            self.out.problems.push(format!("/{path}: {what}"));
        }
    }

    /// Takes one name in an open folder. Errors are of the host's side and end it all.
    fn entry(&mut self, found: &Found<'_>) -> io::Result<()> {
        let Found { folder, name, into, path, depth } = *found;
        let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let Ok(text) = std::str::from_utf8(path) else {
            self.problem(path, "the name is not UTF-8");
            return Ok(());
        };
        if text.len() > LONGEST {
            self.problem(path, "the path is too long for a result");
            return Ok(());
        }
        if self.entries_left == 0 {
            self.problem(path, "more files than the limit");
            return Ok(());
        }
        let Some(list_left) = self.list_left.checked_sub(line(text)) else {
            self.problem(path, "more names than a result can list");
            return Ok(());
        };
        self.list_left = list_left;
        self.entries_left -= 1;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let (kind, length, sha256) = match kind {
            SFlag::S_IFREG => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = openat(folder, name, flags, Mode::empty())?;
                match self.file(file, &stat, (into, name))? {
                    Some((length, sum)) => (OutputKind::File, length, sum),
                    None => {
                        self.problem(path, "more bytes than the limit");
                        return Ok(());
                    }
                }
            }
            SFlag::S_IFLNK => {
                let link = readlinkat(folder, name)?;
                if link.as_bytes().len() > TARGET {
                    self.problem(path, "the link's target is too long for a result");
                    return Ok(());
                }
                let length = link.as_bytes().len() as u64;
                if length > self.bytes_left {
                    self.problem(path, "more bytes than the limit");
                    return Ok(());
                }
                self.bytes_left -= length;
                symlinkat(link.as_os_str(), into, name)?;
                (OutputKind::Symlink, length, hex(&Sha256::digest(link.as_bytes())))
            }
            SFlag::S_IFDIR => {
                let inner_into = subfolder(into, name)?;
                if depth >= DEEPEST {
                    self.problem(path, "folders nested too deep");
                } else {
                    let inner = openat(folder, name, FOLDER, Mode::empty())?;
                    self.folder(&inner, inner_into.as_fd(), path, depth)?;
                }
                (OutputKind::Folder, 0, String::new())
            }
            _ => {
                self.problem(path, "not a file, a folder or a link");
                return Ok(());
            }
        };
        let entry = OutputEntry { kind, path: text.to_owned(), mode: stat.st_mode & 0o777, length, sha256 };
        self.out.entries.insert(path.to_vec(), entry);
        Ok(())
    }

    fn folder(
        &mut self,
        folder: &OwnedFd,
        into: BorrowedFd<'_>,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(sys::fd_path(folder.as_fd()))? {
            names.push(entry?.file_name());
        }
        // In a fixed order, so that a limit always leaves out the same.
        names.sort();
        for name in names {
            let path = [path, b"/", name.as_bytes()].concat();
            self.entry(&Found { folder: folder.as_fd(), name: &name, into, path: &path, depth: depth + 1 })?;
        }
        Ok(())
    }

    /// Copies a file's content; None when it is too long.
    fn file(
        &mut self,
        from: OwnedFd,
        seen: &FileStat,
        (into, name): (BorrowedFd<'_>, &OsStr),
    ) -> io::Result<Option<(u64, String)>> {
        let is = fstat(&from)?;
        if is.st_ino != seen.st_ino || SFlag::from_bits_truncate(is.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG
        {
            return Err(io::Error::other("a file changed after the container had ended"));
        }
        let from = File::from(from);
        if from.metadata()?.size() > self.bytes_left {
            return Ok(None);
        }
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(into, name, flags, mode)?);
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

/// The folders above an output are no outputs, but its copy needs a place.
fn place(top: BorrowedFd<'_>, parent: &str) -> io::Result<OwnedFd> {
    let mut folder = top.try_clone_to_owned()?;
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        folder = subfolder(folder.as_fd(), OsStr::new(part))?;
    }
    Ok(folder)
}

/// A folder of ours, made where there is none. Never through a link: what we write lies where we made it, whatever a stranger
/// has named.
fn subfolder(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, Mode::S_IRWXU | Mode::S_IRGRP | Mode::S_IXGRP | Mode::S_IROTH | Mode::S_IXOTH)
    {
        Ok(()) | Err(Errno::EEXIST) => Ok(openat(folder, name, FOLDER, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

/// What an entry takes in the result's list, at most: characters that JSON writes by their numbers take six bytes.
fn line(path: &str) -> u64 {
    let written: usize = path
        .chars()
        .map(|c| match c {
            '"' | '\\' => 2,
            c if c.is_ascii_control() => 6,
            c => c.len_utf8(),
        })
        .sum();
    LINE + written as u64
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
    use std::os::unix::fs::{PermissionsExt, symlink};

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
    fn an_output_within_another_leads_nowhere_else() {
        let victim = tempfile::tempdir().unwrap();
        fs::write(victim.path().join("b"), "the host's").unwrap();
        let root = tempfile::tempdir().unwrap();
        let r = root.path();
        // In the container the same path as on the host, with files of the stranger's.
        let same = r.join(victim.path().strip_prefix("/").unwrap());
        fs::create_dir_all(&same).unwrap();
        fs::write(same.join("b"), "the stranger's").unwrap();
        fs::write(same.join("c"), "the stranger's").unwrap();
        symlink(victim.path(), r.join("a")).unwrap();
        for outputs in [["/a", "/a/b"], ["/a/b", "/a"], ["/a/", "//a//c"], ["/a/c", "/a/"]] {
            let (entries, problems, _to) = run(r, &outputs, 1 << 20, 100);
            assert_eq!(fs::read(victim.path().join("b")).unwrap(), b"the host's", "{outputs:?}");
            assert!(!victim.path().join("c").exists(), "{outputs:?}");
            let paths: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.kind)).collect();
            assert_eq!(paths, [("a", OutputKind::Symlink)], "{outputs:?}");
            assert!(
                problems.len() == 1 && problems[0].ends_with("was not made"),
                "{outputs:?}: {problems:?}"
            );
        }
        // Through a link of the container's, to what is there in the container.
        let (entries, _, to) = run(r, &["/a/b", "/a/c"], 1 << 20, 100);
        let paths: Vec<_> = entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["a/b", "a/c"]);
        assert_eq!(fs::read(to.path().join("outputs/a/b")).unwrap(), b"the stranger's");
        assert_eq!(fs::read(victim.path().join("b")).unwrap(), b"the host's");
    }

    #[test]
    fn what_we_write_goes_through_no_link() {
        let (victim, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(victim.path(), to.path().join("a")).unwrap();
        let top = File::open(to.path()).unwrap();
        assert!(place(top.as_fd(), "a/b").is_err());
        assert!(place(top.as_fd(), "x/y/z").is_ok() && place(top.as_fd(), "x/y").is_ok());
        assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
    }

    #[test]
    fn each_output_has_one_place() {
        let strings = |outputs: &[&str]| outputs.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
        let of = |outputs: &[&str]| distinct(&strings(outputs));
        let (outer, inner) = of(&["/b//c/", "/a", "/a-b", "/a/x/y", "/a/x", "/b/c", "/"]);
        assert_eq!((outer, inner), (strings(&["a", "a-b", "b/c"]), strings(&["a/x", "a/x/y"])));
    }

    #[test]
    fn names_that_no_result_can_have_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let r = root.path();
        let part = "d".repeat(200);
        let deep = ["out", &part, &part, &part, &part, &part].iter().collect::<std::path::PathBuf>();
        fs::create_dir_all(r.join(&deep)).unwrap();
        // 1024 bytes: the most there is.
        let short = 1024 - deep.as_os_str().len() - 1;
        fs::write(r.join(&deep).join("f".repeat(short)), "x").unwrap();
        fs::write(r.join(&deep).join("f".repeat(short + 1)), "x").unwrap();
        let (entries, problems, _to) = run(r, &["/out"], 1 << 20, 100);
        let longest = entries.iter().map(|e| e.path.len()).max();
        assert_eq!((entries.len(), longest), (7, Some(1024)));
        assert!(problems.len() == 1 && problems[0].contains("too long"), "{problems:?}");
    }

    #[test]
    fn links_that_not_every_file_system_has_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        symlink("x".repeat(TARGET), root.path().join("a")).unwrap();
        symlink("x".repeat(TARGET + 1), root.path().join("b")).unwrap();
        let (entries, problems, _to) = run(root.path(), &["/a", "/b"], 1 << 20, 100);
        assert_eq!(entries.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(problems, ["/b: the link's target is too long for a result"]);
    }

    #[test]
    fn only_what_is_not_there_was_not_made() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("out")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        let long = format!("/{}", "n".repeat(300));
        let (_, problems, _to) =
            run(root.path(), &["/none/x", "/file/x", "/loop/x", &long, "/out", "/out/x"], 1 << 20, 100);
        assert!(problems.len() == 5 && problems.iter().all(|p| p.ends_with(NOT_MADE)), "{problems:?}");
        assert!(is_absence(Errno::ENOENT) && !is_absence(Errno::EIO) && !is_absence(Errno::ENOMEM));
    }

    #[test]
    fn the_list_of_a_result_is_bounded_from_its_front() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        fs::create_dir(&out).unwrap();
        // Each character takes six bytes in JSON.
        for n in 0..12_000 {
            fs::write(out.join(format!("{n:05}{}", "\u{1}".repeat(245))), "").unwrap();
        }
        let (entries, problems, _to) = run(root.path(), &["/out"], 1 << 20, 20_000);
        // The manifest's own lines are counted by the agent's tests.
        let written = |e: &OutputEntry| serde_json::to_vec(e).unwrap().len() as u64;
        assert!(entries.iter().all(|e| written(e) <= line(&e.path)), "a line takes more than was counted");
        assert!(entries.iter().map(written).sum::<u64>() <= LIST);
        assert!(entries.len() > 5_000 && entries.len() < 12_000, "{}", entries.len());
        assert!(problems.len() == 100 && problems[0].contains("more names"), "{problems:?}");
        // From the front, in order.
        assert!(entries[1..].iter().enumerate().all(|(n, e)| e.path.starts_with(&format!("out/{n:05}"))));
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
        fs::write(r.join("out").join(OsStr::from_bytes(b"\xff")), "").unwrap();
        let (entries, problems, _to) = run(r, &["/out"], 100, 100);
        let paths: Vec<_> = entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["out", "out/z"]);
        assert_eq!(problems.len(), 4, "{problems:?}");
        let (entries, problems, _to) = run(r, &["/out"], 100, 1);
        assert_eq!(entries.len(), 1);
        assert!(problems.iter().any(|p| p.contains("more files")), "{problems:?}");
    }
}
