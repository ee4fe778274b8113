//! A container that is ours but for the walls that were taken away. It is run by the OCI command line, which does as
//! its configuration says; the agent has no such switch.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sosna_runtime::seccomp;

/// What stands between a container and the host, and can be taken away for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wall {
    /// Ids of its own in a user namespace.
    Users,
    /// Few capabilities, and no way to new ones.
    Privileges,
    /// The filter of system calls.
    Seccomp,
    /// Processes, network, host name, shared memory and control groups of its own.
    Namespaces,
    /// A root that is read-only; what the kernel shows masked or read-only.
    Paths,
    /// Control groups: memory, processes, processor, devices.
    Groups,
}

impl Wall {
    pub(super) const ALL: [Self; 6] =
        [Self::Users, Self::Privileges, Self::Seccomp, Self::Namespaces, Self::Paths, Self::Groups];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Privileges => "privileges",
            Self::Seccomp => "seccomp",
            Self::Namespaces => "namespaces",
            Self::Paths => "paths",
            Self::Groups => "groups",
        }
    }
}

/// The group above all weakened containers: what none of them may pass, whatever it does.
pub(super) const OUTER: &str = "sosna-attacks";
const OUTER_MEMORY: u64 = 512 << 20;
const OUTER_PROCESSES: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run in one.
pub(super) struct Order {
    pub(super) id: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    /// Whether it is asked to end once it has written something.
    pub(super) ask: bool,
}

/// How a weakened container ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    /// Its root, as it left it.
    pub(super) root: PathBuf,
    /// Whether it was there a second after it was asked to end; only if it was asked.
    pub(super) deaf: bool,
}

/// Makes weakened containers from the configuration of one of ours.
pub(super) struct Workshop {
    pub(super) folder: PathBuf,
    /// Ours.
    pub(super) config: Value,
    /// The image.
    pub(super) image: PathBuf,
}

impl Workshop {
    /// Runs a program in a container of which only `left` stands.
    pub(super) fn run(&self, order: &Order, left: Option<Wall>) -> Ended {
        let Order { id, args, env, ask } = order;
        let bundle = self.folder.join(id);
        fs::create_dir_all(&bundle).unwrap();
        let root = bundle.join("root");
        let copied = Command::new("cp").arg("-al").arg(&self.image).arg(&root).status().unwrap();
        assert!(copied.success(), "the image cannot be linked");
        let mut config = self.config.clone();
        weaken(&mut config, left);
        config["root"]["path"] = json!(root);
        config["process"]["args"] = json!(args);
        config["process"]["env"] = json!([&env[..], &["PATH=/bin".to_owned()]].concat());
        config["linux"]["cgroupsPath"] = json!(format!("/{OUTER}/{id}"));
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        // What is not the image is the container's own, whoever that is.
        let mapped =
            config["linux"]["uidMappings"][0]["hostID"].as_u64().map(|id| u32::try_from(id).unwrap());
        for own in ["work", "tmp"] {
            let path = root.join(own);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            std::os::unix::fs::chown(&path, mapped, mapped).unwrap();
        }

        let (out, err) = (bundle.join("out"), bundle.join("err"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("as-oci")
            .arg("--root")
            .arg(self.folder.join("state"))
            // What is left of it at its end is not for the runtime to clear away.
            .args(["run", "--keep", "--bundle"])
            .arg(&bundle)
            .arg(id)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        let mut deaf = false;
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if *ask && asked.is_none() && fs::metadata(&out).unwrap().len() > 0 {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
                asked = Some(Instant::now());
            }
            deaf = asked.is_some_and(|at| at.elapsed() > Duration::from_secs(1));
            if deaf || begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |path: &Path| fs::read(path).unwrap();
        let stderr = String::from_utf8_lossy(&text(&err)).into_owned();
        Ended { code, stdout: text(&out), stderr, root, deaf }
    }
}

/// Takes away all walls but one.
fn weaken(config: &mut Value, left: Option<Wall>) {
    let stands = |wall| left == Some(wall);
    let linux = &mut config["linux"];
    if !stands(Wall::Users) {
        let linux = linux.as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    if stands(Wall::Seccomp) {
        linux["seccomp"] = serde_json::to_value(seccomp::default_profile(&[]).unwrap()).unwrap();
    }
    let kept = |kind: &Value| match kind["type"].as_str().unwrap() {
        "mount" => true,
        "user" => stands(Wall::Users),
        _ => stands(Wall::Namespaces),
    };
    linux["namespaces"].as_array_mut().unwrap().retain(kept);
    if !stands(Wall::Groups) {
        linux["resources"] = json!({ "devices": [{ "allow": true, "access": "rwm" }] });
    }
    let read_only = stands(Wall::Paths);
    if !read_only {
        (linux["maskedPaths"], linux["readonlyPaths"]) = (json!([]), json!([]));
    }
    if !stands(Wall::Namespaces) {
        config.as_object_mut().unwrap().remove("hostname");
    }
    config["root"]["readonly"] = json!(read_only);
    if !stands(Wall::Privileges) {
        config["process"]["noNewPrivileges"] = json!(false);
        let all = capabilities();
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            config["process"]["capabilities"][set] = json!(all);
        }
    }
    // Folders that the shim had made for this container, and what only the owner of a namespace may mount.
    let own = ["/proc", "/sys", "/dev/mqueue", "/tmp"];
    let kept =
        |mount: &Value| mount["type"] != "bind" && !own.iter().any(|path| mount["destination"] == *path);
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(kept);
    if stands(Wall::Namespaces) {
        mounts.insert(0, json!({ "destination": "/proc", "type": "proc", "source": "proc" }));
    } else {
        mounts.insert(
            0,
            json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }),
        );
    }
    let way = if read_only { "ro" } else { "rw" };
    mounts
        .push(json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", way] }));
    if read_only {
        mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }));
        mounts.push(json!({ "destination": "/work", "type": "tmpfs", "source": "tmpfs" }));
    }
}

