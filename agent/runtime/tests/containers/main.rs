//! Real containers, as root. This binary is the agent and its shims too, so it has a `main` of its own.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod attacks;
mod bounds;
mod cases;
mod images;
mod kills;
mod oci;
mod probe;
mod rootfs;

use std::{
    collections::HashSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use sosna_runtime::{
    ContainerId, ContainerSpec, ExitRecord, Limits, Network, Runtime, RuntimeConfig, UserSpec, shim,
};

/// What all tests share.
struct Env {
    tokio: tokio::runtime::Runtime,
    runtime: Runtime,
    layers: Vec<PathBuf>,
    folder: PathBuf,
}

/// A test and its name.
type Case = (&'static str, fn(&Env));

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Env {
    fn new(folder: &Path) -> Self {
        let layers = rootfs::build(&folder.join("layers"));
        let runtime = Runtime::open(config(folder)).unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { tokio, runtime, layers, folder: folder.into() }
    }

    /// A specification with small limits that runs `script`.
    fn script(&self, script: &str) -> ContainerSpec {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        ContainerSpec {
            id: ContainerId::new(format!("t{}-{n}", std::process::id())).unwrap(),
            layers: self.layers.clone(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            user: UserSpec::default(),
            limits: Limits {
                cpu_millis: 1000,
                memory_bytes: 64 << 20,
                pids: 32,
                disk_bytes: 8 << 20,
                disk_inodes: 1000,
                wall: Duration::from_secs(20),
                log_bytes: 64 << 10,
            },
            inputs: vec![],
            outputs: vec![],
            network: Network::None,
            read_only_root: true,
            hostname: String::new(),
        }
    }

    /// Runs to the end: the record and what was written to stdout and stderr.
    fn run(&self, spec: &ContainerSpec) -> (ExitRecord, String, String) {
        let record = self.tokio.block_on(async {
            self.runtime.start(spec).await.unwrap();
            self.runtime.wait(&spec.id).await.unwrap()
        });
        let dir = self.runtime.task_dir(&spec.id);
        let read = |name: &str| {
            fs::read(dir.join(name)).map_or(String::new(), |b| String::from_utf8_lossy(&b).into())
        };
        (record, read("stdout"), read("stderr"))
    }

    /// Waits until a running container has written something.
    fn until_written(&self, id: &ContainerId, text: &str) {
        let path = self.runtime.task_dir(id).join("stdout");
        let until = Instant::now() + Duration::from_secs(10);
        while !fs::read_to_string(&path).is_ok_and(|t| t.contains(text)) {
            assert!(Instant::now() < until, "{id} never wrote {text:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn config(folder: &Path) -> RuntimeConfig {
    let mut config = RuntimeConfig::new(folder.join("data"), folder.join("state"));
    config.create_timeout = Duration::from_secs(20);
    config
}

/// What a container could leave on the host: mounts, control groups, loop devices.
fn traces(of: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    found.extend(
        mounts.lines().filter(|l| l.contains("overlay") || l.contains("/dev/loop")).map(str::to_owned),
    );
    found.extend(groups(of).iter().map(|group| group.display().to_string()));
    found
}

/// Control groups of ours whose names begin with `of`.
fn groups(of: &str) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path()));
    let entries = roots.iter().flat_map(|root| fs::read_dir(root.join("sosna"))).flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(of));
    ours.map(|entry| entry.path()).collect()
}

/// Host processes whose command line contains `text`.
fn processes(text: &str) -> HashSet<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let line = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let has = |pid: &i32| String::from_utf8_lossy(&line(pid)).contains(text);
    pids.filter(|pid| *pid != i32::try_from(std::process::id()).unwrap()).filter(has).collect()
}

fn main() -> ExitCode {
    shim::run_if_requested();
    let mut args = std::env::args().skip(1);
    let filter = args.find(|a| !a.starts_with('-'));
    match filter.as_deref() {
        Some("as-attack") => attacks::main(&args.collect::<Vec<_>>()),
        Some("as-probe") => return probe::main(&args.collect::<Vec<_>>()),
        Some("as-agent") => return kills::agent(&args.collect::<Vec<_>>()),
        Some("as-rootless") => return kills::rootless(&args.collect::<Vec<_>>()),
        Some("as-oci") => return sosna_runtime::oci::main(std::env::args_os().skip(2)),
        _ => {}
    }
    if std::env::args().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED containers: these tests need root");
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let env = Env::new(folder.path());
    eprintln!("enforced here: {:?}", env.runtime.enforcement());
    let (mut failed, mut passed) = (Vec::new(), 0);
    for (name, test) in cases::ALL
        .iter()
        .chain(images::ALL)
        .chain(bounds::ALL)
        .chain(kills::ALL)
        .chain(oci::ALL)
        .chain(attacks::ALL)
    {
        if filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            continue;
        }
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| test(&env)));
        let ok = result.is_ok();
        eprintln!(
            "test {name} ... {} ({} ms)",
            if ok { "ok" } else { "FAILED" },
            begun.elapsed().as_millis()
        );
        if ok { passed += 1 } else { failed.push(*name) }
    }
    let left = traces(&format!("t{}-", std::process::id()));
    if !left.is_empty() {
        eprintln!("left behind: {left:?}");
        failed.push("nothing is left behind");
    }
    eprintln!("containers: {passed} passed, {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
