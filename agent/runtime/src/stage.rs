//! The stage that a container plays on: a private tmpfs in the shim's own mount namespace with the layers (mapped
//! to the container's ids), the inputs, the scratch and their overlay. Nothing of it has a place in the host's
//! mount table, and the kernel clears it away with the shim.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use pathrs::Root;

use crate::{
    enforcement::DiskMethod,
    error::{At, Result, RuntimeError},
    scratch::Scratch,
    settings::Sources,
    source,
    spec::ContainerSpec,
    sys,
};

/// Folders that a stage may cover in the shim's mount namespace: every machine has one, all may pass through them
/// (a container's root is nobody on the host), and the shim needs none.
const COVERED: [&str; 6] = ["/srv", "/media", "/mnt", "/opt", "/home", "/tmp"];

/// Where everything is, once it is mounted.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The private tmpfs.
    pub(crate) base: PathBuf,
    /// The container's root file system.
    pub(crate) merged: PathBuf,
    /// For each input, where it is now.
    pub(crate) inputs: Vec<PathBuf>,
    /// What bounds the container's writing.
    pub(crate) scratch: Scratch,
}

/// What to mount and how.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a ContainerSpec,
    /// First host id and number of ids, where the container has a range.
    pub(crate) range: Option<(u32, u32)>,
    /// Whether this is a user namespace of an ordinary user.
    pub(crate) rootless: bool,
    pub(crate) disk: DiskMethod,
    /// Where the scratch's image lies.
    pub(crate) scratch: &'a Path,
    /// Where layers and inputs must come from.
    pub(crate) sources: Option<&'a Sources>,
    /// Host folders that must stay visible.
    pub(crate) keep: &'a [&'a Path],
}

/// A mount namespace of our own, from which nothing goes back to the host.
pub(crate) fn own_mounts(also: CloneFlags) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | also).at("make a namespace for the mounts of", "the container")?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).at("make private the mounts below", "/")
}

/// The namespaces in which an ordinary user may mount: users (itself as root), mounts, and a network, so that
/// another one can be entered and left again.
pub(crate) fn own_users() -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    own_mounts(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, content) in maps {
        let path = Path::new("/proc/self").join(file);
        fs::write(&path, content).at("map this user in", path)?;
    }
    Ok(())
}

impl Stage {
    /// Mounts it all. The mount namespace must be our own already.
    pub(crate) fn build(plan: &Plan<'_>) -> Result<Self> {
        let spec = plan.spec;
        let mapped = |from: u32, to: u32, count: u32| {
            sys::mapping_namespace(from, to, count).at("map user ids for", spec.id.as_str())
        };
        let user_ns = plan.range.map(|(first, count)| mapped(0, first, count)).transpose()?;
        // All of the host that is wanted is held before anything is covered.
        let bind = |tree: OwnedFd, ns: Option<&OwnedFd>, path: &Path| -> Result<OwnedFd> {
            // In a user namespace of an ordinary user the flags of the mount it was copied from are locked.
            let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            sys::set_mount_attributes(&tree, attributes, ns).at("map the owners of", path)?;
            Ok(tree)
        };
        let layers = spec.layers.iter();
        let layers = layers.map(|path| bind(source::layer(path, plan.sources)?, user_ns.as_ref(), path));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let mut inputs = Vec::new();
        let mut inputs_ns: Option<(u32, OwnedFd)> = None;
        for input in &spec.inputs {
            let (tree, owner) = source::input(&input.source, plan.sources)?;
            let ns = match (plan.range, owner.filter(|owner| *owner != 0)) {
                // Whoever keeps inputs on the host, in the container they are root's.
                (Some((first, _)), Some(owner)) => match &inputs_ns {
                    Some((of, ns)) if *of == owner => Some(ns),
                    _ => Some(&inputs_ns.insert((owner, mapped(owner, first, 1)?)).1),
                },
                _ => user_ns.as_ref(),
            };
            inputs.push(bind(tree, ns, &input.source)?);
        }

        let base = cover(plan.keep)?;
        let first = plan.range.map_or(0, |(first, _)| first);
        for (n, tree) in layers.iter().enumerate() {
            place(tree, &base.join(format!("l{n}")), true)?;
        }
        let mut input_paths = Vec::new();
        for (n, (tree, input)) in inputs.iter().zip(&spec.inputs).enumerate() {
            let path = base.join(format!("i{n}"));
            let is_dir = fs::metadata(sys::fd_path(tree.as_fd())).at("look at", &input.source)?.is_dir();
            place(tree, &path, is_dir)?;
            input_paths.push(path);
        }
        let scratch_path = base.join("s");
        make_dir(&scratch_path, 0o755)?;
        let l = &spec.limits;
        let scratch = Scratch::mount(&scratch_path, l.disk_bytes, l.disk_inodes, plan.disk, plan.scratch)
            .at("make a disk of the right size for", spec.id.as_str())?;
        let merged = overlay(&base, layers.len(), first, plan.rootless)?;
        Ok(Self { base, merged, inputs: input_paths, scratch })
    }

