//! How containers run, what holds them in, and how their ends are told apart.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use sosna_runtime::{EndCause, Input, Network, OutputKind, Phase, RuntimeError};

use crate::{Env, traces};

pub(crate) const ALL: &[crate::Case] = &[
    ("exit_code_and_streams", exit_code_and_streams),
    ("signal", signal),
    ("command_not_found", command_not_found),
    ("not_executable", not_executable),
    ("layers_and_whiteouts", layers_and_whiteouts),
    ("starting_twice_is_one_container", starting_twice_is_one_container),
    ("memory_limit", memory_limit),
    ("pids_limit", pids_limit),
    ("cpu_quota", cpu_quota),
    ("time_out", time_out),
    ("disk_bytes_small", disk_bytes_small),
    ("disk_bytes_large", disk_bytes_large),
    ("disk_inodes", disk_inodes),
    ("endless_log", endless_log),
    ("read_only_root", read_only_root),
    ("writable_root", writable_root),
    ("seccomp", seccomp),
    ("seccomp_call_by_call", seccomp_call_by_call),
    ("capabilities", capabilities),
    ("ids_are_mapped", ids_are_mapped),
    ("namespaces", namespaces),
    ("masked_paths", masked_paths),
    ("inputs_are_read_only", inputs_are_read_only),
    ("outputs", outputs),
    ("outputs_in_tmp", outputs_in_tmp),
    ("output_folder_that_is_a_link", output_folder_that_is_a_link),
    ("stop_and_pause", stop_and_pause),
    ("remove_forgets", remove_forgets),
    ("internet_is_refused", internet_is_refused),
];

fn exit_code_and_streams(env: &Env) {
    let (record, out, err) = env.run(&env.script("echo out; echo err >&2; exit 7"));
    assert_eq!(record.cause, EndCause::Exited { code: 7 });
    assert_eq!((record.exit_code, out.as_str(), err.as_str()), (7, "out\n", "err\n"));
    assert_eq!((record.stdout_bytes, record.stderr_bytes, record.stdout_dropped), (4, 4, 0));
    assert!(record.started_at_ms > 1_600_000_000_000 && record.ended_at_ms >= record.started_at_ms);
    assert!(record.usage.cpu_ns > 0 && record.usage.peak_memory_bytes > 0, "{:?}", record.usage);
    assert!(traces(record.id.as_str()).is_empty());
}

fn signal(env: &Env) {
    // Init of a pid namespace ignores what it sends itself, so a child does the dying.
    let (record, ..) = env.run(&env.script("sh -c 'kill -ABRT $$'; exit $?"));
    assert_eq!(record.exit_code, 134);
    // SIGSEGV by the kernel kills even an init.
    let mut spec = env.script("");
    spec.args = vec!["sh".into(), "-c".into(), "ulimit -t 1; while :; do :; done".into()];
    let (record, ..) = env.run(&spec);
    assert!(matches!(record.cause, EndCause::Signalled { signal: 24 | 9 }), "{:?}", record.cause);
    assert!(record.exit_code == 128 + 24 || record.exit_code == 137);
}

fn command_not_found(env: &Env) {
    let mut spec = env.script("");
    spec.args = vec!["no-such-program".into()];
    let (record, ..) = env.run(&spec);
    let EndCause::StartFailed { message } = &record.cause else { panic!("{record:?}") };
    assert!(message.contains("command not found: 'no-such-program'"), "{message}");
    assert_eq!(record.exit_code, 127);
    assert!(traces(record.id.as_str()).is_empty());
}

fn not_executable(env: &Env) {
    for (program, code, text) in [
        ("not-executable", 126, "not executable"),
        ("/data", 126, "not executable"),
        ("bad-interpreter", 127, "interpreter"),
    ] {
        let mut spec = env.script("");
        spec.args = vec![program.into()];
        let (record, ..) = env.run(&spec);
        let EndCause::StartFailed { message } = &record.cause else { panic!("{record:?}") };
        assert!(message.contains(text) && message.contains(program), "{message}");
        assert_eq!(record.exit_code, code, "{program}");
    }
}

fn layers_and_whiteouts(env: &Env) {
    let whiteout = env.folder.join("layers/whiteout");
    fs::create_dir_all(&whiteout).unwrap();
    let dev = nix::sys::stat::makedev(0, 0);
    let path = whiteout.join("gone");
    if !path.exists() {
        nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::empty(), dev)
            .unwrap();
    }
    let mut spec = env.script("cat /etc/layer; test -e /gone && echo there; stat -c %u:%g /bin/sh");
    spec.layers.push(whiteout);
    let (_, out, err) = env.run(&spec);
    assert_eq!(out, "top0:0\n", "{err}");
}

