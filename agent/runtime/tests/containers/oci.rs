//! The runc-compatible command line, driven as a container engine would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::Env;

pub(crate) const ALL: &[crate::Case] = &[
    ("oci_run", oci_run),
    ("oci_life", oci_life),
    ("oci_exec", oci_exec),
    ("oci_seccomp", oci_seccomp),
    ("oci_errors", oci_errors),
    ("oci_signals_of_run", oci_signals_of_run),
];

struct Oci {
    root: PathBuf,
    bundle: PathBuf,
}

impl Oci {
    /// A bundle as `oci spec` makes it, with our root file system and `script`.
    fn new(env: &Env, name: &str, script: &str) -> Self {
        let folder = env.folder.join(format!("oci-{name}"));
        let oci = Self { root: folder.join("root"), bundle: folder.join("bundle") };
        fs::create_dir_all(&oci.bundle).unwrap();
        oci.ok(&["spec", "--bundle", oci.bundle.to_str().unwrap()]);
        oci.change(|config| {
            config["root"] = json!({ "path": env.layers[0], "readonly": true });
            config["process"]["args"] = json!(["sh", "-c", script]);
            config["process"]["terminal"] = json!(false);
            config["linux"]["cgroupsPath"] = json!(format!("/sosna/t{}-oci-{name}", std::process::id()));
        });
        oci
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("as-oci").arg("--root").arg(&self.root).args(args);
        command
    }

