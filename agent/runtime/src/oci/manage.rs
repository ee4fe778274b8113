//! Looking at containers, changing and deleting them.

use std::{fs, io::ErrorKind, path::Path};

use libcgroups::common::{CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager};
use libcontainer::{container::Container, signal::Signal};
use liboci_cli as cli;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, Spec};
use serde_json::{Value, json};

use super::{During, OciError, Result, container_dir, load};
use crate::bundle;

/// The newest OCI runtime specification whose rules this follows.
const OCI_VERSION: &str = "1.2.0";

fn show(value: &Value) -> Result<()> {
    println!("{value:#}");
    Ok(())
}

/// The state that the OCI runtime specification describes.
fn state_of(container: &Container) -> Value {
    let state = &container.state;
    json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": state.status.to_string().to_lowercase(),
        "pid": container.pid().map_or(0, |p| p.as_raw()),
        "bundle": state.bundle,
        "annotations": state.annotations.clone().unwrap_or_default(),
    })
}

pub(super) fn state(id: &str, root: &Path) -> Result<()> {
    show(&state_of(&load(id, root)?))
}

pub(super) fn kill(args: &cli::Kill, root: &Path) -> Result<()> {
    let wrong = |_| OciError::Bundle { what: "signal", problem: format!("there is no '{}'", args.signal) };
    let signal = Signal::try_from(args.signal.as_str()).map_err(wrong)?;
    let raw = signal_number(&args.signal);
    let mut container = load(&args.container_id, root)?;
    if args.all || raw == Some(libc::SIGKILL) {
        return Ok(container.kill(signal, args.all)?);
    }
    // libcontainer notes "stopped" after any signal, also after one that the program handles; so the signal is
    // sent here, and the state stays what it is.
    if !container.can_kill() {
        let problem = format!("it is {}", container.status().to_string().to_lowercase());
        return Err(OciError::Bundle { what: "container", problem });
    }
    match (container.pid(), raw) {
        (Some(pid), Some(number)) => {
            let signal = nix::sys::signal::Signal::try_from(number).during("find the signal")?;
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.as_raw()), signal).during("send the signal")
        }
        _ => Ok(container.kill(signal, args.all)?),
    }
}

/// The number of a signal given as `9`, `KILL` or `SIGKILL`.
fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper.clone() } else { format!("SIG{upper}") };
    upper.parse().ok().or_else(|| name.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32))
}

pub(super) fn delete(args: &cli::Delete, root: &Path) -> Result<()> {
    match load(&args.container_id, root) {
        Ok(mut container) => Ok(container.delete(args.force)?),
        // A folder without a state is what a creation leaves that was cut short.
        Err(OciError::NoContainer(id)) => match fs::remove_dir_all(container_dir(&id, root)?) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound && args.force => Ok(()),
            Err(_) => Err(OciError::NoContainer(id)),
        },
        Err(e) => Err(e),
    }
}

pub(super) fn list(args: &cli::List, root: &Path) -> Result<()> {
    let mut states = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if let Some(id) = entry.file_name().to_str()
            && let Ok(container) = load(id, root)
        {
            states.push(state_of(&container));
        }
    }
    states.sort_by_key(|s| s["id"].to_string());
    if args.quiet {
        states.iter().for_each(|s| println!("{}", s["id"].as_str().unwrap_or_default()));
    } else if args.format == "json" {
        return show(&Value::Array(states));
    } else {
        println!("{:<40} {:<10} {:<10} BUNDLE", "ID", "PID", "STATUS");
        for s in states {
            let text = |key: &str| s[key].as_str().unwrap_or_default().to_owned();
            println!(
                "{:<40} {:<10} {:<10} {}",
                text("id"),
                s["pid"].to_string(),
                text("status"),
                text("bundle")
            );
        }
    }
    Ok(())
}

/// The cgroups of a container, by libcontainer's own record.
fn cgroups(container: &Container) -> Result<libcgroups::common::AnyCgroupManager> {
    let config = CgroupConfig {
        cgroup_path: container.spec()?.cgroup_path,
        systemd_cgroup: false,
        container_name: container.id().to_owned(),
    };
    let bad = |e: libcgroups::common::CreateCgroupSetupError| OciError::Bundle {
        what: "control group",
        problem: e.to_string(),
    };
    create_cgroup_manager(config).map_err(bad)
}