fn starting_twice_is_one_container(env: &Env) {
    let spec = env.script("echo once >> /out/file; cat /out/file; sleep 0.3");
    let mut spec = spec;
    spec.outputs = vec!["/out/".into()];
    env.tokio.block_on(async {
        env.runtime.start(&spec).await.unwrap();
        env.runtime.start(&spec).await.unwrap();
    });
    let (record, out, _) = env.run(&spec);
    assert_eq!((record.exit_code, out.as_str()), (0, "once\n"));
    env.tokio.block_on(env.runtime.start(&spec)).unwrap();
    let mut other = spec.clone();
    other.args.push("x".into());
    let error = env.tokio.block_on(env.runtime.start(&other)).unwrap_err();
    assert!(matches!(error, RuntimeError::Conflict { .. }));
}

fn memory_limit(env: &Env) {
    let mut spec = env.script(
        "x=$(head -c 200000000 /dev/zero | tr '\\0' x 2>/dev/null || yes | head -c 200000000); echo $?",
    );
    spec.limits.memory_bytes = 16 << 20;
    spec.args = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"].map(str::to_owned).to_vec();
    let (record, ..) = env.run(&spec);
    assert_eq!((&record.cause, record.exit_code), (&EndCause::OutOfMemory, 137));
    assert!(record.usage.peak_memory_bytes <= 17 << 20, "{:?}", record.usage);
}

fn pids_limit(env: &Env) {
    let mut spec = env.script("for i in 1 2 3 4 5 6 7 8 9; do sleep 2 & done; wait");
    spec.limits.pids = 5;
    let (record, _, err) = env.run(&spec);
    assert_ne!(record.exit_code, 0);
    assert!(err.to_lowercase().contains("fork"), "{err}");
}

fn cpu_quota(env: &Env) {
    let mut spec = env.script("while :; do :; done");
    spec.limits.cpu_millis = 200;
    spec.limits.wall = Duration::from_secs(2);
    let (record, ..) = env.run(&spec);
    let share = Duration::from_nanos(record.usage.cpu_ns).as_secs_f64() / 2.0;
    assert!((0.05..0.35).contains(&share), "used {share} of a core, allowed 0.2");
}

fn time_out(env: &Env) {
    let mut spec = env.script("trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & sleep 1000; echo never");
    spec.limits.wall = Duration::from_millis(500);
    let begun = Instant::now();
    let (record, out, _) = env.run(&spec);
    assert_eq!((&record.cause, record.exit_code, out.as_str()), (&EndCause::TimedOut, 137, ""));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!((500..2000).contains(&record.usage.wall_ms), "{:?}", record.usage);
    assert!(crate::processes("sleep\x001000").is_empty());
}

fn disk_full(env: &Env, allowed_mib: u64, megabytes: u64) {
    let mut spec = env.script(&format!("dd if=/dev/zero of=/out/file bs=1M count={megabytes}"));
    spec.limits.disk_bytes = allowed_mib << 20;
    spec.outputs = vec!["/out/".into()];
    let (record, _, err) = env.run(&spec);
    assert_eq!(record.cause, EndCause::DiskFull, "{err}");
    assert!(err.contains("No space left"), "{err}");
    // What fits, fits.
    let mut spec =
        env.script(&format!("dd if=/dev/zero of=/out/file bs=1M count={}", allowed_mib.max(2) - 1));
    spec.limits.disk_bytes = allowed_mib << 20;
    spec.outputs = vec!["/out/".into()];
    let (record, _, err) = env.run(&spec);
    assert_eq!(record.cause, EndCause::Exited { code: 0 }, "{err}");
}

fn disk_bytes_small(env: &Env) {
    disk_full(env, 3, 5);
}

fn disk_bytes_large(env: &Env) {
    disk_full(env, 100, 130);
}

fn disk_inodes(env: &Env) {
    for disk in [2 << 20, 32 << 20] {
        let mut spec = env.script("i=0; while [ $i -lt 400 ]; do : > /out/$i || exit 3; i=$((i+1)); done");
        spec.limits.disk_inodes = 200;
        spec.limits.disk_bytes = disk;
        spec.outputs = vec!["/out/".into()];
        let (record, _, err) = env.run(&spec);
        assert_eq!((&record.cause, record.exit_code > 0), (&EndCause::DiskFull, true), "{err}");
        let files = record.outputs.len();
        assert!((190..260).contains(&files), "{files} entries with 200 allowed");
    }
}

