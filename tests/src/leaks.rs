//! What may be left of containers: processes, mounts, control groups, loop devices. Finds what belongs to one folder,
//! and removes it where a test plays a machine that is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program::LOOK;

const GROUPS: &str = "/sys/fs/cgroup";

/// Everything of containers that is still there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Processes by number and command line.
    pub processes: Vec<(i32, String)>,
    /// Where something is mounted.
    pub mounts: Vec<PathBuf>,
    /// Control groups.
    pub groups: Vec<PathBuf>,
    /// Loop devices.
    pub loops: Vec<String>,
}

impl Left {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is left of the containers `names` and below `folder`. Programs that a test itself has under way there
    /// count as well.
    #[must_use]
    pub fn find(folder: &Path, names: &BTreeSet<String>) -> Self {
        let groups = groups(names);
        let mut processes = below(folder);
        for pid in groups.iter().flat_map(|group| members(group)) {
            if !processes.iter().any(|(known, _)| *known == pid) {
                processes.push((pid, command_line(pid)));
            }
        }
        Self { processes, mounts: mounts(folder), groups, loops: loops(folder) }
    }

    /// Ends and removes all of it.
    pub fn remove(&self) {
        for (pid, _) in &self.processes {
            // It may have gone meanwhile.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        for mount in self.mounts.iter().rev() {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
        for group in &self.groups {
            // The kernel needs a moment to take killed processes out.
            (0..20).find(|_| {
                let gone = fs::remove_dir(group).is_ok() || !group.exists();
                if !gone {
                    thread::sleep(LOOK);
                }
                gone
            });
        }
    }
}

/// The containers that an agent has made, by the folders in its data.
#[must_use]
pub fn containers(data: &Path) -> BTreeSet<String> {
    let tasks = fs::read_dir(data.join("containers/tasks"));
    let names = tasks.into_iter().flatten().filter_map(Result::ok);
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The processes of one container that runs, by its control group.
#[must_use]
pub fn processes(container: &str) -> BTreeSet<i32> {
    let names = BTreeSet::from([container.to_owned()]);
    groups(&names).iter().flat_map(|group| members(group)).collect()
}

fn below(folder: &Path) -> Vec<(i32, String)> {
    let folder = folder.to_string_lossy().into_owned();
    let own = i32::try_from(std::process::id()).unwrap();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all = pids.filter(|pid| *pid != own).map(|pid| (pid, command_line(pid)));
    all.filter(|(_, line)| line.contains(&folder)).collect()
}

fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn mounts(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    places.filter(|place| place.starts_with(folder)).collect()
}

fn groups(names: &BTreeSet<String>) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir(GROUPS).into_iter().flatten().filter_map(Result::ok);
    let mut roots: Vec<_> = hierarchies.map(|entry| entry.path().join("sosna")).collect();
    roots.push(Path::new(GROUPS).join("sosna"));
    let entries = roots.iter().flat_map(fs::read_dir).flatten().filter_map(Result::ok);
    // A container's name, and whose it is.
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
        name.is_some_and(|(container, _)| names.contains(container)) && path.is_dir()
    };
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(is_ours).collect();
    // Some hierarchies have two names, one of which is a link.
    found.dedup_by_key(|group| group.canonicalize().ok());
    found
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

fn loops(folder: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    let backed = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        Path::new(file.trim()).starts_with(folder).then(|| device.file_name().to_string_lossy().into_owned())
    });
    backed.collect()
}
