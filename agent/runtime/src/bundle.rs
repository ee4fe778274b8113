//! The OCI configuration of a container: walls, limits, mounts. Pure: what it needs to know is passed in.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{cgroup, enforcement::Enforcement, spec::ContainerSpec};

/// What root in a container keeps of Docker's default set. Without: MKNOD (the kernel refuses device nodes in a
/// user namespace anyway), NET_RAW (there is no network to forge on), AUDIT_WRITE, SETFCAP, SETPCAP, SYS_CHROOT
/// (nothing that runs to completion needs them, and each has been part of an escape).
pub(crate) const CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
];

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/cgroup",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything but the specification that goes into the configuration.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) merged: &'a Path,
    pub(crate) inputs: &'a [PathBuf],
    /// (path in the container, where it is) of what stays writable below a read-only root.
    pub(crate) writable: &'a [(String, PathBuf)],
    pub(crate) range: Option<(u32, u32)>,
    pub(crate) enforcement: &'a Enforcement,
    /// The name of its control groups.
    pub(crate) group: &'a str,
    pub(crate) open_files: u64,
}

/// The `config.json`, without a seccomp section: the executor installs the filters itself.
pub(crate) fn config(spec: &ContainerSpec, place: &Place<'_>) -> Value {
    let e = place.enforcement;
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "network"];
    if Path::new("/proc/self/ns/cgroup").exists() && !e.rootless {
        namespaces.push("cgroup");
    }
    let mapping = match place.range {
        Some((first, count)) => Some(json!([{ "containerID": 0, "hostID": first, "size": count }])),
        None if e.rootless => Some(json!([{ "containerID": 0, "hostID": 0, "size": 1 }])),
        None => None,
    };
    if mapping.is_some() {
        namespaces.push("user");
    }
    let kept: &[&str] = if spec.user.uid == 0 { &CAPABILITIES } else { &[] };
    // A rootless container has one user: whoever the program should be, it is that one.
    let (uid, gid) = if e.rootless { (0, 0) } else { (spec.user.uid, spec.user.gid) };
    let mut user = json!({ "uid": uid, "gid": gid, "umask": 0o022 });
    if !spec.user.additional.is_empty() && !e.rootless {
        user["additionalGids"] = json!(spec.user.additional);
    }
    let mut linux = json!({
        "namespaces": namespaces.iter().map(|n| json!({ "type": n })).collect::<Vec<_>>(),
        "cgroupsPath": format!("/{}/{}", cgroup::PARENT, place.group),
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "rootfsPropagation": "private",
    });
    if let Some(mapping) = mapping {
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
    }
    if !e.rootless {
        linux["resources"] = resources(spec, e);
    }
    let mut env = spec.env.clone();
    if !env.iter().any(|v| v.starts_with("PATH=")) {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    // libcontainer would ask the C library who the user is, and glibc loads libraries for that which the image names: before
    // the filters stand, and beside the shim's descriptors. The last one counts.
    let home = env.iter().rev().find_map(|v| v.strip_prefix("HOME="));
    if home.is_none_or(str::is_empty) {
        env.push("HOME=/".into());
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": spec.effective_hostname(),
        "root": { "path": place.merged, "readonly": spec.read_only_root },
        "process": {
            "terminal": false,
            "user": user,
            "args": spec.args,
            "env": env,
            "cwd": spec.cwd,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": kept, "permitted": kept, "inheritable": [], "ambient": []
            },
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": place.open_files.min(1024), "hard": place.open_files },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
            ]
        },
        "mounts": mounts(spec, place),
        "linux": linux,
    })
}

fn resources(spec: &ContainerSpec, e: &Enforcement) -> Value {
    let l = &spec.limits;
    // Deny all; libcontainer adds the usual harmless devices.
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if e.holds("memory") {
        resources["memory"] = json!({ "limit": l.memory_bytes });
        if e.swap {
            resources["memory"]["swap"] = json!(l.memory_bytes);
        }
    }
    if e.holds("pids") {
        resources["pids"] = json!({ "limit": l.pids });
    }
    if e.holds("cpu") {
        // 100 ms periods: the kernel's default and the longest that does not make programs stutter visibly.
        resources["cpu"] = json!({ "period": 100_000, "quota": u64::from(l.cpu_millis) * 100 });
    }
    resources
}

