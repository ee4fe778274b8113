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
    ("creation_that_hangs", creation_that_hangs),
    ("without_user_namespaces", without_user_namespaces),
    ("as_an_ordinary_user", as_an_ordinary_user),
    ("many_while_threads_read_the_environment", many_while_threads_read_the_environment),
];

/// The shim of a container, by its command line.
pub(crate) fn shim_of(env: &Env, spec: &ContainerSpec) -> Pid {
    let state = env.folder.join("state");
    let found = processes(&format!("sosna-shim\0run\0{}\0{}", state.display(), spec.id));
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

fn creation_that_hangs(env: &Env) {
    let mut config = config(&env.folder.join("impatient"));
    config.create_timeout = Duration::from_millis(700);
    let runtime = Runtime::open(config).unwrap();
    let spec = env.script("true");
    // The process that is to become the container is stopped as soon as it is there, and comes to nothing for ever.
    let (id, until) = (spec.id.clone(), Instant::now() + Duration::from_secs(10));
    let stopper = std::thread::spawn(move || {
        let is_becoming = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("youki:["))
        };
        while Instant::now() < until {
            if let Some(pid) = processes(id.as_str()).into_iter().find(is_becoming) {
                return kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok();
            }
        }
        false
    });
    let begun = Instant::now();
    let record = env.tokio.block_on(async {
        runtime.start(&spec).await.unwrap();
        runtime.wait(&spec.id).await.unwrap()
    });
    assert!(stopper.join().unwrap(), "nothing was stopped");
    let EndCause::StartFailed { message } = &record.cause else { panic!("{record:?}") };
    assert!(message.contains("was not ready within"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(traces(spec.id.as_str()).is_empty());
    // The record is its last word but one: the shim itself still has to go.
    let until = Instant::now() + Duration::from_secs(5);
    while !processes(spec.id.as_str()).is_empty() {
        assert!(Instant::now() < until, "processes are left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn without_user_namespaces(env: &Env) {
    use std::os::unix::process::CommandExt;
    // What a kernel without idmapped mounts would make the agent ask for.
    let mut spec = env
        .script("id -u; grep -E 'CapEff|Seccomp:' /proc/self/status; cat /proc/self/uid_map; touch /out/x");
    spec.outputs = vec!["/out/".into()];
    let text = fs::read_to_string(env.folder.join("state/settings.json")).unwrap();
    let mut settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    settings["enforcement"]["users"] = "none".into();
    let state = env.folder.join("state-without");
    settings["state_dir"] = serde_json::json!(state);
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("settings.json"), settings.to_string()).unwrap();
    let asked = env.folder.join("asked.json");
    fs::write(&asked, serde_json::to_vec(&spec).unwrap()).unwrap();
    let task_dir = env.runtime.task_dir(&spec.id);
    let shim = Command::new(std::env::current_exe().unwrap())
        .arg0("sosna-shim")
        .args(["run", state.to_str().unwrap(), spec.id.as_str()])
        .stdin(fs::File::open(&asked).unwrap())
        .status();
    assert!(shim.unwrap().success());
    let record = env.tokio.block_on(env.runtime.wait(&spec.id)).unwrap();
    assert_eq!(record.cause, EndCause::Exited { code: 0 });
    let out = fs::read_to_string(task_dir.join("stdout")).unwrap();
    assert!(out.starts_with("0\nCapEff:\t00000000000004fb\nSeccomp:\t2\n"), "{out}");
    assert!(out.contains("4294967295"), "{out}");
    assert_eq!(record.outputs.len(), 2);
}

/// Runs some containers as whoever this process is, and says what came of them.
pub(crate) fn rootless(args: &[String]) -> ExitCode {
    assert!(!nix::unistd::geteuid().is_root());
    let env = Env::new(Path::new(&args[0]));
    println!("{}", serde_json::to_string(env.runtime.enforcement()).unwrap());
    let mut spec = env.script(
        "id -u; grep -E 'Seccomp:|CapEff' /proc/self/status; cat /etc/layer; cat /proc/net/dev | grep -c :; \
         touch /x; echo $?; echo kept > /out/file; cat /in; exit 3",
    );
    spec.outputs = vec!["/out/".into()];
    spec.user.uid = 1000;
    fs::write(env.folder.join("in"), "input").unwrap();
    spec.inputs = vec![sosna_runtime::Input { source: env.folder.join("in"), destination: "/in".into() }];
    let (record, out, err) = env.run(&spec);
    println!("{}\n{}\n{}", serde_json::to_string(&record).unwrap(), out.escape_debug(), err.escape_debug());

    let mut spec = env.script("dd if=/dev/zero of=/out/file bs=1M count=20");
    spec.outputs = vec!["/out/".into()];
    println!("{}", serde_json::to_string(&env.run(&spec).0).unwrap());
    let mut spec = env.script("trap '' TERM; sleep 1000");
    spec.limits.wall = Duration::from_millis(300);
    println!("{}", serde_json::to_string(&env.run(&spec).0).unwrap());

    let marker = format!("2000{}", std::process::id());
    let spec = env.script(&format!("sleep {marker} & echo ready; sleep {marker}"));
    env.tokio.block_on(env.runtime.start(&spec)).unwrap();
    env.until_written(&spec.id, "ready");
    kill(shim_of(&env, &spec), Signal::SIGKILL).unwrap();
    println!("{}", serde_json::to_string(&env.run(&spec).0).unwrap());
    // Without a cgroup it is the kernel that ends what the shim's death leaves, in its own time.
    let until = Instant::now() + Duration::from_secs(10);
    while !processes(&format!("sleep\0{marker}")).is_empty() {
        assert!(Instant::now() < until, "processes are left");
        std::thread::sleep(Duration::from_millis(10));
    }
    ExitCode::SUCCESS
}

fn as_an_ordinary_user(env: &Env) {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (home, program) = (folder.path().join("home"), folder.path().join("agent"));
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(12_345), Some(12_345)).unwrap();
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("as-rootless").arg(&home).uid(12_345).gid(12_345).current_dir("/");
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = out.lines().collect();
    let json = |n: usize| serde_json::from_str::<serde_json::Value>(lines[n]).unwrap();
    let missing = json(0)["missing"].clone();
    if missing.as_array().unwrap().iter().any(|m| m["what"] == "containers") {
        eprintln!("SKIPPED as_an_ordinary_user: {missing}");
        return;
    }
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    for what in ["memory limit", "pids limit", "cpu limit", "user id range"] {
        let reason = missing.as_array().unwrap().iter().find(|m| m["what"] == what).unwrap();
        assert!(!reason["reason"].as_str().unwrap().is_empty());
    }
    assert_eq!(json(1)["cause"], serde_json::json!({ "kind": "exited", "code": 3 }), "{out}");
    assert_eq!(lines[2], r"0\nCapEff:\t0000000000000000\nSeccomp:\t2\ntop1\n1\ninput", "{out}");
    assert!(lines[3].contains("Read-only file system"), "{out}");
    assert_eq!(json(1)["outputs"].as_array().unwrap().len(), 2, "{out}");
    assert_eq!(json(4)["cause"]["kind"], "disk_full", "{out}");
    assert_eq!(json(5)["cause"]["kind"], "timed_out", "{out}");
    assert_eq!(json(6)["cause"]["kind"], "lost", "{out}");
    assert!(env.layers[0].exists());
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