fn endless_log(env: &Env) {
    let mut spec = env.script("yes | head -c 50000000; echo done >&2");
    spec.limits.log_bytes = 10_000;
    let (record, out, err) = env.run(&spec);
    assert_eq!(
        (record.exit_code, err.as_str()),
        (0, "done\n"),
        "the program must not be stopped by a full log"
    );
    assert_eq!((record.stdout_bytes, record.stdout_dropped, out.len()), (50_000_000, 49_990_000, 10_000));
}

fn read_only_root(env: &Env) {
    let mut spec = env.script(
        "touch /bin/x 2>&1; touch /x 2>&1; touch /out/file /work/file /tmp/file /dev/shm/file && pwd && echo good",
    );
    spec.outputs = vec!["/out/".into()];
    spec.cwd = "/work".into();
    let (record, out, err) = env.run(&spec);
    assert_eq!(record.exit_code, 0, "{err}");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    assert!(out.ends_with("/work\ngood\n"), "{out}");
}

fn writable_root(env: &Env) {
    let mut spec = env.script("echo a > /file && rm -r /data && cat /file && ls / | grep -c data; exit 0");
    spec.read_only_root = false;
    spec.outputs = vec!["/file".into()];
    let (record, out, err) = env.run(&spec);
    assert_eq!(out, "a\n0\n", "{err}");
    assert_eq!(record.outputs.len(), 1);
    assert!(env.layers[0].join("data/file").exists(), "the image is never changed");
}

fn seccomp(env: &Env) {
    let (record, out, err) =
        env.run(&env.script("grep -E 'Seccomp:|NoNewPrivs:' /proc/self/status; unshare -m true; echo $?"));
    assert_eq!(record.exit_code, 0);
    assert!(out.contains("Seccomp:\t2") && out.contains("NoNewPrivs:\t1"), "{out}");
    assert!(err.contains("Operation not permitted") && !out.ends_with("\n0\n"), "{out}{err}");
    // Compiled once, found again.
    let cached = fs::read_dir(env.folder.join("data/seccomp")).unwrap().count();
    assert_eq!(cached, 1);
}

fn seccomp_call_by_call(env: &Env) {
    let mut spec = env.script("");
    spec.args = ["probe", "as-probe", "calls"].map(str::to_owned).to_vec();
    let (record, out, err) = env.run(&spec);
    assert_eq!(record.exit_code, 0, "{out}{err}");
    let all = format!("thread ok\nclone3 {}\n", libc_errno("ENOSYS"));
    assert!(out.starts_with(&all), "{out}");
    for name in [
        "io_uring_setup",
        "keyctl",
        "unshare",
        "bpf",
        "AF_ALG",
        "AF_VSOCK",
        "namespace by clone",
        "userfaultfd",
    ] {
        assert!(out.contains(&format!("{name} {}\n", libc_errno("EPERM"))), "{name}: {out}");
    }
    assert!(out.contains("AF_UNIX 0\n") && out.contains("AF_NETLINK 0\n"), "{out}");
    #[cfg(target_arch = "x86_64")]
    {
        assert!(out.contains(&format!("x32 {}\n", libc_errno("ENOSYS"))), "{out}");
        spec = env.script("probe as-probe 32-bit; echo $?");
        let (_, out, err) = env.run(&spec);
        assert_eq!(out, "159\n", "a call of another architecture kills: {err}");
    }
}

fn libc_errno(name: &str) -> i32 {
    match name {
        "EPERM" => nix::errno::Errno::EPERM as i32,
        _ => nix::errno::Errno::ENOSYS as i32,
    }
}

fn capabilities(env: &Env) {
    let caps = |out: &str, name: &str| {
        let line = out.lines().find(|l| l.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let mut spec = env.script("cat /proc/self/status");
    let (_, out, _) = env.run(&spec);
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE
    assert_eq!(caps(&out, "CapEff"), 0b100_1111_1011, "{out}");
    assert_eq!(caps(&out, "CapBnd"), 0b100_1111_1011);
    assert!(out.lines().any(|l| l.trim_end() == "Groups:"), "no groups of the agent: {out}");
    spec = env.script("cat /proc/self/status; echo again > /dev/stdout");
    spec.user.uid = 1000;
    spec.user.gid = 1000;
    let (_, out, _) = env.run(&spec);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(caps(&out, set), 0, "{set}");
    }
    assert!(out.contains("Uid:\t1000\t1000\t1000\t1000"), "{out}");
    assert!(out.ends_with("again\n"), "{out}");
}

fn ids_are_mapped(env: &Env) {
    let mut first = BTreeSet::new();
    let specs: Vec<_> = (0..3)
        .map(|_| {
            let mut spec = env.script("id -u; touch /out/file; echo ready; sleep 1000");
            spec.outputs = vec!["/out/".into()];
            spec
        })
        .collect();
    for spec in &specs {
        env.tokio.block_on(env.runtime.start(spec)).unwrap();
        env.until_written(&spec.id, "ready");
        let groups = crate::groups(spec.id.as_str());
        let pid =
            fs::read_to_string(groups[0].join("cgroup.procs")).unwrap().lines().next().unwrap().to_owned();
        let host = fs::metadata(format!("/proc/{pid}/root/out/file")).unwrap().uid();
        assert!(host >= 1 << 30, "root in the container is {host} on the host");
        first.insert(host);
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &host.to_string(), "65536"]);
    }
    assert_eq!(first.len(), 3, "each has a range of its own");
    for spec in &specs {
        env.tokio.block_on(env.runtime.remove(&spec.id)).unwrap();
    }
}

