//! The shim: this binary, started again for one container, alone and with one thread. It makes the container,
//! waits for it, and records its end, whether or not the agent still lives. Its like clear up after shims that died, and
//! remove what a container left.
//!
//! Must never start a thread before the container runs, never return into the program's own `main`, and never believe
//! whoever started it further than a name and what one container is to be.

mod control;
mod create;
mod logs;
mod outputs;
mod reply;
mod run;
mod settle;
mod supervise;

pub(crate) use self::{create::loopback_up, reply::Reply};

use std::{
    env,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Hierarchies,
    durable,
    enforcement::{Enforcement, UserMapping},
    error::{At, Result, RuntimeError, chain},
    record::{EndCause, ExitRecord},
    settings::Settings,
    spec::{ContainerId, ContainerSpec},
    stage, sys,
};

/// What the shim is called by: the first argument that nobody gives by accident.
pub(crate) const ARGV0: &str = "sosna-shim";
/// The mode that runs the container of a specification, which it reads from its standard input.
pub(crate) const RUN: &str = "run";
/// The mode that settles a container whose shim died, or all of them.
pub(crate) const SETTLE: &str = "settle";
/// The mode that removes what a container left.
pub(crate) const REMOVE: &str = "remove";
/// The mode that prints what this machine enforces.
pub(crate) const PROBE: &str = "probe";

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

/// No specification is longer, bytes.
const SPEC_BYTES: u64 = 16 << 20;

/// What was asked for; kept in the task folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    version: u32,
    spec: ContainerSpec,
    /// First host id of the container's range, when it has one.
    range_first: Option<u32>,
}

/// A container that is to be, and all that is said about it.
#[derive(Debug)]
struct Request {
    spec: ContainerSpec,
    range_first: Option<u32>,
    task_dir: PathBuf,
    state_dir: PathBuf,
    settings: Settings,
}

// === impl Asked ===

impl Asked {
    /// The layout that this build writes and reads.
    const VERSION: u32 = 1;

    fn read(task_dir: &Path) -> Result<Option<Self>> {
        let path = task_dir.join(REQUEST);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RuntimeError::Damaged { path, source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", path),
        }
    }

    fn write(&self, task_dir: &Path) -> Result<()> {
        let path = task_dir.join(REQUEST);
        let text = serde_json::to_vec(self)
            .map_err(|source| RuntimeError::Damaged { path: path.clone(), source })?;
        // Not synced: after a power cut there is no container either, and the agent's own store knows what it took on.
        durable::replace(&path, &text, 0o640).at("write", path)
    }
}

