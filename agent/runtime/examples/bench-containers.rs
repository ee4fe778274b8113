//! Times a container from start to exit: our `oci run`, other runtimes on the same bundle, and the agent's whole
//! path (overlay, disk limit, durable exit record), interleaved in one run.
//!
//! `bench-containers --rootfs DIR [--runs 40] [--peers crun,runc]`, as root; DIR holds `/bin/true` and `/bin/cat`,
//! for instance a static busybox. Prints one JSON object.

#![allow(clippy::unwrap_used, reason = "a bench stops at what it did not expect")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
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
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let Some(rootfs) = option("--rootfs").map(PathBuf::from) else {
        eprintln!("usage: bench-containers --rootfs DIR [--runs 40] [--peers crun,runc]");
        return ExitCode::FAILURE;
    };
    let runs: usize = option("--runs").map_or(40, |n| n.parse().unwrap());
    let peers = option("--peers").unwrap_or_else(|| "crun,runc".into());
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
    let mut runtimes = vec![("sosna".to_owned(), vec![own.to_str().unwrap().to_owned(), "oci".to_owned()])];
    for peer in peers.split(',').filter(|p| !p.is_empty()) {
        if Command::new(peer).arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
            runtimes.push((peer.to_owned(), vec![peer.to_owned()]));
        } else {
            eprintln!("SKIPPED {peer}: it is not installed");
        }
    }

    // Every contestant must have its filters in force, or the comparison means nothing.
    set_args(&bundle, &["/bin/cat", "/proc/self/status"]);
    for (name, command) in &runtimes {
        let (_, out) = run(command, folder.path(), &bundle, usize::MAX);
        assert!(out.contains("Seccomp:\t2"), "{name} runs without seccomp: {out}");
    }
    assert!(agent(usize::MAX, &["/bin/cat", "/proc/self/status"]).1.contains("Seccomp:\t2"));

    set_args(&bundle, &["/bin/true"]);
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for n in 0..runs {
        for (name, command) in &runtimes {
            times.entry(name.clone()).or_default().push(run(command, folder.path(), &bundle, n).0);
        }
        times.entry("sosna agent path".into()).or_default().push(agent(n, &["/bin/true"]).0);
    }
    let mut report = json!({ "runs": runs, "unit": "ms" });
    for (name, times) in &mut times {
        times.sort();
        let at = |share: usize| milliseconds(times[(times.len() - 1) * share / 100]);
        report[name] = json!({ "min": at(0), "p50": at(50), "p90": at(90) });
    }
    for (name, _) in runtimes.iter().skip(1) {
        let ratio = |ours: &str, key: &str| {
            let get = |who: &str| report[who][key].as_f64().unwrap();
            (get(ours) / get(name) * 100.0).round() / 100.0
        };
        let ratios = json!({
            "min": ratio("sosna", "min"), "p50": ratio("sosna", "p50"),
            "agent path min": ratio("sosna agent path", "min"), "agent path p50": ratio("sosna agent path", "p50")
        });
        report[format!("ratio to {name}")] = ratios;
    }
    println!("{report:#}");
    ExitCode::SUCCESS
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

fn run(command: &[String], folder: &Path, bundle: &Path, n: usize) -> (Duration, String) {
    let mut call = Command::new(&command[0]);
    call.args(&command[1..]).arg("--root").arg(folder.join("root"));
    call.args(["run", "--bundle"]).arg(bundle).arg(format!("b{n}"));
    let begun = Instant::now();
    let output = call.output().unwrap();
    let took = begun.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
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