fn namespaces(env: &Env) {
    let script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; \
                  cat /proc/sys/kernel/hostname; ls /proc | grep -c '^[0-9]'; cat /proc/net/dev; cat /sys/class/net/lo/flags";
    let mut spec = env.script(script);
    spec.hostname = "tile-7".into();
    let (_, out, err) = env.run(&spec);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert!(
            !out.contains(host.to_str().unwrap()) && out.contains(&format!("{name}:[")),
            "{name}: {out}{err}"
        );
    }
    assert!(out.contains("\ntile-7\n"), "{out}");
    let devices: Vec<_> = out.lines().filter(|l| l.contains(':') && l.contains("  ")).collect();
    assert_eq!(devices.len(), 1, "only lo: {out}");
    // IFF_UP | IFF_LOOPBACK
    assert!(out.trim_end().ends_with("0x9"), "{out}");
}

fn masked_paths(env: &Env) {
    let (record, out, _) = env.run(
        &env.script("cat /proc/kcore /proc/keys; ls /sys/firmware; echo x > /proc/sysrq-trigger || exit 9"),
    );
    assert_eq!((out.as_str(), record.exit_code != 0), ("", true));
}

fn inputs_are_read_only(env: &Env) {
    let folder = env.folder.join("input");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("scene"), "a sphere").unwrap();
    let mut spec = env.script("cat /in/dir/scene /in/file; echo x > /in/dir/scene; echo $?; rm /in/file; echo $?; stat -c %u /in/file");
    spec.inputs = vec![
        Input { source: folder.clone(), destination: "/in/dir".into() },
        Input { source: folder.join("scene"), destination: "/in/file".into() },
    ];
    let (record, out, err) = env.run(&spec);
    assert_eq!(record.exit_code, 0, "{:?} {err}", record.cause);
    // The last line: root's file on the host is root's in the container.
    assert_eq!(out, "a spherea sphere2\n1\n0\n", "{err}");
    assert_eq!(fs::read_to_string(folder.join("scene")).unwrap(), "a sphere");
    // One that is not there is the task's failure, told in words.
    let mut spec = env.script("true");
    spec.inputs = vec![Input { source: "/no/such/input".into(), destination: "/in".into() }];
    let (record, ..) = env.run(&spec);
    assert!(matches!(&record.cause, EndCause::StartFailed { message } if message.contains("/no/such/input")));
}

