//! Which limits and walls hold on this machine, found by trying each, and why the others do not.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupKind, Hierarchies};

/// How a container's ids relate to the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserMapping {
    /// A range of its own for each container; layers appear with the right owners by idmapped mounts.
    Range,
    /// Only the agent's own user, as root of the container (rootless).
    Single,
    /// None: root in the container is root on the host, less its capabilities.
    None,
}

/// How what a container writes is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskMethod {
    /// An ext4 image of the right size behind a loop device.
    LoopExt4,
    /// A tmpfs of the right size; what is written there is memory.
    Tmpfs,
}

/// A limit or wall that does not hold here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which one, in words: "memory limit", "user namespace".
    pub what: String,
    /// Why, for a person.
    pub reason: String,
}

/// What holds on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Whether the agent is an ordinary user.
    pub rootless: bool,
    /// Where limits are set.
    pub cgroups: CgroupKind,
    /// How ids are mapped.
    pub users: UserMapping,
    /// How disk use is bounded (small allowances are always a tmpfs).
    pub disk: DiskMethod,
    /// Whether swap is counted with memory.
    pub swap: bool,
    /// What does not hold, and why.
    pub missing: Vec<Missing>,
}

impl Enforcement {
    /// Whether a limit holds, by its controller's name (`memory`, `pids`, `cpu`).
    pub(crate) fn holds(&self, controller: &str) -> bool {
        let what = format!("{controller} limit");
        !self.missing.iter().any(|m| m.what == what)
    }

    /// The walls that hold here, in words, for people.
    #[must_use]
    pub fn walls(&self) -> Vec<&'static str> {
        let groups = match self.cgroups {
            CgroupKind::V1 => Some("cgroup v1"),
            CgroupKind::V2 => Some("cgroup v2"),
            CgroupKind::None => None,
        };
        let users = match self.users {
            UserMapping::Range => Some("user namespaces with ids of their own"),
            UserMapping::Single => Some("user namespaces"),
            UserMapping::None => None,
        };
        let seccomp = (!self.missing.iter().any(|m| m.what == "seccomp")).then_some("seccomp");
        let disk = (self.disk == DiskMethod::LoopExt4).then_some("disks of their own");
        [groups, users, seccomp, disk].into_iter().flatten().collect()
    }

    /// Tries everything. Only in a process of its own with one thread, in namespaces of its own (or told why there
    /// are none): it forks and mounts.
    pub(crate) fn probe(scratch: &Path, rootless: bool, namespaces: crate::Result<()>) -> Self {
        let mut missing = Vec::new();
        let mut lacks = |what: &str, reason: String| missing.push(Missing { what: what.into(), reason });
        if let Err(e) = namespaces {
            lacks(
                "containers",
                format!("the kernel refuses the namespaces they need: {}", crate::error::chain(&e)),
            );
        }
        let hierarchies = Hierarchies::detect();
        let mut usable = false;
        for controller in ["memory", "pids", "cpu"] {
            let answer = if rootless {
                Err("no cgroup write access: the agent is not root, and delegated cgroups are not used"
                    .into())
            } else {
                hierarchies.can_limit(controller)
            };
            match answer {
                Ok(()) => usable = true,
                Err(reason) => lacks(&format!("{controller} limit"), reason),
            }
        }
        let users = if rootless {
            lacks(
                "user id range",
                "an ordinary user can map only itself: all in a container runs as this user".into(),
            );
            UserMapping::Single
        } else {
            match crate::stage::try_idmap(scratch) {
                Ok(()) => UserMapping::Range,
                Err(e) => {
                    lacks("user namespace", format!("idmapped mounts do not work here: {e}"));
                    UserMapping::None
                }
            }
        };
        let disk = match crate::scratch::try_loop(scratch) {
            Ok(()) if !rootless => DiskMethod::LoopExt4,
            Ok(()) => DiskMethod::Tmpfs,
            Err(e) => {
                let reason = format!("no ext4 loop mounts ({e}): what containers write is kept in memory");
                lacks("disk space other than memory", reason);
                DiskMethod::Tmpfs
            }
        };
        if let Err(e) = crate::seccomp::default_profile(&[]) {
            lacks("seccomp", crate::error::chain(&e));
        }
        let kind = if usable { hierarchies.kind } else { CgroupKind::None };
        let swap = usable && hierarchies.limits_swap();
        if usable && !swap {
            lacks("swap limit", "the kernel does not account swap (boot with swapaccount=1)".into());
        }
        Self { rootless, cgroups: kind, users, disk, swap, missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_walls_that_stand_are_named() {
        let mut found = Enforcement {
            rootless: false,
            cgroups: CgroupKind::V2,
            users: UserMapping::Range,
            disk: DiskMethod::LoopExt4,
            swap: true,
            missing: Vec::new(),
        };
        let all = ["cgroup v2", "user namespaces with ids of their own", "seccomp", "disks of their own"];
        assert_eq!(found.walls(), all);
        found.missing.push(Missing { what: "seccomp".into(), reason: "the kernel has none".into() });
        (found.cgroups, found.users) = (CgroupKind::None, UserMapping::None);
        assert_eq!(found.walls(), ["disks of their own"]);
    }
}
