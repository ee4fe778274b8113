//! Deaths at bad moments, and many at once.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sosna_runtime::{ContainerSpec, EndCause, Phase, Runtime};

use crate::{Env, config, processes, traces};

pub(crate) const ALL: &[crate::Case] = &[
    ("shim_killed", shim_killed),
    ("agent_killed", agent_killed),
    ("many_while_threads_read_the_environment", many_while_threads_read_the_environment),
];

/// The shim of a container, by its command line.
fn shim_of(env: &Env, spec: &ContainerSpec) -> Pid {
    let dir = env.runtime.task_dir(&spec.id);
    let found = processes(&format!("sosna-shim\0run\0{}", dir.display()));
    // Until it executes its program, a container's init looks like the shim that it was cloned from.
    let ours = std::process::id().to_string();
    let is_child = |pid: &&i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(ours.as_str())
    };
    let shims: Vec<_> = found.iter().filter(is_child).collect();
    assert_eq!(shims.len(), 1, "{found:?}");
    Pid::from_raw(*shims[0])
}

fn shim_killed(env: &Env) {
    // Killed while running, with a large disk (a loop device) and children.
    let marker = format!("1000{}", std::process::id());
    let mut spec = env.script(&format!("(sleep {marker}) & echo ready; sleep {marker}"));
    spec.limits.disk_bytes = 64 << 20;
    spec.outputs = vec!["/out/".into()];
    env.tokio.block_on(env.runtime.start(&spec)).unwrap();
    env.until_written(&spec.id, "ready");
    let until = Instant::now() + Duration::from_secs(5);
    while processes(&format!("sleep\0{marker}")).len() < 2 {
        assert!(Instant::now() < until, "the container's children did not start");
    }
    kill(shim_of(env, &spec), Signal::SIGKILL).unwrap();
    let settled = env.tokio.block_on(async {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let settled = env.runtime.recover().await.unwrap();
            if !settled.is_empty() || Instant::now() > until {
                return settled;
            }
        }
    });
    assert_eq!(settled, [spec.id.clone()]);
    assert!(processes(&format!("sleep\0{marker}")).is_empty(), "processes are left");
    assert!(traces(spec.id.as_str()).is_empty(), "{:?}", traces(spec.id.as_str()));
    let (record, ..) = env.run(&spec);
    assert_eq!((&record.cause, record.exit_code), (&EndCause::Lost, -1));
    assert!(env.tokio.block_on(env.runtime.recover()).unwrap().is_empty());

    // Killed at any moment of its making: whoever waits is told.
    for delay in [0, 2, 5, 8, 12, 16, 20, 30] {
        let spec = env.script("sleep 1000");
        let record = env.tokio.block_on(async {
            env.runtime.start(&spec).await.unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            kill(shim_of(env, &spec), Signal::SIGKILL).unwrap();
            env.runtime.wait(&spec.id).await.unwrap()
        });
        assert_eq!(record.cause, EndCause::Lost, "killed after {delay} ms");
        assert!(traces(spec.id.as_str()).is_empty(), "{:?}", traces(spec.id.as_str()));
    }
    assert!(processes("sleep\x001000").is_empty());
    let held = fs::read_dir(env.folder.join("data/uids")).unwrap().count();
    assert_eq!(held, 0, "user ids come back");
}

/// Another agent over the same folders: starts what it is told to and dies.
pub(crate) fn agent(args: &[String]) -> ExitCode {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = Runtime::open(config(Path::new(&args[0]))).unwrap();
    let spec: ContainerSpec = serde_json::from_str(&fs::read_to_string(&args[1]).unwrap()).unwrap();
    tokio.block_on(runtime.start(&spec)).unwrap();
    println!("started");
    loop {
        std::thread::park();
    }
}

fn agent_killed(env: &Env) {
    let mut spec = env.script("echo ready; sleep 0.7; echo result > /out/file; exit 4");
    spec.outputs = vec!["/out/".into()];
    let file = env.folder.join("agent.json");
    fs::write(&file, serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .arg("as-agent")
        .args([&env.folder, &file])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 8];
    std::io::Read::read_exact(agent.stdout.as_mut().unwrap(), &mut said).unwrap();
    env.until_written(&spec.id, "ready");
    agent.kill().unwrap();
    agent.wait().unwrap();
    // A new agent: nothing to recover, for the shim lives; the result is delivered to whoever asks.
    assert!(env.tokio.block_on(env.runtime.recover()).unwrap().is_empty());
    let phase = env.runtime.list().unwrap().into_iter().find(|(id, _)| *id == spec.id).unwrap().1;
    assert_eq!(phase, Phase::Running);
    let record = env.tokio.block_on(env.runtime.wait(&spec.id)).unwrap();
    assert_eq!(record.cause, EndCause::Exited { code: 4 });
    assert_eq!(record.outputs.len(), 2);
    assert!(traces(spec.id.as_str()).is_empty());
}

fn many_while_threads_read_the_environment(env: &Env) {
    static STOP: AtomicBool = AtomicBool::new(false);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let mut n = 0_usize;
                while !STOP.load(Ordering::Relaxed) {
                    n += std::env::vars_os().count() + Vec::<u8>::with_capacity(n % 4096).capacity();
                    std::thread::yield_now();
                }
                n
            })
        })
        .collect();
    let specs: Vec<_> = (0..48).map(|n| env.script(&format!("exit {}", n % 100))).collect();
    let records = env.tokio.block_on(async {
        let all = async {
            let mut records = Vec::new();
            for group in specs.chunks(6) {
                for spec in group {
                    env.runtime.start(spec).await.unwrap();
                }
                for spec in group {
                    records.push(env.runtime.wait(&spec.id).await.unwrap());
                }
            }
            records
        };
        tokio::time::timeout(Duration::from_secs(120), all).await.expect("a container hangs")
    });
    STOP.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.cause, EndCause::Exited { code: i32::try_from(n % 100).unwrap() });
    }
}