fn outputs(env: &Env) {
    let mut spec = env.script(
        "cd /out; echo hello > b; ln -s /etc/passwd a; mkfifo f; mkdir d; ln -s ../../../../../../etc d/up; chmod 751 b; \
         echo single > /res/one",
    );
    spec.outputs = vec!["/out/".into(), "/res/one".into(), "/missing/x".into()];
    let (record, _, err) = env.run(&spec);
    assert_eq!(record.exit_code, 0, "{err}");
    let listed: Vec<_> = record.outputs.iter().map(|o| (o.path.as_str(), o.kind, o.mode)).collect();
    use OutputKind::{File, Folder, Symlink};
    assert_eq!(
        listed,
        [
            ("out", Folder, 0o755),
            ("out/a", Symlink, 0o777),
            ("out/b", File, 0o751),
            ("out/d", Folder, 0o755),
            ("out/d/up", Symlink, 0o777),
            ("res/one", File, 0o644)
        ]
    );
    assert_eq!(record.outputs[2].length, 6);
    assert_eq!(record.outputs[2].sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    let dir = env.runtime.task_dir(&spec.id).join("outputs");
    assert_eq!(fs::read(dir.join("res/one")).unwrap(), b"single\n");
    assert!(fs::symlink_metadata(dir.join("out/a")).unwrap().is_symlink());
    assert_eq!(fs::metadata(dir.join("out/b")).unwrap().uid(), 0, "kept as the agent's own");
    assert_eq!(record.output_problems.len(), 2, "{:?}", record.output_problems);
}

fn outputs_in_tmp(env: &Env) {
    let mut spec = env.script("echo a > /tmp/result; pwd; echo b > $PWD/other");
    spec.outputs = vec!["/tmp/result".into()];
    spec.cwd = "/tmp".into();
    let (record, out, err) = env.run(&spec);
    assert_eq!(out, "/tmp\n", "{err}");
    assert_eq!(record.outputs.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(), ["tmp/result"]);
    // And a working folder that would be below a tmpfs.
    let mut spec = env.script("pwd; touch here ../there; echo $?");
    spec.cwd = "/tmp/deep".into();
    let (_, out, err) = env.run(&spec);
    assert_eq!(out, "/tmp/deep\n0\n", "{err}");
}

fn output_folder_that_is_a_link(env: &Env) {
    // `/escape` is a link to `/etc` in the image: it must mean the image's own /etc, never the host's.
    let mut spec = env.script("echo mine > /escape/sosna-escaped; ls /etc; exit 0");
    spec.outputs = vec!["/escape/sosna-escaped".into()];
    let (record, out, err) = env.run(&spec);
    assert!(!std::path::Path::new("/etc/sosna-escaped").exists());
    assert!(out.contains("layer") && !out.contains("fstab"), "{out}{err} {:?}", record.cause);
    assert_eq!(record.outputs.len(), 1, "{record:?}");
}

fn stop_and_pause(env: &Env) {
    let spec = env.script("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    env.tokio.block_on(env.runtime.start(&spec)).unwrap();
    env.until_written(&spec.id, "ready");
    let phase = || env.runtime.list().unwrap().into_iter().find(|(id, _)| *id == spec.id).unwrap().1;
    assert_eq!(phase(), Phase::Running);
    env.tokio.block_on(env.runtime.pause(&spec.id)).unwrap();
    assert_eq!(phase(), Phase::Paused);
    env.tokio.block_on(env.runtime.resume(&spec.id)).unwrap();
    assert_eq!(phase(), Phase::Running);
    env.tokio.block_on(env.runtime.stop(&spec.id, Duration::from_secs(10))).unwrap();
    let (record, out, _) = env.run(&spec);
    assert_eq!((&record.cause, record.exit_code, out.as_str()), (&EndCause::Stopped, 5, "ready\nbye\n"));
    assert_eq!(phase(), Phase::Ended);

    // Frozen, deaf to SIGTERM: still gone after the grace.
    let spec = env.script("trap '' TERM; echo ready; sleep 1000");
    env.tokio.block_on(env.runtime.start(&spec)).unwrap();
    env.until_written(&spec.id, "ready");
    env.tokio.block_on(env.runtime.pause(&spec.id)).unwrap();
    let begun = Instant::now();
    env.tokio.block_on(env.runtime.stop(&spec.id, Duration::from_millis(300))).unwrap();
    assert!((300..3000).contains(&begun.elapsed().as_millis()));
    let (record, ..) = env.run(&spec);
    assert_eq!((&record.cause, record.exit_code), (&EndCause::Stopped, 137));
}

fn remove_forgets(env: &Env) {
    let spec = env.script("sleep 1000");
    env.tokio.block_on(async {
        env.runtime.start(&spec).await.unwrap();
        env.runtime.remove(&spec.id).await.unwrap();
        env.runtime.remove(&spec.id).await.unwrap();
        assert!(matches!(env.runtime.wait(&spec.id).await, Err(RuntimeError::Unknown { .. })));
    });
    assert!(!env.runtime.task_dir(&spec.id).exists());
    assert!(traces(spec.id.as_str()).is_empty());
    // Also what has a record that cannot be read: it keeps nothing else from going on.
    let spec = env.script("true");
    env.run(&spec);
    let record = env.runtime.task_dir(&spec.id).join("exit.json");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    env.tokio.block_on(env.runtime.wait(&spec.id)).unwrap_err();
    assert!(env.runtime.ids().unwrap().contains(&spec.id));
    env.tokio.block_on(env.runtime.remove(&spec.id)).unwrap();
    assert!(!env.runtime.ids().unwrap().contains(&spec.id) && !env.runtime.task_dir(&spec.id).exists());
}

fn internet_is_refused(env: &Env) {
    let mut spec = env.script("true");
    spec.network = Network::Internet;
    let error = env.tokio.block_on(env.runtime.start(&spec)).unwrap_err();
    assert!(matches!(error, RuntimeError::NotAvailable { .. }));
    assert!(error.to_string().contains("not available in this build"), "{error}");
}