pub(super) fn ps(args: &cli::Ps, root: &Path) -> Result<()> {
    if !args.ps_options.is_empty() {
        return Err(OciError::Unsupported("ps with options of ps(1)"));
    }
    let container = load(&args.container_id, root)?;
    let bad = |e: libcgroups::common::AnyManagerError| OciError::Bundle {
        what: "control group",
        problem: e.to_string(),
    };
    let pids: Vec<_> = cgroups(&container)?.get_all_pids().map_err(bad)?.iter().map(|p| p.as_raw()).collect();
    if args.format == "json" {
        return show(&json!(pids));
    }
    println!("{:<10} COMMAND", "PID");
    for pid in pids {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        println!("{pid:<10} {}", String::from_utf8_lossy(&line).replace('\0', " ").trim_end().escape_debug());
    }
    Ok(())
}

pub(super) fn update(args: &cli::Update, root: &Path) -> Result<()> {
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        return Err(OciError::Unsupported("update of Intel RDT"));
    }
    let container = load(&args.container_id, root)?;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut resources = match &args.resources {
        Some(path) => {
            let text = if path == Path::new("-") {
                std::io::read_to_string(std::io::stdin()).during("read the resources")?
            } else {
                fs::read_to_string(path).during("read the resources")?
            };
            let bad = |e: serde_json::Error| OciError::Bundle { what: "resources", problem: e.to_string() };
            serde_json::from_str::<LinuxResources>(&text).map_err(bad)?
        }
        None => LinuxResources::default(),
    };
    // Devices were set at creation and are not what `update` is about.
    resources.set_devices(None);
    if args.memory.is_some() || args.memory_swap.is_some() || args.memory_reservation.is_some() {
        let mut memory = LinuxMemory::default();
        memory.set_limit(args.memory.map(signed));
        memory.set_swap(args.memory_swap);
        memory.set_reservation(args.memory_reservation.map(signed));
        resources.set_memory(Some(memory));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_period(args.cpu_period);
    cpu.set_quota(args.cpu_quota.map(signed));
    cpu.set_shares(args.cpu_share);
    cpu.set_realtime_period(args.cpu_rt_period);
    cpu.set_realtime_runtime(args.cpu_rt_runtime.map(signed));
    cpu.set_cpus(args.cpuset_cpus.clone());
    cpu.set_mems(args.cpuset_mems.clone());
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = args.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = args.blkio_weight {
        let mut block = LinuxBlockIo::default();
        block.set_weight(Some(u16::try_from(weight).unwrap_or(u16::MAX)));
        resources.set_block_io(Some(block));
    }
    let options = ControllerOpt {
        resources: &resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    let bad = |e: libcgroups::common::AnyManagerError| OciError::Bundle {
        what: "resources",
        problem: e.to_string(),
    };
    cgroups(&container)?.apply(&options).map_err(bad)
}

pub(super) fn features() -> Result<()> {
    show(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
                "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                    "SECCOMP_FILTER_FLAG_TSYNC"]
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": true },
            "mountExtensions": { "idmap": { "enabled": true } }
        }
    }))
}

pub(super) fn spec(args: &cli::Spec) -> Result<()> {
    let path = args.bundle.clone().unwrap_or_else(|| ".".into()).join("config.json");
    if path.exists() {
        return Err(OciError::Bundle { what: "config.json", problem: "it exists; remove it first".into() });
    }
    let mut spec = if args.rootless {
        Spec::rootless(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    } else {
        Spec::default()
    };
    // A bundle of ours starts with the walls up.
    if let Some(linux) = spec.linux_mut().as_mut() {
        linux.set_seccomp(Some(crate::seccomp::default_profile(&bundle::CAPABILITIES)?));
    }
    let bad = |e: serde_json::Error| OciError::Bundle { what: "config.json", problem: e.to_string() };
    let text = serde_json::to_vec_pretty(&spec).map_err(bad)?;
    fs::write(path, text).during("write config.json")
}