fn mounts(spec: &ContainerSpec, place: &Place<'_>) -> Vec<Value> {
    let l = &spec.limits;
    let tmpfs = |path: &str, bytes: u64, mode: &str| {
        let inodes = l.disk_inodes.saturating_add(16);
        json!({ "destination": path, "type": "tmpfs", "source": "tmpfs", "options":
            ["nosuid", "nodev", format!("mode={mode}"), format!("size={bytes}"), format!("nr_inodes={inodes}")] })
    };
    let rootless = place.enforcement.rootless;
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        devpts.push("gid=5");
    }
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=64k", "nr_inodes=128"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts }),
        // Half of the memory, as Linux does by default for the whole machine: it counts as the container's memory.
        tmpfs("/dev/shm", (l.memory_bytes / 2).min(64 << 20), "1777"),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] }),
    ];
    if !rootless {
        mounts.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }));
    }
    // An output that is to appear in /tmp needs it to be the container's disk.
    if spec.read_only_root && !place.writable.iter().any(|(path, _)| path == "/tmp") {
        mounts.push(tmpfs("/tmp", (l.memory_bytes / 2).min(l.disk_bytes), "1777"));
    }
    for (path, real) in place.writable {
        mounts.push(json!({ "destination": path, "type": "bind", "source": real,
            "options": ["bind", "rw", "nosuid", "nodev"] }));
    }
    for (input, path) in spec.inputs.iter().zip(place.inputs) {
        mounts.push(json!({ "destination": input.destination, "type": "bind", "source": path,
            "options": ["bind", "ro", "nosuid", "nodev"] }));
    }
    mounts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use oci_spec::runtime::Spec;

    use super::*;
    use crate::{
        cgroup::CgroupKind,
        enforcement::{DiskMethod, Missing, UserMapping},
        spec::tests::sample,
    };

    fn enforcement() -> Enforcement {
        Enforcement {
            rootless: false,
            cgroups: CgroupKind::V1,
            users: UserMapping::Range,
            disk: DiskMethod::Tmpfs,
            swap: false,
            missing: vec![],
        }
    }

    fn parsed(spec: &ContainerSpec, e: &Enforcement, range: Option<(u32, u32)>) -> Spec {
        let place = Place {
            merged: Path::new("/m"),
            inputs: &[],
            writable: &[("/out".into(), "/m/out".into())],
            range,
            enforcement: e,
            group: "a-1.10-2f",
            open_files: 4096,
        };
        serde_json::from_value(config(spec, &place)).unwrap()
    }

    #[test]
    fn is_what_the_oci_types_understand() {
        let spec = parsed(&sample(), &enforcement(), Some((100_000, 65_536)));
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.cgroups_path().as_ref().unwrap(), Path::new("/sosna/a-1.10-2f"));
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 100_000);
        let resources = linux.resources().as_ref().unwrap();
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(64 << 20));
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(100_000));
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        assert!(process.env().as_ref().unwrap().iter().any(|e| e.starts_with("PATH=")));
        assert_eq!(process.env().as_ref().unwrap().last().unwrap(), "HOME=/");
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
        assert!(linux.seccomp().is_none());
    }

    #[test]
    fn ordinary_users_have_no_capabilities() {
        let mut spec = sample();
        spec.user.uid = 1000;
        let parsed = parsed(&spec, &enforcement(), None);
        let caps = parsed.process().as_ref().unwrap().capabilities().as_ref().unwrap();
        assert!(caps.effective().as_ref().unwrap().is_empty());
        assert!(caps.permitted().as_ref().unwrap().is_empty());
        assert!(caps.ambient().as_ref().unwrap().is_empty());
    }

    #[test]
    fn a_limit_that_cannot_hold_is_left_out() {
        let mut e = enforcement();
        e.missing.push(Missing { what: "memory limit".into(), reason: "test".into() });
        let parsed = parsed(&sample(), &e, None);
        let resources = parsed.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert!(resources.memory().is_none());
        assert!(resources.pids().is_some());
    }
}
