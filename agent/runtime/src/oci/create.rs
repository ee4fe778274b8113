//! `create`, `start` and `run`.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use liboci_cli::{Create, Run};
use nix::{
    fcntl::OFlag,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, pipe2},
};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::{During, OciError, Result, container_dir, load};
use crate::{
    executor::{self, SeccompExecutor},
    seccomp::{self, Compiled},
    shim, sys,
};

/// Making a container takes milliseconds; one that hangs must not hang its caller for ever.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);

/// What `create` and `run` have in common.
struct Order<'a> {
    id: &'a str,
    bundle: &'a Path,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    no_pivot: bool,
    preserve_fds: i32,
    detach: bool,
}

pub(super) fn create(args: &Create, root: &Path) -> Result<()> {
    let order = Order {
        id: &args.container_id,
        bundle: &args.bundle,
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        no_pivot: args.no_pivot,
        preserve_fds: args.preserve_fds,
        detach: true,
    };
    make(&order, root).map(drop)
}

pub(super) fn start(id: &str, root: &Path) -> Result<()> {
    Ok(load(id, root)?.start()?)
}

pub(super) fn run(args: &Run, root: &Path) -> Result<i32> {
    // Blocked before there is a child, so that none of its signals is lost; its init resets the mask.
    let signals = block_forwarded()?;
    let order = Order {
        id: &args.container_id,
        bundle: &args.bundle,
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        no_pivot: args.no_pivot,
        preserve_fds: args.preserve_fds,
        detach: args.detach,
    };
    let (mut container, mut report) = make(&order, root)?;
    let init = pid_of(&container)?;
    if let Err(e) = container.start() {
        let _ = container.delete(true);
        return Err(e.into());
    }
    let mut text = Vec::new();
    report.read_to_end(&mut text).during("hear from the container")?;
    let failed = executor::parse_report(&text);
    if args.detach && failed.is_none() {
        return Ok(0);
    }
    let code = wait_for(init, &signals)?;
    if !args.keep || failed.is_some() {
        container.delete(true)?;
    }
    failed.map_or(Ok(code), |(code, message)| Err(OciError::Program(code, message)))
}

fn pid_of(container: &Container) -> Result<Pid> {
    let none = || OciError::Bundle { what: "container", problem: "it has no process".into() };
    container.pid().map(|p| Pid::from_raw(p.as_raw())).ok_or_else(none)
}

/// Makes a container. The report ends when its program is executed, or says why it could not be.
fn make(order: &Order<'_>, root: &Path) -> Result<(Container, File)> {
    container_dir(order.id, root)?;
    if nix::unistd::geteuid().is_root() {
        // A container without additional groups would inherit ours.
        nix::unistd::setgroups(&[]).during("give up the caller's groups")?;
    }
    fs::create_dir_all(root).during("create the state folder")?;
    let bundle = fs::canonicalize(order.bundle).during("find the bundle")?;
    let spec = read_spec(&bundle)?;
    let filters = filters(&spec, root)?;
    let (report, report_write) = pipe2(OFlag::O_CLOEXEC).during("make a pipe")?;
    let executor =
        SeccompExecutor { filters, report: Some(report_write.as_raw_fd()), die_with_parent: false };
    sys::interrupt_after(CREATE_TIMEOUT).during("set a timer")?;
    let built = ContainerBuilder::new(order.id.to_owned(), SyscallType::default())
        .with_root_path(root)?
        .with_executor(executor)
        .with_pid_file(order.pid_file.clone())?
        .with_console_socket(order.console_socket.clone())
        .with_preserved_fds(order.preserve_fds)
        .validate_id()?
        .as_init(&bundle)
        .with_systemd(false)
        .with_detach(order.detach)
        .with_no_pivot(order.no_pivot)
        .build();
    sys::interrupt_after(Duration::ZERO).during("stop a timer")?;
    drop(report_write);
    let mut report = File::from(report);
    match built {
        Ok(container) => {
            if has_own_network(&spec) {
                // Best effort: a kernel without IPv4 has no lo to bring up.
                let _ = shim::loopback_up(pid_of(&container)?);
            }
            Ok((container, report))
        }
        Err(error) => {
            let mut text = Vec::new();
            let _ = report.read_to_end(&mut text);
            Err(match executor::parse_report(&text) {
                Some((code, message)) => OciError::Program(code, message),
                None => error.into(),
            })
        }
    }
}

/// The bundle's configuration, with what would be dangerous or ignored refused.
pub(super) fn read_spec(bundle: &Path) -> Result<Spec> {
    let bad = |problem: String| OciError::Bundle { what: "config.json", problem };
    let spec = Spec::load(bundle.join("config.json")).map_err(|e| bad(e.to_string()))?;
    let cgroups = spec.linux().as_ref().and_then(|l| l.cgroups_path().as_ref());
    if cgroups.is_some_and(|p| p.components().all(|c| !matches!(c, std::path::Component::Normal(_)))) {
        // libcontainer would take its caller's own group and kill all in it at the end.
        return Err(bad("linux.cgroupsPath names no group of its own; remove it or name one".into()));
    }
    if cgroups.is_some_and(|p| p.components().any(|c| matches!(c, std::path::Component::ParentDir))) {
        return Err(bad("linux.cgroupsPath must not contain '..'".into()));
    }
    Ok(spec)
}

/// The filters of the bundle's seccomp section, compiled now or found from before.
pub(super) fn filters(spec: &Spec, root: &Path) -> Result<Compiled> {
    match spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()) {
        Some(section) => Ok(seccomp::load_or_compile(section, Some(&root.join(".seccomp")))?),
        None => Ok(Compiled::default()),
    }
}

fn has_own_network(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    let own =
        |n: &oci_spec::runtime::LinuxNamespace| n.typ() == LinuxNamespaceType::Network && n.path().is_none();
    namespaces.is_some_and(|all| all.iter().any(own))
}

/// The signals that a container gets instead of us, and those of our children.
fn forwarded() -> SigSet {
    let mut set = SigSet::empty();
    for signal in Signal::iterator() {
        let ours = [
            Signal::SIGALRM,
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
        ];
        if !ours.contains(&signal) {
            set.add(signal);
        }
    }
    set
}

/// Waits for one child and passes signals on to it; reaps the others.
pub(super) fn wait_for(child: Pid, signals: &SigSet) -> Result<i32> {
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(128 + signal as i32),
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                Err(e) => return Err(e).during("wait for the container"),
            }
        }
        match signals.wait().during("wait for a signal")? {
            Signal::SIGCHLD => {}
            other => {
                let _ = kill(child, other);
            }
        }
    }
}

pub(super) fn block_forwarded() -> Result<SigSet> {
    let signals = forwarded();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).during("block signals")?;
    Ok(signals)
}