    /// Runs a command whose container's streams go where files are: `create` leaves them open behind it.
    fn call(&self, args: &[&str]) -> Output {
        let (out, err) = (self.bundle.join("out"), self.bundle.join("err"));
        let file = |p: &Path| fs::File::create(p).unwrap();
        let status = self.command(args).stdout(file(&out)).stderr(file(&err)).status().unwrap();
        Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn create(&self, id: &str) {
        self.ok(&["create", "--bundle", self.bundle.to_str().unwrap(), id]);
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_str(&self.ok(&["state", id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn until(&self, id: &str, status: &str) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.status(id) != status {
            assert!(Instant::now() < until, "{id} is never {status}, but {}", self.status(id));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn oci_run(env: &Env) {
    let oci = Oci::new(env, "run", "echo hello; cat /sys/class/net/lo/flags; exit 3");
    let output = oci.call(&["run", "--bundle", oci.bundle.to_str().unwrap(), "c1"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello\n0x9\n");
    assert!(!oci.root.join("c1").exists(), "run deletes what it ran");
    // Short ones, many times: no end is missed.
    oci.change(|c| c["process"]["args"] = json!(["true"]));
    for n in 0..10 {
        oci.ok(&["run", "--bundle", oci.bundle.to_str().unwrap(), &format!("s{n}")]);
    }
}

fn oci_life(env: &Env) {
    let oci = Oci::new(env, "life", "trap 'exit 0' TERM; while :; do sleep 0.05; done");
    let pid_file = oci.bundle.join("pid");
    oci.ok(&[
        "create",
        "--bundle",
        oci.bundle.to_str().unwrap(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        "c",
    ]);
    assert_eq!(oci.status("c"), "created");
    let state: Value = serde_json::from_str(&oci.ok(&["state", "c"])).unwrap();
    assert_eq!(state["pid"].to_string(), fs::read_to_string(pid_file).unwrap());
    assert_eq!(state["bundle"], json!(oci.bundle));
    oci.ok(&["start", "c"]);
    assert_eq!(oci.status("c"), "running");
    assert!(!oci.call(&["start", "c"]).status.success(), "only once");
    assert!(!oci.call(&["delete", "c"]).status.success(), "not while it runs");
    oci.ok(&["pause", "c"]);
    assert_eq!(oci.status("c"), "paused");
    oci.ok(&["resume", "c"]);
    oci.ok(&["update", "--memory", "50000000", "--pids-limit", "77", "c"]);
    let group = format!("t{}-oci-life", std::process::id());
    let limits =
        ["/sys/fs/cgroup/pids/sosna", "/sys/fs/cgroup/sosna"].map(|d| format!("{d}/{group}/pids.max"));
    let limit = limits.iter().find_map(|p| fs::read_to_string(p).ok()).unwrap();
    assert_eq!(limit.trim(), "77");
    let listed: Value = serde_json::from_str(&oci.ok(&["list", "--format", "json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let pids: Vec<i64> = serde_json::from_str(&oci.ok(&["ps", "--format", "json", "c"])).unwrap();
    assert!(pids.contains(&state["pid"].as_i64().unwrap()), "{pids:?}");
    std::thread::sleep(Duration::from_millis(200));
    oci.ok(&["kill", "c", "TERM"]);
    oci.until("c", "stopped");
    oci.ok(&["delete", "c"]);
    assert!(!oci.call(&["state", "c"]).status.success());
    oci.ok(&["delete", "--force", "c"]);
}

fn oci_exec(env: &Env) {
    let oci = Oci::new(env, "exec", "sleep 1000");
    oci.create("c");
    oci.ok(&["start", "c"]);
    let output = oci.call(&[
        "exec",
        "--env",
        "A=b",
        "c",
        "sh",
        "-c",
        "echo $A; grep Seccomp: /proc/self/status; exit 6",
    ]);
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "b\nSeccomp:\t2\n");
    oci.ok(&["kill", "c", "KILL"]);
    oci.until("c", "stopped");
    oci.ok(&["delete", "c"]);
}

fn oci_seccomp(env: &Env) {
    let oci = Oci::new(env, "seccomp", "mkdir /dev/shm/x; echo $?; chmod 700 /dev/shm; echo $?");
    let rule = |name: &str, action: &str, errno: Value| json!({ "names": [name], "action": action, "errnoRet": errno });
    oci.change(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [rule("mkdir", "SCMP_ACT_ERRNO", json!(28)), rule("fchmodat", "SCMP_ACT_KILL_PROCESS", Value::Null),
                rule("fchmodat2", "SCMP_ACT_KILL_PROCESS", Value::Null)]
        });
    });
    let output = oci.call(&["run", "--bundle", oci.bundle.to_str().unwrap(), "c"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // The errno that the profile chose, and SIGSYS.
    assert!(out.starts_with("1\n") && out.contains("159"), "{out}{err}");
    assert!(err.contains("No space left"), "{err}");
    for (change, text) in [
        (json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "SCMP_ACT_NOTIFY"),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("nonsense", "SCMP_ACT_KILL", Value::Null)] }),
            "nonsense",
        ),
    ] {
        oci.change(|c| c["linux"]["seccomp"] = change);
        let output = oci.call(&["run", "--bundle", oci.bundle.to_str().unwrap(), "c"]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && err.contains(text) && err.contains("seccomp"), "{err}");
    }
}

fn oci_errors(env: &Env) {
    let oci = Oci::new(env, "errors", "true");
    let bundle = oci.bundle.to_str().unwrap().to_owned();
    let log = oci.bundle.join("log");
    let log_args = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    oci.change(|c| c["process"]["args"] = json!(["no-such-program"]));
    let output = oci.call(&[&log_args[..], &["run", "--bundle", &bundle, "c"]].concat());
    assert_eq!(output.status.code(), Some(127));
    let line: Value =
        serde_json::from_str(fs::read_to_string(&log).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("command not found: 'no-such-program'"), "{line}");
    assert!(!oci.root.join("c").exists());
    for path in ["", "/", "/a/../.."] {
        oci.change(|c| c["linux"]["cgroupsPath"] = json!(path));
        let output = oci.call(&["run", "--bundle", &bundle, "c"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("cgroupsPath"), "{path}");
    }
    for args in [
        &["state", "none"][..],
        &["kill", "none", "9"],
        &["delete", "none"],
        &["start", "../x"],
        &["checkpoint", "c"],
    ] {
        assert!(!oci.call(args).status.success(), "{args:?}");
    }
    let features: Value = serde_json::from_str(&oci.ok(&["features"])).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

fn oci_signals_of_run(env: &Env) {
    let oci = Oci::new(env, "signals", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    let out = oci.bundle.join("run-out");
    let mut run = oci
        .command(&["run", "--bundle", oci.bundle.to_str().unwrap(), "c"])
        .stdout(fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !fs::read_to_string(&out).unwrap().contains("ready") {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(9));
}
