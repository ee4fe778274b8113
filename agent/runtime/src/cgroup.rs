//! What the shim and recovery need of a container's control groups beyond what libcontainer does: who is in them,
//! what they used, whether the kernel killed for memory, and to be rid of them. Limits are written by libcontainer.
//! Must never touch a group outside `/sosna/<id>.<owner>`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// The folder below each hierarchy's root that all our groups are in.
pub(crate) const PARENT: &str = "sosna";
const ROOT: &str = "/sys/fs/cgroup";

/// Which generation of control groups this machine manages resources with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CgroupKind {
    /// One hierarchy for each controller (also in hybrid mode).
    V1,
    /// One hierarchy for all.
    V2,
    /// None that we could use.
    None,
}

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Hierarchies {
    pub(crate) kind: CgroupKind,
    /// v1: (controllers, mount point) of each; v2: one with an empty name.
    roots: Vec<(String, PathBuf)>,
}

impl Hierarchies {
    /// Looks at what is mounted.
    pub(crate) fn detect() -> Self {
        if statfs(ROOT).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            return Self { kind: CgroupKind::V2, roots: vec![(String::new(), ROOT.into())] };
        }
        let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let roots: Vec<_> = info.lines().filter_map(v1_mount).collect();
        let kind = if roots.is_empty() { CgroupKind::None } else { CgroupKind::V1 };
        Self { kind, roots }
    }

    /// What is mounted, if it is ours to use.
    pub(crate) fn usable(kind: CgroupKind) -> Self {
        if kind == CgroupKind::None { Self { kind, roots: Vec::new() } } else { Self::detect() }
    }

    /// In this process's own mount namespace, takes away the v1 hierarchies that we set no limits in. libcontainer
    /// would make, join and remove a group in each, and on v1 every joining waits for all processors.
    pub(crate) fn hide_unused() {
        let used = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer"];
        let found = Self::detect();
        if found.kind != CgroupKind::V1 {
            return;
        }
        for (names, root) in found.roots {
            if !names.split(',').any(|n| used.contains(&n)) {
                // A hierarchy that stays costs time and nothing else.
                let _ = nix::mount::umount2(&root, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }

    /// Whether limits of this kind (`memory`, `pids`, `cpu`) can be set by us; if not, why.
    pub(crate) fn can_limit(&self, controller: &str) -> Result<(), String> {
        let (root, here) = match self.kind {
            CgroupKind::None => return Err("no cgroup hierarchy is mounted".into()),
            CgroupKind::V1 => match self.root_of(controller) {
                Some(root) => (root, true),
                None => return Err(format!("the cgroup controller '{controller}' is not mounted")),
            },
            CgroupKind::V2 => {
                let list = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
                (Path::new(ROOT), list.split_whitespace().any(|c| c == controller))
            }
        };
        if !here {
            return Err(format!("the cgroup controller '{controller}' is not enabled"));
        }
        let probe = root.join(PARENT).join(format!("probe-{}-{controller}", std::process::id()));
        fs::create_dir_all(&probe).map_err(|e| format!("no cgroup write access: {e}"))?;
        let _ = fs::remove_dir(&probe);
        Ok(())
    }

    fn root_of(&self, controller: &str) -> Option<&Path> {
        let of = |(names, _): &&(String, PathBuf)| names.split(',').any(|n| n == controller);
        self.roots.iter().find(of).map(|(_, root)| root.as_path())
    }

    /// The groups of one container.
    pub(crate) fn group(&self, id: &str) -> Group {
        let dirs = self.roots.iter().map(|(n, r)| (n.clone(), r.join(PARENT).join(id))).collect();
        Group { kind: self.kind, dirs }
    }

    /// Whether swap can be limited (v1 needs swap accounting in the kernel).
    pub(crate) fn limits_swap(&self) -> bool {
        match self.kind {
            CgroupKind::V2 => Path::new("/proc/swaps").exists(),
            CgroupKind::V1 => {
                self.root_of("memory").is_some_and(|r| r.join("memory.memsw.limit_in_bytes").exists())
            }
            CgroupKind::None => false,
        }
    }
}

/// A line of mountinfo, if it is a v1 hierarchy with controllers.
fn v1_mount(line: &str) -> Option<(String, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    if after.next()? != "cgroup" {
        return None;
    }
    let options = after.nth(1)?;
    if options.split(',').any(|o| o.starts_with("name=")) {
        return None;
    }
    let names: Vec<_> = options.split(',').filter(|o| !["rw", "ro", "xattr"].contains(o)).collect();
    Some((names.join(","), PathBuf::from(before.split(' ').nth(4)?)))
}

/// The control groups of one container, which may or may not exist.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    kind: CgroupKind,
    dirs: Vec<(String, PathBuf)>,
}

impl Group {
    fn dir(&self, controller: &str) -> Option<&Path> {
        let of =
            |(names, _): &&(String, PathBuf)| names.is_empty() || names.split(',').any(|n| n == controller);
        self.dirs.iter().find(of).map(|(_, dir)| dir.as_path())
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.dir(controller)?.join(file)).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.read(controller, file)?.trim().parse().ok()
    }

    /// Value of a line `key value`.
    fn keyed(&self, controller: &str, file: &str, key: &str) -> Option<u64> {
        let text = self.read(controller, file)?;
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }

    /// Whether any of it is there.
    pub(crate) fn exists(&self) -> bool {
        self.dirs.iter().any(|(_, d)| d.exists())
    }

    /// All processes in it, sub-groups included.
    pub(crate) fn pids(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for (_, dir) in &self.dirs {
            collect_pids(dir, &mut pids);
        }
        pids
    }

    /// How often the kernel killed in here for memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.kind == CgroupKind::V2 { "memory.events" } else { "memory.oom_control" };
        self.keyed("memory", file, "oom_kill").unwrap_or(0)
    }

    /// Processor time in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        match self.kind {
            CgroupKind::V2 => self.keyed("cpu", "cpu.stat", "usage_usec").unwrap_or(0).saturating_mul(1000),
            _ => self.number("cpuacct", "cpuacct.usage").unwrap_or(0),
        }
    }

    /// Most memory at one time, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let file = if self.kind == CgroupKind::V2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        self.number("memory", file).unwrap_or(0)
    }

    /// Stops or continues all that is in it.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let (file, content) = match (self.kind, frozen) {
            (CgroupKind::V2, true) => ("cgroup.freeze", "1"),
            (CgroupKind::V2, false) => ("cgroup.freeze", "0"),
            (_, true) => ("freezer.state", "FROZEN"),
            (_, false) => ("freezer.state", "THAWED"),
        };
        let dir = self.dir("freezer").ok_or_else(|| io::Error::other("there is no freezer cgroup"))?;
        fs::write(dir.join(file), content)
    }

    /// Kills all that is in it and waits until it is empty. Returns whether it is.
    pub(crate) fn kill_all(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        loop {
            let pids = self.pids();
            if pids.is_empty() {
                return true;
            }
            if self.kind == CgroupKind::V2 {
                for (_, dir) in &self.dirs {
                    let _ = fs::write(dir.join("cgroup.kill"), "1");
                }
            }
            for pid in pids {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            // A frozen process of v1 dies only when it thaws.
            let _ = self.freeze(false);
            if Instant::now() > until {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Removes the groups, which must be empty of processes. The kernel may need a moment after a kill.
    pub(crate) fn remove(&self, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        for (_, dir) in &self.dirs {
            let mut pause = Duration::from_micros(500);
            while let Err(e) = remove_tree(dir) {
                if Instant::now() > until {
                    return Err(e);
                }
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        // 0 is a process that this pid namespace does not show; it cannot be signalled by number.
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 0));
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_pids(&entry.path(), pids);
        }
    }
}

/// Removes a group and those below it (files in a cgroup folder go with it).
fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reads_mountinfo() {
        let line = "36 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct";
        assert_eq!(v1_mount(line), Some(("cpu,cpuacct".into(), "/sys/fs/cgroup/cpu,cpuacct".into())));
        let named = "36 32 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
        assert_eq!(v1_mount(named), None);
        assert_eq!(v1_mount("36 32 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"), None);
    }

    #[test]
    fn reads_both_generations() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("memory.events"), "low 0\noom 2\noom_kill 1\noom_group_kill 0\n").unwrap();
        fs::write(dir.path().join("cpu.stat"), "usage_usec 12\nuser_usec 3\n").unwrap();
        fs::write(dir.path().join("memory.peak"), "4096\n").unwrap();
        fs::write(dir.path().join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
            .unwrap();
        let mut group = Group { kind: CgroupKind::V2, dirs: vec![(String::new(), dir.path().into())] };
        assert_eq!((group.oom_kills(), group.cpu_ns(), group.peak_memory()), (1, 12_000, 4096));
        group.kind = CgroupKind::V1;
        assert_eq!(group.oom_kills(), 3);
    }
}
