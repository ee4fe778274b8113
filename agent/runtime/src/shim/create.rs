//! Makes the container: from the stage and the specification to an init that waits to be told to go.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Instant,
};

use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sched::CloneFlags,
    unistd::{Pid, pipe2},
};

use super::{Request, START_FAILED};
use crate::{
    bundle,
    error::{At, chain},
    executor::{self, SeccompExecutor},
    seccomp,
    spec::ContainerSpec,
    stage::Stage,
    sys, uids,
};

/// Why there is no container.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit_code: i32,
    pub(super) message: String,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit_code: START_FAILED, message: chain(&error) }
    }
}

/// A container that waits for its start, and our ends of its pipes.
pub(super) struct Created {
    pub(super) container: Container,
    pub(super) init: Pid,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Says why the program could not be executed; ends when it was.
    pub(super) report: File,
}

/// Makes the container within the request's time.
pub(super) fn create(request: &Request, stage: &Stage) -> Result<Created, Failure> {
    make(request, stage).map_err(|failure| match failure.exit_code {
        START_FAILED => explained(failure, &request.spec, stage),
        _ => failure,
    })
}

/// What libcontainer says of an image that no container can be made of is that it did not work. What is in the way can be
/// seen: links are followed within the root, where they lead to something, but for [`MOUNTED`].
fn explained(failure: Failure, spec: &ContainerSpec, stage: &Stage) -> Failure {
    let above =
        |path: &str| path.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above).to_owned();
    // One that ends with a slash is a folder.
    let output = |output: &String| if output.ends_with('/') { output.clone() } else { above(output) };
    let folders =
        spec.read_only_root.then_some("/tmp").into_iter().chain([spec.cwd.as_str()]).map(str::to_owned);
    let folders = folders.chain(spec.outputs.iter().map(output));
    let folders = folders.chain(spec.inputs.iter().map(|input| above(&input.destination)));
    let folders = folders.filter(|path| !stage.is_dir(path));
    let inputs = spec.inputs.iter().map(|input| input.destination.clone());
    let inputs = inputs.filter(|path| stage.found(path).is_none());
    let mut needed = MOUNTED.map(str::to_owned).into_iter().chain(folders).chain(inputs);
    match needed.find_map(|path| stage.in_the_way(&path)) {
        Some((path, kind)) => Failure {
            message: format!("{path} is {kind} in the image, where none may be: {}", failure.message),
            ..failure
        },
        None => failure,
    }
}

/// What must be folders in the image, or not there. libcontainer puts the links of a `/dev` where its path leads on the
/// machine.
const MOUNTED: [&str; 3] = ["/proc", "/sys", "/dev"];