    /// Makes the stage the root of this process, with nothing else of the host but `/proc`, `/dev` and `keep`.
    ///
    /// For an ordinary user on cgroup v1: libcontainer must not see the hierarchies, which it could not write to
    /// and would fail on.
    pub(crate) fn become_root(self, keep: &[&Path]) -> Result<Self> {
        for folder in [Path::new("/proc"), Path::new("/dev")].iter().chain(keep) {
            let to = self.base.join(folder.strip_prefix("/").unwrap_or(folder));
            fs::create_dir_all(&to).at("create", &to)?;
            mount(Some(*folder), &to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .at("mount again", *folder)?;
        }
        for folder in ["sys/fs/cgroup", "old"] {
            let path = self.base.join(folder);
            fs::create_dir_all(&path).at("create", path)?;
        }
        nix::unistd::pivot_root(&self.base, &self.base.join("old")).at("make a root of", &self.base)?;
        std::env::set_current_dir("/").at("enter", "/")?;
        nix::mount::umount2("/old", nix::mount::MntFlags::MNT_DETACH).at("let go of", "the host's root")?;
        let moved = |path: &Path| Path::new("/").join(path.strip_prefix(&self.base).unwrap_or(path));
        Ok(Self {
            base: "/".into(),
            merged: moved(&self.merged),
            inputs: self.inputs.iter().map(|p| moved(p)).collect(),
            scratch: self.scratch.moved(moved),
        })
    }

    /// Makes a path of the container writable below a read-only root: resolves it within the root, makes what is
    /// missing as the container's user, and returns where it really is. Links in the image lead nowhere else.
    pub(crate) fn writable(&self, path: &str, owner: (u32, u32), root_id: u32) -> Result<PathBuf> {
        let bad = |e: pathrs::error::Error| RuntimeError::Io {
            action: "make in the container",
            path: path.into(),
            source: io::Error::other(e),
        };
        let root = Root::open(&self.merged).map_err(bad)?;
        let mut walked = PathBuf::from("/");
        for part in path.split('/').filter(|p| !p.is_empty()) {
            walked.push(part);
            if root.resolve(&walked).is_ok() {
                continue;
            }
            let handle = root.mkdir_all(&walked, &fs::Permissions::from_mode(0o755)).map_err(bad)?;
            let made = sys::fd_path(handle.as_fd());
            let (uid, gid) =
                if walked == Path::new(path.trim_end_matches('/')) { owner } else { (root_id, root_id) };
            chown(&made, Some(uid), Some(gid)).at("give to the container's user", path)?;
        }
        let handle = root.resolve(&walked).map_err(bad)?;
        let real = fs::read_link(sys::fd_path(handle.as_fd())).at("find", path)?;
        if real.starts_with(&self.merged) && fs::metadata(&real).at("look at", path)?.is_dir() {
            Ok(real)
        } else {
            Err(RuntimeError::BadSpec {
                field: "outputs",
                problem: format!("'{path}' is not a folder in the image"),
            })
        }
    }

    /// What keeps the folders of a path in the container's root from being made: the first of them that is something else,
    /// and what it is. Nothing is followed, and nothing above the root is looked at.
    pub(crate) fn in_the_way(&self, path: &str) -> Option<(String, &'static str)> {
        let (mut walked, mut shown) = (self.merged.clone(), String::new());
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if matches!(part, "." | "..") {
                return None;
            }
            walked.push(part);
            shown = format!("{shown}/{part}");
            let kind = fs::symlink_metadata(&walked).ok()?.file_type();
            match (kind.is_dir(), kind.is_symlink()) {
                (true, _) => {}
                (false, true) => return Some((shown, "a link")),
                (false, false) => return Some((shown, "a file")),
            }
        }
        None
    }