/// All that this process has itself.
fn capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap();
    let mask = u64::from_str_radix(line.trim(), 16).unwrap();
    NAMES.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, name)| *name).collect()
}

/// By number: `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The outer group: made before, gone after, with all that is left in it.
pub(super) struct Outer;

impl Outer {
    pub(super) fn make() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").exists();
        if unified {
            fs::write(root.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
        }
        let (memory, pids) = (OUTER_MEMORY.to_string(), OUTER_PROCESSES.to_string());
        let limits: &[(&str, &str, &str)] = if unified {
            &[
                ("", "memory.max", &memory),
                ("", "pids.max", &pids),
                ("", "cgroup.subtree_control", "+memory +pids +cpu"),
            ]
        } else {
            &[("memory", "memory.limit_in_bytes", &memory), ("pids", "pids.max", &pids)]
        };
        for (hierarchy, file, value) in limits {
            let folder = root.join(hierarchy).join(OUTER);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(file);
            fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        Self
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            sweep();
        }
        for folder in outer() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Ends all that weakened containers left, and removes their groups.
pub(super) fn sweep() {
    let until = Instant::now() + Duration::from_secs(10);
    for group in outer().iter().flat_map(|folder| folders(folder)) {
        while fs::remove_dir(&group).is_err() {
            assert!(Instant::now() < until, "{} cannot be emptied", group.display());
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|l| l.parse().ok()) {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // The dead count until somebody has waited for them: whoever adopts orphans on this machine.
    let counts = || outer().into_iter().filter_map(|f| fs::read_to_string(f.join("pids.current")).ok());
    while counts().any(|count| count.trim() != "0") {
        assert!(Instant::now() < until, "orphans of weakened containers are not waited for");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    fs::read_dir(of).into_iter().flatten().flatten().map(|e| e.path()).filter(|path| path.is_dir()).collect()
}

/// The outer group, in every hierarchy that has it.
fn outer() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let mut roots = folders(&root);
    roots.push(root);
    roots.iter().map(|root| root.join(OUTER)).filter(|path| path.is_dir()).collect()
}