/// Becomes the shim, and never returns, if this process was started as one. Call it first thing in `main`, before
/// any thread is started.
pub fn run_if_requested() {
    let mut args = env::args_os();
    if args.next().as_deref() != Some(OsStr::new(ARGV0)) {
        return;
    }
    // Whatever the agent's is: who may read what is written here is said by each file.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let mut next = || args.next();
    let (mode, folder, id) = (next(), next(), next());
    let folder = folder.unwrap_or_default();
    let folder = Path::new(&folder);
    let id = id.as_deref().and_then(OsStr::to_str).unwrap_or_default();
    let code = match mode.as_deref().and_then(OsStr::to_str) {
        Some(RUN) => serve(folder, id),
        Some(SETTLE) => settle::settle(folder, id),
        Some(REMOVE) => settle::remove(folder, id),
        Some(PROBE) => probe(folder),
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
fn serve(state_dir: &Path, id: &str) -> i32 {
    let prepared = (|| prepare(Settings::read(state_dir)?, ContainerId::new(id)?))();
    match prepared {
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
        Ok(None) => {
            say(&Reply::Done(Vec::new()));
            0
        }
        Err(error) => {
            say(&Reply::of(error));
            1
        }
    }
}

/// Takes the task over: lock, user ids, folders, socket, and word to the agent. None when there is nothing to start any
/// more.
fn prepare(settings: Settings, id: ContainerId) -> Result<Option<(Request, File, UnixListener)>> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(SPEC_BYTES)
        .read_to_end(&mut text)
        .at("read the specification of", id.as_str())?;
    let spec: ContainerSpec = serde_json::from_slice(&text)
        .map_err(|source| RuntimeError::Damaged { path: "the specification".into(), source })?;
    settings.check(&spec)?;
    if spec.id != id {
        return Err(RuntimeError::Conflict { id: id.to_string() });
    }
    // A session of our own: signals to the agent's terminal or group are not for us.
    let _ = nix::unistd::setsid();
    let _ = env::set_current_dir("/");
    if nix::unistd::geteuid().is_root() {
        // The container's init would inherit ours.
        nix::unistd::setgroups(&[]).at("give up the groups of", "the agent")?;
    }

    let (task_dir, state_dir) = (settings.task_dir(&id), settings.state_of(&id));
    make_folder(&task_dir)?;
    let (lock, is_ours) = lock(&task_dir)?;
    let old = match Asked::read(&task_dir) {
        // What a power cut left of a request is none.
        Err(RuntimeError::Damaged { .. }) if is_ours => None,
        other => other?,
    };
    if let Some(old) = old {
        if old.spec != spec {
            return Err(RuntimeError::Conflict { id: id.to_string() });
        }
        if !is_ours || task_dir.join(STARTED).exists() || ExitRecord::read(&task_dir)?.is_some() {
            return Ok(None);
        }
    } else if !is_ours {
        // Another one is just beginning, or is being removed.
        return Err(RuntimeError::Conflict { id: id.to_string() });
    }
    complain_to(&task_dir.join(LOG))?;
    let range_first = match settings.enforcement.users {
        UserMapping::Range => Some(settings.ranges().take(&id)?),
        UserMapping::Single | UserMapping::None => None,
    };
    let asked = Asked { version: Asked::VERSION, spec, range_first };
    asked.write(&task_dir)?;
    make_folder(&state_dir)?;

    let folder = File::open(&state_dir).at("open", &state_dir)?;
    // Through a descriptor, because a socket's path may have at most 108 bytes.
    let socket = sys::fd_path(folder.as_fd()).join(SOCKET);
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).at("make the socket in", &state_dir)?;
    listener.set_nonblocking(true).at("prepare the socket in", &state_dir)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).at("open the socket in", &state_dir)?;
    say(&Reply::Done(Vec::new()));
    let request = Request { spec: asked.spec, range_first, task_dir, state_dir, settings };
    Ok(Some((request, lock, listener)))
}

/// A folder that is closed to all but its owner and, where its parent has one, the reader's group.
fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(path).at("create", path)
}

/// The lock of a task, and whether it is ours now: it is as long as this process lives and has not opened it again.
fn lock(task_dir: &Path) -> Result<(File, bool)> {
    let path = task_dir.join(LOCK);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let lock = options.open(&path).at("open", &path)?;
    let is_ours = sys::try_lock(&lock).at("lock", path)?;
    Ok((lock, is_ours))
}

/// From here on what there is to complain about is the container's.
fn complain_to(log: &Path) -> Result<()> {
    let file = File::options().append(true).create(true).mode(0o640).open(log).at("open", log)?;
    // SAFETY: both descriptors are open; descriptor 2 stays one that Rust's stderr may use.
    unsafe { libc::dup2(file.as_raw_fd(), 2) };
    Ok(())
}

/// Tells the agent, which may be gone, and lets go of its pipe.
fn say(reply: &Reply) {
    let text = serde_json::to_vec(reply).unwrap_or_default();
    let mut out = io::stdout().lock();
    let _ = out.write_all(&text).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // SAFETY: both descriptors are open; descriptor 1 stays one that Rust's stdout may use.
        unsafe { libc::dup2(null.as_raw_fd(), 1) };
    }
}

/// Clears away what the container leaves and makes its end known.
fn finish(request: &Request, record: &ExitRecord) -> i32 {
    sosna_fault::passed("shim/sweep");
    sys::kill_children();
    let swept = sweep(&request.settings, &request.spec.id);
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
        let _ = request.settings.ranges().release(&request.spec.id);
    }
    sosna_fault::passed("shim/remove-state");
    let _ = durable::remove_tree(&request.state_dir);
    i32::from(written.is_err())
}

/// Kills what is in a container's control groups and removes them.
fn sweep(settings: &Settings, id: &ContainerId) -> Result<()> {
    let group = Hierarchies::usable(settings.enforcement.cgroups).group(&settings.group_of(id));
    if !group.exists() {
        return Ok(());
    }
    group.kill_all(Duration::from_secs(10));
    group.remove(Duration::from_secs(5)).at("remove the cgroups of", id.as_str())
}
