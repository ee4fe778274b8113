//! Times a container from start to exit: our `oci run`, other runtimes on the same bundle, and the agent's whole
//! path (overlay, disk limit, durable exit record), interleaved in one run.
//!
//! `bench-containers --rootfs DIR [--runs 60] [--peer NAME=PROGRAM [--libraries DIRS]]…`, as root; DIR holds `/bin/true`
//! and `/bin/cat`, for instance a static busybox; DIRS is the `LD_LIBRARY_PATH` of the peer before it. Prints a line of
//! JSON for each figure. `cargo xtask bench containers` runs it with crun and runc.

#![allow(clippy::unwrap_used, reason = "a bench stops at what it did not expect")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::{Value, json};
use sosna_runtime::{
    ContainerId, ContainerSpec, EndCause, Limits, Network, Runtime, RuntimeConfig, UserSpec, oci, shim,
};

fn main() -> ExitCode {
    shim::run_if_requested();
    let args: Vec<_> = env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "oci") {
        return oci::main(env::args_os().skip(2));
    }
    let Some(Asked { rootfs, runs, peers }) = Asked::read(&args) else {
        eprintln!(
            "usage: bench-containers --rootfs DIR [--runs 60] [--peer NAME=PROGRAM [--libraries DIRS]]..."
        );
        return ExitCode::from(2);
    };
    hide_unified_hierarchy();

    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path(), &rootfs);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = RuntimeConfig::new(folder.path().join("data"), folder.path().join("state"));
    let runtime = Runtime::open(config).unwrap();
    let agent = |n: usize, args: &[&str]| {
        let spec = spec(n, &rootfs, args);
        let begun = Instant::now();
        let record = tokio.block_on(async {
            runtime.start(&spec).await.unwrap();
            runtime.wait(&spec.id).await.unwrap()
        });
        let took = begun.elapsed();
        assert_eq!(record.cause, EndCause::Exited { code: 0 });
        let out = fs::read_to_string(runtime.task_dir(&spec.id).join("stdout")).unwrap();
        tokio.block_on(runtime.remove(&spec.id)).unwrap();
        (took, out)
    };
    let own = env::current_exe().unwrap();
    let mut runtimes =
        vec![Contestant { name: "oci run".into(), program: own, first: vec!["oci"], libraries: None }];
    runtimes.extend(peers);

    // Every contestant must have its filters in force, or the comparison means nothing.
    set_args(&bundle, &["/bin/cat", "/proc/self/status"]);
    for one in &runtimes {
        let (_, out) = run(one, folder.path(), &bundle, usize::MAX);
        assert!(out.contains("Seccomp:\t2"), "{} runs without seccomp: {out}", one.name);
    }
    assert!(agent(usize::MAX, &["/bin/cat", "/proc/self/status"]).1.contains("Seccomp:\t2"));

    set_args(&bundle, &["/bin/true"]);
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for n in 0..runs {
        for one in &runtimes {
            times.entry(one.name.clone()).or_default().push(run(one, folder.path(), &bundle, n).0);
        }
        times.entry("agent's path".into()).or_default().push(agent(n, &["/bin/true"]).0);
    }
    times.values_mut().for_each(|times| times.sort());
    let at = |who: &str, share: usize| milliseconds(times[who][(runs - 1) * share / 100]);
    for ours in ["oci run", "agent's path"] {
        for (metric, share) in [("min", 0), ("p50", 50), ("p90", 90)] {
            for peer in runtimes.iter().skip(1) {
                let line = json!({
                    "bench": "containers", "metric": format!("{ours} {metric}"), "value": at(ours, share),
                    "unit": "ms", "peer": peer.name, "peer_value": at(&peer.name, share),
                });
                println!("{line}");
            }
        }
    }
    ExitCode::SUCCESS
}

/// A runtime to be timed.
struct Contestant {
    name: String,
    program: PathBuf,
    first: Vec<&'static str>,
    libraries: Option<String>,
}

/// The command line.
struct Asked {
    rootfs: PathBuf,
    runs: usize,
    peers: Vec<Contestant>,
}

impl Asked {
    fn read(args: &[String]) -> Option<Self> {
        let mut asked = Self { rootfs: PathBuf::new(), runs: 60, peers: Vec::new() };
        for pair in args.chunks(2) {
            let [name, value] = pair else { return None };
            match name.as_str() {
                "--rootfs" => asked.rootfs = value.into(),
                "--runs" => asked.runs = value.parse().ok().filter(|runs| *runs > 0)?,
                "--peer" => {
                    let (name, program) = value.split_once('=')?;
                    asked.peers.push(Contestant {
                        name: name.to_owned(),
                        program: program.into(),
                        first: Vec::new(),
                        libraries: None,
                    });
                }
                "--libraries" => asked.peers.last_mut()?.libraries = Some(value.clone()),
                _ => return None,
            }
        }
        (!asked.rootfs.as_os_str().is_empty()).then_some(asked)
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// crun refuses hybrid control groups; in a mount namespace of our own they look like plain v1 to everybody alike.
fn hide_unified_hierarchy() {
    unshare(CloneFlags::CLONE_NEWNS).expect("the bench needs root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.exists() {
        mount(Some("tmpfs"), unified, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }
}

fn bundle(folder: &Path, rootfs: &Path) -> PathBuf {
    let bundle = folder.join("bundle");
    fs::create_dir(&bundle).unwrap();
    let status = Command::new(env::current_exe().unwrap()).args(["oci", "spec", "-b"]).arg(&bundle).status();
    assert!(status.unwrap().success());
    change(&bundle, |c| {
        c["root"] = json!({ "path": fs::canonicalize(rootfs).unwrap(), "readonly": true });
        c["process"]["terminal"] = json!(false);
        c["process"]["noNewPrivileges"] = json!(true);
        c["linux"]["cgroupsPath"] = json!("/sosna/bench");
    });
    bundle
}

fn change(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

fn set_args(bundle: &Path, args: &[&str]) {
    change(bundle, |c| c["process"]["args"] = json!(args));
}

fn run(one: &Contestant, folder: &Path, bundle: &Path, n: usize) -> (Duration, String) {
    let mut call = Command::new(&one.program);
    call.args(&one.first).arg("--root").arg(folder.join("root"));
    if let Some(folders) = one.libraries.as_deref().filter(|folders| !folders.is_empty()) {
        call.env("LD_LIBRARY_PATH", folders);
    }
    call.args(["run", "--bundle"]).arg(bundle).arg(format!("b{n}"));
    let begun = Instant::now();
    let output = call.output().unwrap();
    let took = begun.elapsed();
    assert!(output.status.success(), "{}: {}", one.name, String::from_utf8_lossy(&output.stderr));
    (took, String::from_utf8_lossy(&output.stdout).into_owned())
}

fn spec(n: usize, rootfs: &Path, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::new(format!("bench-{}-{n}", std::process::id())).unwrap(),
        layers: vec![rootfs.into()],
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: vec![],
        cwd: "/".into(),
        user: UserSpec::default(),
        limits: Limits {
            cpu_millis: 1000,
            memory_bytes: 64 << 20,
            pids: 32,
            disk_bytes: 4 << 20,
            disk_inodes: 1000,
            wall: Duration::from_secs(60),
            log_bytes: 1 << 20,
        },
        inputs: vec![],
        outputs: vec![],
        network: Network::None,
        read_only_root: true,
        hostname: String::new(),
    }
}