    /// Whether a path is a folder in the container's root.
    pub(crate) fn is_dir(&self, path: &str) -> bool {
        self.found(path).is_some_and(|found| found.is_dir())
    }

    /// What a path in the container's root leads to, where it leads to anything.
    pub(crate) fn found(&self, path: &str) -> Option<fs::Metadata> {
        let found = Root::open(&self.merged).and_then(|r| r.resolve(path)).ok()?;
        fs::metadata(sys::fd_path(found.as_fd())).ok()
    }
}

/// Mounts the private tmpfs over a folder that nobody will miss.
fn cover(keep: &[&Path]) -> Result<PathBuf> {
    let fits = |folder: &&str| {
        let path = Path::new(folder);
        let passable = fs::metadata(path).is_ok_and(|m| m.is_dir() && m.mode() & 0o1 != 0);
        passable
            && !fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink())
            && !keep.iter().any(|k| k.starts_with(path))
    };
    let base = COVERED.iter().find(|folder| fits(folder)).ok_or_else(|| RuntimeError::Io {
        action: "find a folder to mount on among",
        path: COVERED.join(" ").into(),
        source: io::ErrorKind::NotFound.into(),
    })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), *base, Some("tmpfs"), flags, Some("mode=0711,size=4m"))
        .at("mount a tmpfs on", *base)?;
    Ok(PathBuf::from(base))
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir(path).at("create", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("set the permissions of", path)
}

fn place(tree: &OwnedFd, path: &Path, is_dir: bool) -> Result<()> {
    if is_dir {
        make_dir(path, 0o755)?;
    } else {
        fs::write(path, "").at("create", path)?;
    }
    sys::attach_tree(tree, path).at("mount at", path)
}

/// Lays the scratch over the layers. Names are relative and short: the kernel takes one page of options.
fn overlay(base: &Path, layers: usize, root_id: u32, rootless: bool) -> Result<PathBuf> {
    let upper = base.join("s/u");
    make_dir(&upper, 0o755)?;
    make_dir(&base.join("s/w"), 0o700)?;
    let top = base.join(format!("l{}", layers - 1));
    let mode = fs::metadata(&top).at("look at", &top)?.permissions();
    fs::set_permissions(&upper, mode).at("set the permissions of", &upper)?;
    chown(&upper, Some(root_id), Some(root_id)).at("set the owner of", &upper)?;
    let merged = base.join("m");
    make_dir(&merged, 0o755)?;

    let lower: Vec<_> = (0..layers).rev().map(|n| format!("l{n}")).collect();
    let mut options = format!("lowerdir={},upperdir=s/u,workdir=s/w", lower.join(":"));
    options.push_str(if rootless { ",userxattr" } else { ",volatile" });
    let before = std::env::current_dir().at("find", "the working folder")?;
    std::env::set_current_dir(base).at("enter", base)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mounted = mount(Some("overlay"), "m", Some("overlay"), flags, Some(options.as_str()));
    std::env::set_current_dir(before).at("enter", "the working folder")?;
    mounted.at("lay the layers over each other at", &merged)?;
    Ok(merged)
}

/// Tries the whole way of an overlay over an idmapped layer once, with a folder of the host's file system.
pub(crate) fn try_idmap(folder: &Path) -> io::Result<()> {
    let name = |part: &str| folder.join(format!(".{part}-{}", std::process::id()));
    let (layer, at) = (name("layer"), name("stage"));
    let result = (|| {
        fs::create_dir_all(&layer)?;
        fs::write(layer.join("file"), "")?;
        fs::create_dir_all(&at)?;
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
        let ns = sys::mapping_namespace(0, 1_000_000, 1000)?;
        let tree = sys::clone_tree(&layer)?;
        sys::set_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY, Some(&ns))?;
        fs::create_dir(at.join("l0"))?;
        fs::create_dir(at.join("s"))?;
        sys::attach_tree(&tree, &at.join("l0"))?;
        let merged = overlay(&at, 1, 1_000_000, false).map_err(io::Error::other)?;
        if fs::metadata(merged.join("file"))?.uid() == 1_000_000 {
            Ok(())
        } else {
            Err(io::Error::other("owners are not mapped through an overlay"))
        }
    })();
    let _ = nix::mount::umount2(&at.join("m"), nix::mount::MntFlags::MNT_DETACH);
    let _ = nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH);
    let _ = fs::remove_dir(&at);
    let _ = fs::remove_dir_all(&layer);
    result
}
