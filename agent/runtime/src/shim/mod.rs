//! The shim: this binary, started again for one container, alone and with one thread. It makes the container,
//! waits for it, and records its end, whether or not the agent still lives.
//!
//! Must never start a thread before the container runs, and never return into the program's own `main`.

mod control;
mod create;
mod logs;
mod outputs;
mod run;
mod supervise;

pub(crate) use self::create::loopback_up;

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup::{CgroupKind, Hierarchies},
    enforcement::Enforcement,
    error::{At, Result, RuntimeError, chain},
    record::{EndCause, ExitRecord},
    spec::{ContainerId, ContainerSpec},
    stage, sys,
    uids::Ranges,
};

/// What the shim is called by: the first argument that nobody gives by accident.
pub(crate) const ARGV0: &str = "sosna-shim";
/// The mode that runs a container from a request file.
pub(crate) const RUN: &str = "run";
/// The mode that prints what this machine enforces.
pub(crate) const PROBE: &str = "probe";
/// What the shim says on its stdout once it can be talked to.
pub(crate) const READY: &[u8] = b"ready\n";

/// Files of a task folder.
pub(crate) const REQUEST: &str = "request.json";
pub(crate) const LOCK: &str = "lock";
pub(crate) const STARTED: &str = "started";
pub(crate) const LOG: &str = "shim.log";
pub(crate) const OUTPUTS: &str = "outputs";
/// The control socket in a container's state folder.
pub(crate) const SOCKET: &str = "sock";

/// The exit code recorded when a container could not be made, as `docker run` has it.
pub(crate) const START_FAILED: i32 = 125;

/// What the agent asks a shim to do; kept in the task folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) spec: ContainerSpec,
    pub(crate) task_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
    /// First host id of the container's range, when it has one.
    pub(crate) range_first: Option<u32>,
    pub(crate) uid_base: u32,
    pub(crate) uid_ranges: u32,
    pub(crate) create_timeout: Duration,
    pub(crate) enforcement: Enforcement,
}

impl Request {
    /// The layout that this build writes and reads.
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn read(task_dir: &Path) -> Result<Option<Self>> {
        let path = task_dir.join(REQUEST);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RuntimeError::Damaged { path, source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", path),
        }
    }

    pub(crate) fn ranges(&self) -> Ranges {
        Ranges::new(self.data_dir.join("uids"), self.uid_base, self.uid_ranges)
    }
}

/// Becomes the shim, and never returns, if this process was started as one. Call it first thing in `main`, before
/// any thread is started.
pub fn run_if_requested() {
    let mut args = env::args_os();
    if args.next().as_deref() != Some(OsStr::new(ARGV0)) {
        return;
    }
    let code = match (args.next().as_deref().and_then(OsStr::to_str), args.next()) {
        (Some(RUN), Some(task_dir)) => serve(Path::new(&task_dir)),
        (Some(PROBE), Some(folder)) => probe(Path::new(&folder)),
        _ => {
            eprintln!("{ARGV0} is started by the agent, not by hand");
            2
        }
    };
    process::exit(code)
}

/// Prints what holds on this machine, as JSON.
fn probe(folder: &Path) -> i32 {
    let rootless = !nix::unistd::geteuid().is_root();
    let namespaces =
        if rootless { stage::own_users() } else { stage::own_mounts(nix::sched::CloneFlags::empty()) };
    let found = Enforcement::probe(folder, rootless, namespaces);
    match serde_json::to_writer(io::stdout().lock(), &found) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// The whole life of a shim.
fn serve(task_dir: &Path) -> i32 {
    match prepare(task_dir) {
        Ok(Some((request, lock, listener))) => {
            let (record, clients) = run::container(&request, &listener).unwrap_or_else(|failure| {
                let cause = EndCause::StartFailed { message: failure.message };
                let record = ExitRecord::without_run(request.spec.id.clone(), cause, failure.exit_code);
                (record, Vec::new())
            });
            let code = finish(&request, &record);
            drop((clients, listener, lock));
            code
        }
        Ok(None) => 0,
        Err(e) => {
            eprintln!("{}", chain(&e));
            1
        }
    }
}

/// Takes the task over: lock, socket, and word to the agent. None when another shim has it.
fn prepare(task_dir: &Path) -> Result<Option<(Request, File, std::os::unix::net::UnixListener)>> {
    let request = Request::read(task_dir)?
        .filter(|r| r.version == Request::VERSION)
        .ok_or_else(|| RuntimeError::Unknown { id: task_dir.display().to_string() })?;
    // A session of our own: signals to the agent's terminal or group are not for us.
    let _ = nix::unistd::setsid();
    let _ = env::set_current_dir("/");
    if nix::unistd::geteuid().is_root() {
        // The container's init would inherit ours.
        nix::unistd::setgroups(&[]).at("give up the groups of", "the agent")?;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));

    let path = task_dir.join(LOCK);
    let lock = File::options().write(true).create(true).truncate(false).open(&path).at("open", &path)?;
    if !sys::try_lock(&lock).at("lock", &path)? || ExitRecord::read(task_dir)?.is_some() {
        say_ready();
        return Ok(None);
    }
    let folder = File::open(&request.state_dir).at("open", &request.state_dir)?;
    // Through a descriptor, because a socket's path may have at most 108 bytes.
    let socket = sys::fd_path(folder.as_fd()).join(SOCKET);
    let _ = fs::remove_file(&socket);
    let listener =
        std::os::unix::net::UnixListener::bind(&socket).at("make the socket in", &request.state_dir)?;
    listener.set_nonblocking(true).at("prepare the socket in", &request.state_dir)?;
    say_ready();
    Ok(Some((request, lock, listener)))
}

/// Tells the agent, which may be gone, and lets go of its pipe.
fn say_ready() {
    let mut out = io::stdout().lock();
    let _ = out.write_all(READY).and_then(|()| out.flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // SAFETY: both descriptors are open; descriptor 1 stays one that Rust's stdout may use.
        unsafe { libc::dup2(null.as_raw_fd(), 1) };
    }
}

/// Clears away what the container leaves and makes its end known.
fn finish(request: &Request, record: &ExitRecord) -> i32 {
    sosna_fault::passed("shim/sweep");
    sys::kill_children();
    let swept = sweep(&request.spec.id, request.enforcement.cgroups);
    let mut written = record.write(&request.task_dir);
    for _ in 0..60 {
        if written.is_ok() {
            break;
        }
        // A host disk that is full now may have room in a moment; without its record the work is lost.
        std::thread::sleep(Duration::from_secs(1));
        written = record.write(&request.task_dir);
    }
    for problem in [swept.as_ref().err(), written.as_ref().err()].into_iter().flatten() {
        eprintln!("{}", chain(problem));
    }
    if swept.is_ok() {
        // Only when nothing of it runs any more may another container have its ids.
        let _ = request.ranges().release(&request.spec.id);
    }
    sosna_fault::passed("shim/remove-state");
    let _ = crate::durable::remove_tree(&request.state_dir);
    i32::from(written.is_err())
}

/// Kills what is in a container's control groups and removes them.
pub(crate) fn sweep(id: &ContainerId, cgroups: CgroupKind) -> Result<()> {
    let group = Hierarchies::usable(cgroups).group(id.as_str());
    if !group.exists() {
        return Ok(());
    }
    group.kill_all(Duration::from_secs(10));
    group.remove(Duration::from_secs(5)).at("remove the cgroups of", id.as_str())
}
