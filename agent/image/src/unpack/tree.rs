//! Writes entries below one directory, and never anywhere else: every folder is opened by openat2 with
//! RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS from the layer's own descriptor, every last component is created with
//! O_EXCL or an *at call that does not follow links. A link inside the layer is data, not a way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{
        self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    },
    io::Errno,
};

use super::{
    archive::{Archive, Entry, Kind, printable},
    message::{Limits, Refusal, Unpacked},
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The folder being filled.
pub(super) struct Tree<'a> {
    root: OwnedFd,
    limits: &'a Limits,
    /// The folder used last: archives list a folder's files together.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Mode and time of folders are set at the end, when nothing is created in them any more.
    folders: BTreeMap<Vec<u8>, (u32, (i64, u32))>,
    whiteouts: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    owners: bool,
    done: Unpacked,
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

/// A folder of a layer, opened without following any link; `flags` say what for.
pub(super) fn open_folder(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    // Without O_NOFOLLOW, so that a link in the last place answers ELOOP like one on the way.
    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        match fs::openat2(&root, path, flags, Mode::empty(), beneath()) {
            // The kernel saw a rename somewhere and could not be sure; nothing of ours renames here.
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
}

fn failed(action: &str, path: &[u8], errno: Errno) -> Refusal {
    if matches!(errno, Errno::NOSPC | Errno::DQUOT) {
        return Refusal::NoSpace;
    }
    Refusal::System {
        action: action.into(),
        path: printable(path),
        detail: io::Error::from(errno).to_string(),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn stat(folder: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

// === impl Tree ===

impl<'a> Tree<'a> {
    pub(super) fn new(root: OwnedFd, limits: &'a Limits, owners: bool) -> Self {
        Self {
            root,
            limits,
            last: None,
            folders: BTreeMap::new(),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            owners,
            done: Unpacked { owners_kept: owners, ..Unpacked::default() },
        }
    }

    /// Writes one entry.
    pub(super) fn apply<R: io::Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<'_, R>,
    ) -> Result<(), Refusal> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(Refusal::Entries { limit: self.limits.entries });
        }
        let path = self.normal(&entry.path)?;
        // A file's size is the archive's word, but read_data never gives more than it.
        let data = if entry.kind == Kind::File { entry.size } else { 0 };
        self.charge(data)?;
        let (folder, name) = split(&path);
        if name.is_empty() {
            return if entry.kind == Kind::Directory {
                self.describe_folder(&path, entry)
            } else {
                Err(Refusal::Conflict { path: printable(&entry.path) })
            };
        }
        if name.starts_with(WHITEOUT) {
            return self.whiteout(folder, name, &path);
        }
        match entry.kind {
            Kind::Directory => self.folder(&path, entry),
            Kind::File => self.file(&path, entry, archive),
            Kind::HardLink => self.hard_link(&path, entry),
            Kind::Symlink => self.symlink(&path, entry),
            Kind::Fifo => self.fifo(&path, entry),
            Kind::Device => Err(Refusal::Device { path: printable(&path) }),
            Kind::Other(kind) => Err(Refusal::Kind { path: printable(&path), kind: char::from(kind) }),
        }
    }

    /// Sets what had to wait; gives the figures and the folders that hide everything below them.
    pub(super) fn finish(mut self) -> Result<(Unpacked, Vec<Vec<u8>>), Refusal> {
        self.last = None;
        // Below an opaque folder a whiteout has nothing to hide, and a folder that is not merged with another would
        // show it in its listing.
        for path in std::mem::take(&mut self.whiteouts) {
            let hidden = path
                .iter()
                .enumerate()
                .filter(|(_, b)| **b == b'/')
                .any(|(i, _)| self.opaque.contains(&path[..i]));
            if hidden || self.opaque.contains(&b""[..]) {
                let (folder, name) = split(&path);
                let folder =
                    open_folder(&self.root, folder, OFlags::PATH).map_err(|e| failed("opening", &path, e))?;
                fs::unlinkat(&folder, name, AtFlags::empty()).map_err(|e| failed("removing", &path, e))?;
            }
        }
        // Deepest first: a folder's own time changes when something is written in it, never after its turn.
        for (path, (mode, modified)) in self.folders.iter().rev() {
            let fd = open_folder(&self.root, path, OFlags::RDONLY).map_err(|e| failed("opening", path, e))?;
            fs::futimens(&fd, &times(*modified)).map_err(|e| failed("setting the time of", path, e))?;
            // Without the power to override modes, the owner must still be able to clean up later.
            let mode = if self.owners { *mode } else { *mode | 0o700 };
            fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(|e| failed("setting the mode of", path, e))?;
        }
        Ok((self.done, self.opaque.into_iter().collect()))
    }

    // --- paths and bounds

    /// Relative components without `.`; a leading slash means the layer's root, as in every runtime.
    fn normal(&self, path: &[u8]) -> Result<Vec<u8>, Refusal> {
        if path.len() > self.limits.path_bytes {
            return Err(Refusal::PathLength { path: printable(path), limit: self.limits.path_bytes });
        }
        if path.contains(&0) {
            return Err(Refusal::Damaged {
                detail: format!("the path {} contains a zero byte", printable(path)),
            });
        }
        let mut parts = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(Refusal::Climbs { path: printable(path) }),
                part if part.len() > 255 => {
                    return Err(Refusal::PathLength { path: printable(part), limit: 255 });
                }
                part => parts.push(part),
            }
        }
        if parts.len() > self.limits.path_depth {
            return Err(Refusal::PathDepth { path: printable(path), limit: self.limits.path_depth });
        }
        Ok(parts.join(&b'/'))
    }

    fn charge(&mut self, data: u64) -> Result<(), Refusal> {
        let blocks = data.div_ceil(4096).saturating_mul(4096);
        self.done.disk_bytes = self.done.disk_bytes.saturating_add(512).saturating_add(blocks);
        if self.done.disk_bytes > self.limits.disk_bytes {
            return Err(Refusal::DiskRoom { limit: self.limits.disk_bytes });
        }
        Ok(())
    }

    /// The folder at `path`, made with its parents where the archive did not list them.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Refusal> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = match open_folder(&self.root, path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.make_parents(path)?,
            Err(errno) => return Err(failed("opening", path, errno)),
        };
        let fd = Rc::new(fd);
        self.last = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    fn make_parents(&mut self, path: &[u8]) -> Result<OwnedFd, Refusal> {
        let mut folder =
            open_folder(&self.root, b"", OFlags::PATH).map_err(|e| failed("opening", path, e))?;
        let mut so_far = Vec::new();
        for name in path.split(|b| *b == b'/') {
            so_far = join(&so_far, name);
            if self.make_folder(&folder, name, &so_far)? {
                self.charge(4096)?;
                if self.owners {
                    let root = (Some(Uid::ROOT), Some(Gid::ROOT));
                    fs::chownat(&folder, name, root.0, root.1, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|e| failed("setting the owner of", &so_far, e))?;
                }
                self.done.implied_directories += 1;
                self.folders.insert(so_far.clone(), (0o755, (0, 0)));
            }
            folder = open_folder(&folder, name, OFlags::PATH).map_err(|e| failed("opening", &so_far, e))?;
        }
        Ok(folder)
    }

    /// Makes a folder unless there is one; true when it is new. A whiteout in its place becomes "opaque": the lower
    /// thing is gone and the new folder starts empty. Never replaces a link on the way to something else.
    fn make_folder(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<bool, Refusal> {
        if let Some(stat) = stat(parent, name).map_err(|e| failed("looking at", path, e))? {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => return Ok(false),
                FileType::Symlink => return Err(Refusal::ThroughSymlink { path: printable(path) }),
                FileType::CharacterDevice if self.whiteouts.remove(path) => {
                    fs::unlinkat(parent, name, AtFlags::empty()).map_err(|e| failed("replacing", path, e))?;
                    self.opaque.insert(path.to_vec());
                }
                _ => return Err(Refusal::Conflict { path: printable(path) }),
            }
        }
        fs::mkdirat(parent, name, Mode::RWXU).map_err(|e| failed("making", path, e))?;
        Ok(true)
    }

    /// Makes room for an entry at `path`: the later of two entries counts, but a folder that has something in it
    /// does not give way.
    fn clear(&mut self, parent: &OwnedFd, path: &[u8]) -> Result<(), Refusal> {
        let (_, name) = split(path);
        let Some(stat) = stat(parent, name).map_err(|e| failed("looking at", path, e))? else {
            return Ok(());
        };
        self.whiteouts.remove(path);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.last = None;
            self.opaque.remove(path);
            self.folders.remove(path);
            return match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) => Ok(()),
                Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Refusal::Conflict { path: printable(path) }),
                Err(errno) => Err(failed("replacing", path, errno)),
            };
        }
        fs::unlinkat(parent, name, AtFlags::empty()).map_err(|e| failed("replacing", path, e))
    }

    // --- one function for each kind of entry

    fn folder(&mut self, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let (folder, name) = split(path);
        let parent = self.parent(folder)?;
        let old = stat(&parent, name).map_err(|e| failed("looking at", path, e))?;
        let replaces = old.is_some_and(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory);
        if replaces && !self.whiteouts.contains(path) {
            self.clear(&parent, path)?;
        }
        if self.make_folder(&parent, name, path)? {
            self.charge(4096)?;
        }
        self.describe_folder(path, entry)
    }

    fn describe_folder(&mut self, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let fd = open_folder(&self.root, path, OFlags::RDONLY).map_err(|e| failed("opening", path, e))?;
        self.own(&fd, path, entry)?;
        self.attributes(&fd, path, entry)?;
        self.folders.insert(path.to_vec(), (entry.mode, entry.modified));
        Ok(())
    }

    fn file<R: io::Read>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        archive: &mut Archive<'_, R>,
    ) -> Result<(), Refusal> {
        let (folder, name) = split(path);
        let parent = self.parent(folder)?;
        self.clear(&parent, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| failed("creating", path, e))?;
        let mut file = File::from(fd);
        let mut buffer = [0; 64 * 1024];
        loop {
            let read = archive.read_data(&mut buffer)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(|e| match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::NoSpace,
                _ => {
                    Refusal::System { action: "writing".into(), path: printable(path), detail: e.to_string() }
                }
            })?;
        }
        // In this order: chown clears set-id bits and capabilities, and attributes want a writable file.
        self.own(&file, path, entry)?;
        self.attributes(&file, path, entry)?;
        fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
            .map_err(|e| failed("setting the mode of", path, e))?;
        fs::futimens(&file, &times(entry.modified)).map_err(|e| failed("setting the time of", path, e))
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let outside = || Refusal::HardLinkOutside { path: printable(path), target: printable(&entry.link) };
        let target = match self.normal(&entry.link) {
            Err(Refusal::Climbs { .. }) => return Err(outside()),
            target => target?,
        };
        let (target_folder, target_name) = split(&target);
        let target_parent = match open_folder(&self.root, target_folder, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::LOOP) => return Err(Refusal::ThroughSymlink { path: printable(&entry.link) }),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(outside()),
            Err(errno) => return Err(failed("opening", &target, errno)),
        };
        let to_non_file =
            || Refusal::HardLinkToNonFile { path: printable(path), target: printable(&entry.link) };
        if target_name.is_empty() {
            return Err(to_non_file());
        }
        let found = stat(&target_parent, target_name).map_err(|e| failed("looking at", &target, e))?;
        if FileType::from_raw_mode(found.ok_or_else(outside)?.st_mode) != FileType::RegularFile {
            return Err(to_non_file());
        }
        if target == path {
            return Ok(());
        }
        let (folder, name) = split(path);
        let parent = self.parent(folder)?;
        self.clear(&parent, path)?;
        fs::linkat(&target_parent, target_name, &parent, name, AtFlags::empty())
            .map_err(|e| failed("linking", path, e))
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        if entry.link.len() > self.limits.path_bytes {
            return Err(Refusal::PathLength { path: printable(&entry.link), limit: self.limits.path_bytes });
        }
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Refusal::Damaged { detail: format!("the link {} points nowhere", printable(path)) });
        }
        let (folder, name) = split(path);
        let parent = self.parent(folder)?;
        self.clear(&parent, path)?;
        fs::symlinkat(&entry.link[..], &parent, name).map_err(|e| failed("linking", path, e))?;
        self.finish_special(&parent, name, path, entry)
    }

    fn fifo(&mut self, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let (folder, name) = split(path);
        let parent = self.parent(folder)?;
        self.clear(&parent, path)?;
        fs::mknodat(&parent, name, FileType::Fifo, Mode::from_raw_mode(entry.mode), 0)
            .map_err(|e| failed("making", path, e))?;
        self.finish_special(&parent, name, path, entry)
    }

    fn finish_special(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), Refusal> {
        if self.owners {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed("setting the owner of", path, e))?;
        }
        // user.* attributes exist on files and folders only (xattr(7)).
        self.done.dropped_xattrs += u64::try_from(entry.xattrs.len()).unwrap_or(u64::MAX);
        fs::utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("setting the time of", path, e))
    }

    /// OCI image-spec, layer.md, "Whiteouts".
    fn whiteout(&mut self, folder: &[u8], name: &[u8], path: &[u8]) -> Result<(), Refusal> {
        if name == OPAQUE {
            self.parent(folder)?;
            self.opaque.insert(folder.to_vec());
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if hidden.starts_with(WHITEOUT) {
            // Bookkeeping of AUFS (`.wh..wh.plnk`, `.wh..wh.aufs`), which old layers still carry.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Refusal::Whiteout { path: printable(path) });
        }
        let parent = self.parent(folder)?;
        let hidden_path = join(folder, hidden);
        match stat(&parent, hidden).map_err(|e| failed("looking at", &hidden_path, e))? {
            // A whiteout hides lower layers only: what this layer brings stays, but nothing from below shows
            // through a folder.
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.opaque.insert(hidden_path);
            }
            Some(_) => {}
            None => {
                fs::mknodat(&parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|e| failed("hiding", &hidden_path, e))?;
                self.whiteouts.insert(hidden_path);
            }
        }
        Ok(())
    }

    // --- metadata

    fn own(&self, fd: impl AsFd, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        if !self.owners {
            return Ok(());
        }
        fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|e| failed("setting the owner of", path, e))
    }

    /// Keeps `user.*` (but not overlay's) and `security.capability`. Everything else steers this machine's kernel,
    /// not the container, and is dropped; so is what the disk cannot hold.
    fn attributes(&mut self, fd: impl AsFd, path: &[u8], entry: &Entry) -> Result<(), Refusal> {
        for (name, value) in &entry.xattrs {
            let kept = name == b"security.capability"
                || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
            let set = if !kept || name.contains(&0) || name.len() > 255 {
                Err(Errno::NOTSUP)
            } else {
                fs::fsetxattr(&fd, &name[..], value, XattrFlags::empty())
            };
            match set {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::RANGE) => {
                    self.done.dropped_xattrs += 1;
                }
                Err(errno) => return Err(failed("setting an attribute of", path, errno)),
            }
        }
        Ok(())
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    // The archive's access time is not kept: nothing should depend on it.
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}