fn make(request: &Request, stage: &Stage) -> Result<Created, Failure> {
    if MOUNTED.iter().any(|path| stage.in_the_way(path).is_some()) {
        return Err(Failure { exit_code: START_FAILED, message: "it is the system's place".into() });
    }
    let spec = &request.spec;
    let range = request.range_first.map(|first| (first, uids::WIDTH));
    let writable = writable(spec, stage, range, request.settings.enforcement.rootless)?;
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    let config = bundle::config(
        spec,
        &bundle::Place {
            merged: &stage.merged,
            inputs: &stage.inputs,
            writable: &writable,
            range,
            enforcement: &request.settings.enforcement,
            group: &request.settings.group_of(&spec.id),
            open_files: hard.min(65_536),
        },
    );
    let bundle = stage.base.join("bundle");
    fs::create_dir(&bundle).at("create", &bundle)?;
    fs::write(bundle.join("config.json"), config.to_string()).at("write in", &bundle)?;

    let profile = seccomp::default_profile(&bundle::CAPABILITIES)?;
    let filters = seccomp::load_or_compile(&profile, Some(&request.settings.data_dir.join("seccomp")))?;

    let (stdout, stdout_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (report, report_write) = pipe2(OFlag::O_CLOEXEC)?;
    for end in [&stdout, &stderr, &report] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    if let Some((first, _)) = range {
        // Its own streams are the program's to open again, as /dev/stdout.
        let (uid, gid) = (first.saturating_add(spec.user.uid), first.saturating_add(spec.user.gid));
        for end in [&stdout_write, &stderr_write] {
            nix::unistd::fchown(end, Some(uid.into()), Some(gid.into()))?;
        }
    }
    let mut report = File::from(report);
    let executor = SeccompExecutor { filters, report: Some(report_write.as_raw_fd()), die_with_parent: true };

    let begun = Instant::now();
    sys::interrupt_after(request.settings.create_timeout)?;
    let built = build(spec.id.as_str(), &stage.base, &bundle, executor, stdout_write, stderr_write);
    sys::interrupt_after(std::time::Duration::ZERO)?;
    drop(report_write);
    match built {
        Ok(container) => {
            let init = container.pid().map(|p| Pid::from_raw(p.as_raw()));
            let init = init.ok_or_else(|| Failure {
                exit_code: START_FAILED,
                message: "the container has no process; see the kernel's log".into(),
            })?;
            // The container works without it, so a kernel without IPv4 is no reason to fail.
            let _ = loopback_up(init);
            Ok(Created { container, init, stdout, stderr, report })
        }
        Err(error) => {
            sys::kill_children();
            let mut text = Vec::new();
            let _ = report.read_to_end(&mut text);
            if let Some((exit_code, message)) = executor::parse_report(&text) {
                return Err(Failure { exit_code, message });
            }
            let mut failure = Failure::from(error);
            if begun.elapsed() >= request.settings.create_timeout {
                let seconds = request.settings.create_timeout.as_secs();
                failure.message =
                    format!("the container was not ready within {seconds} s ({})", failure.message);
            }
            Err(failure)
        }
    }
}

fn build(
    id: &str,
    base: &Path,
    bundle: &Path,
    executor: SeccompExecutor,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Container, libcontainer::error::LibcontainerError> {
    let null = File::open("/dev/null").map_err(libcontainer::error::LibcontainerError::OtherIO)?;
    ContainerBuilder::new(id.to_owned(), SyscallType::default())
        // libcontainer's own state vanishes with the stage; what lasts is in the task folder.
        .with_root_path(base.join("state"))?
        .with_executor(executor)
        .with_stdin(null)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
}

/// What stays writable below a read-only root: outputs (or the folder that one is to appear in) and the working
/// folder. Also makes the working folder, which a program needs in any case.
fn writable(
    spec: &ContainerSpec,
    stage: &Stage,
    range: Option<(u32, u32)>,
    rootless: bool,
) -> Result<Vec<(String, std::path::PathBuf)>, Failure> {
    let first = range.map_or(0, |(first, _)| first);
    // Without a range there is only this one user to own anything (rootless).
    let mapped = |id: u32| if rootless { 0 } else { first.saturating_add(id) };
    let owner = (mapped(spec.user.uid), mapped(spec.user.gid));
    let mut folders: Vec<String> = Vec::new();
    for output in &spec.outputs {
        let plain = output.trim_end_matches('/');
        let parent = plain.rsplit_once('/').map_or("", |(parent, _)| parent);
        let makes_itself = !spec.read_only_root || !parent.is_empty();
        let folder =
            if output.ends_with('/') || !makes_itself || stage.is_dir(plain) { plain } else { parent };
        folders.push(folder.to_owned());
    }
    let cwd = spec.cwd.trim_end_matches('/');
    let below =
        |top: &str| cwd.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if spec.read_only_root && below("/tmp") {
        // A tmpfs would cover a working folder made in it; /tmp itself is writable in any case.
        if cwd != "/tmp" {
            folders.extend(["/tmp".to_owned(), cwd.to_owned()]);
        }
    } else if !["/dev", "/proc", "/sys"].iter().any(|top| below(top)) {
        folders.push(cwd.to_owned());
    }
    folders.sort();
    folders.dedup();
    folders.retain(|f| !f.is_empty());
    let mut result = Vec::new();
    for folder in folders {
        let real = stage.writable(&folder, owner, first)?;
        if spec.read_only_root {
            result.push((folder, real));
        }
    }
    Ok(result)
}

/// Brings `lo` up in the network namespace of a container's init, and comes back.
pub(crate) fn loopback_up(init: Pid) -> std::io::Result<()> {
    let own = File::open("/proc/self/ns/net")?;
    sys::enter(File::open(format!("/proc/{init}/ns/net"))?, CloneFlags::CLONE_NEWNET)?;
    let result = sys::loopback_up();
    sys::enter(own, CloneFlags::CLONE_NEWNET)?;
    result
}
