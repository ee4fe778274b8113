//! The agent's side: starts shims, talks to them, reads their records, and clears up after those that died.
//! Must never create a container in its own process.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::AsFd,
        unix::{fs::DirBuilderExt, net::UnixStream as StdStream},
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Mutex,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    durable,
    enforcement::{Enforcement, UserMapping},
    error::{At, Result, RuntimeError},
    program::Program,
    record::{EndCause, ExitRecord},
    shim::{self, Request},
    spec::{ContainerId, ContainerSpec},
    sys,
    uids::{Ranges, WIDTH},
};

/// Where the runtime keeps what, and how much it may use.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// For task folders, formatted disk images, compiled filters and who has which user ids; survives a reboot.
    pub data_dir: PathBuf,
    /// For the sockets of running shims; best on a tmpfs such as `/run`.
    pub state_dir: PathBuf,
    /// First host user id that containers may have. Two agents on one machine need ranges that do not overlap.
    pub uid_base: u32,
    /// How many ids from there on; each container takes 65,536.
    pub uid_count: u32,
    /// How long the making of a container may take.
    pub create_timeout: Duration,
}

impl RuntimeConfig {
    /// The usual numbers: ids from 2^30 for 1024 containers at a time (far above what systems give to people and
    /// services), and half a minute to make a container.
    #[must_use]
    pub fn new(data_dir: PathBuf, state_dir: PathBuf) -> Self {
        Self {
            data_dir,
            state_dir,
            uid_base: 1 << 30,
            uid_count: WIDTH * 1024,
            create_timeout: Duration::from_secs(30),
        }
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Being made, or running.
    Running,
    /// Frozen by [`Runtime::pause`].
    Paused,
    /// Ended, with a record.
    Ended,
    /// Its shim is gone without a record; [`Runtime::recover`] settles it.
    Abandoned,
}

/// Runs containers.
#[derive(Clone, Debug)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: RuntimeConfig,
    enforcement: Enforcement,
    program: Program,
    ranges: Ranges,
    /// Held while a shim is being started or a lost container settled: the two must not meet.
    turn: Mutex<()>,
}

impl Runtime {
    /// Prepares the folders, and finds out what this machine enforces by trying it in a process of its own (some
    /// tens of milliseconds; blocks).
    ///
    /// # Errors
    /// When a folder cannot be made or this program cannot be started as its own shim (its `main` must call
    /// [`shim::run_if_requested`] first).
    pub fn open(config: RuntimeConfig) -> Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path).at("find", path);
        let config = RuntimeConfig {
            data_dir: absolute(&config.data_dir)?,
            state_dir: absolute(&config.state_dir)?,
            ..config
        };
        for folder in [&config.data_dir.join("tasks"), &config.data_dir.join("scratch"), &config.state_dir] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).at("create", folder)?;
        }
        let program = Program::of_this_process()?;
        let enforcement = probe(&program, &config.data_dir.join("scratch"))?;
        let ranges = Ranges::new(config.data_dir.join("uids"), config.uid_base, config.uid_count / WIDTH);
        Ok(Self(Arc::new(Inner { config, enforcement, program, ranges, turn: Mutex::new(()) })))
    }

    /// What this machine enforces.
    #[must_use]
    pub fn enforcement(&self) -> &Enforcement {
        &self.0.enforcement
    }

    /// A container's folder: `stdout`, `stderr`, `outputs/`, `exit.json`.
    #[must_use]
    pub fn task_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.config.data_dir.join("tasks").join(id.as_str())
    }

    fn state_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.config.state_dir.join(id.as_str())
    }

    /// Starts a container. Returns when its shim has taken it over; that it could not be made is told by
    /// [`Runtime::wait`] as [`EndCause::StartFailed`]. The same specification again is no second container.
    ///
    /// # Errors
    /// A specification that cannot be used, an id in use by another one, no user ids left, or no shim.
    pub async fn start(&self, spec: &ContainerSpec) -> Result<()> {
        spec.validate()?;
        let _turn = self.0.turn.lock().await;
        let (this, spec) = (self.clone(), spec.clone());
        let id = spec.id.clone();
        let Some(task_dir) = blocking(move || this.prepare(spec)).await? else { return Ok(()) };
        self.spawn_shim(&id, &task_dir).await
    }

    /// Writes the request. None when there is nothing to start any more.
    fn prepare(&self, spec: ContainerSpec) -> Result<Option<PathBuf>> {
        let id = spec.id.clone();
        let (task_dir, state_dir) = (self.task_dir(&id), self.state_dir(&id));
        let held = is_held(&task_dir)?;
        let old = match Request::read(&task_dir) {
            // What a power cut left of a request is none.
            Err(RuntimeError::Damaged { .. }) if !held => None,
            other => other?,
        };
        if let Some(old) = old {
            if old.spec != spec {
                return Err(RuntimeError::Conflict { id: id.to_string() });
            }
            let began = task_dir.join(shim::STARTED).exists() || ExitRecord::read(&task_dir)?.is_some();
            if began || held {
                return Ok(None);
            }
        }
        for folder in [&task_dir, &state_dir] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).at("create", folder)?;
        }
        let inner = &self.0;
        let range_first = match inner.enforcement.users {
            UserMapping::Range => Some(inner.ranges.take(&id)?),
            UserMapping::Single | UserMapping::None => None,
        };
        let request = Request {
            version: Request::VERSION,
            spec,
            task_dir: task_dir.clone(),
            state_dir,
            data_dir: inner.config.data_dir.clone(),
            range_first,
            uid_base: inner.config.uid_base,
            uid_ranges: inner.config.uid_count / WIDTH,
            create_timeout: inner.config.create_timeout,
            enforcement: inner.enforcement.clone(),
        };
        let path = task_dir.join(shim::REQUEST);
        let text = serde_json::to_vec(&request)
            .map_err(|source| RuntimeError::Damaged { path: path.clone(), source })?;
        // Not synced: after a power cut there is no container either, and the agent's own store knows what it took on.
        durable::replace(&path, &text, 0o600).at("write", &path)?;
        Ok(Some(task_dir))
    }

    async fn spawn_shim(&self, id: &ContainerId, task_dir: &Path) -> Result<()> {
        let log = task_dir.join(shim::LOG);
        let failed = |problem: String| RuntimeError::Shim { id: id.to_string(), problem, log: log.clone() };
        let messages = File::options().append(true).create(true).open(&log).at("open", &log)?;
        let mut command = self.0.program.shim(shim::RUN, task_dir);
        command.stdout(Stdio::piped()).stderr(messages);
        sosna_fault::passed("runtime/spawn-shim");
        let mut child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|e| failed(format!("could not be started: {e}")))?;
        let Some(mut out) = child.stdout.take() else { return Err(failed("has no stdout".into())) };
        let mut said = [0; shim::READY.len()];
        let ready = timeout(Duration::from_secs(10), out.read_exact(&mut said)).await;
        let is_ready = matches!(ready, Ok(Ok(_))) && said == *shim::READY;
        if is_ready {
            sosna_fault::passed("runtime/shim-ready");
            // Reaped whenever it ends; it lives on when we do not.
            drop(tokio::spawn(async move { child.wait().await }));
            return Ok(());
        }
        let _ = child.kill().await;
        Err(failed("did not come up".into()))
    }

    /// Waits for a container's end, also of one that an agent before us started.
    ///
    /// # Errors
    /// [`RuntimeError::Unknown`] when there is no such container; a record that cannot be read.
    pub async fn wait(&self, id: &ContainerId) -> Result<ExitRecord> {
        let task_dir = self.task_dir(id);
        loop {
            if let Some(record) = ExitRecord::read(&task_dir)? {
                return Ok(record);
            }
            if !task_dir.join(shim::REQUEST).exists() {
                return Err(RuntimeError::Unknown { id: id.to_string() });
            }
            if let Ok(mut stream) = self.connect(id).await
                && stream.write_all(b"wait\n").await.is_ok()
            {
                // The end of the connection is the end of the container, or of its shim. A connection may also
                // outlive both for a while in a child of the shim, so it is not trusted for ever.
                let _ = timeout(Duration::from_secs(2), stream.read(&mut [0])).await;
            } else {
                sleep(Duration::from_millis(100)).await;
            }
            if ExitRecord::read(&task_dir)?.is_none() && !is_held(&task_dir)? {
                self.settle(id).await?;
            }
        }
    }

    /// Asks a container to end (SIGTERM to its init, SIGKILL to all after `grace`) and waits until it has.
    ///
    /// # Errors
    /// As for [`Runtime::wait`]. A container that has ended already is fine.
    pub async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        if ExitRecord::read(&self.task_dir(id))?.is_none() {
            // Not to be reached means that it is ending or gone; waiting tells.
            let _ = self.order(id, &format!("stop {}", grace.as_millis())).await;
        }
        self.wait(id).await.map(drop)
    }

    /// Freezes all processes of a container. Its time goes on.
    ///
    /// # Errors
    /// When it does not run, or there is no cgroup to freeze.
    pub async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.order(id, "pause").await
    }

    /// Lets a frozen container go on.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.order(id, "resume").await
    }

    async fn order(&self, id: &ContainerId, order: &str) -> Result<()> {
        let log = self.task_dir(id).join(shim::LOG);
        let failed = |problem: String| RuntimeError::Shim { id: id.to_string(), problem, log: log.clone() };
        let talk = async {
            let mut stream = self.connect(id).await?;
            stream.write_all(format!("{order}\n").as_bytes()).await?;
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        match timeout(self.0.config.create_timeout, talk).await {
            Ok(Ok(answer)) if answer == *b"ok\n" => Ok(()),
            Ok(Ok(_)) => Err(failed(format!("could not do '{order}': there is no cgroup to freeze"))),
            Ok(Err(e)) => Err(failed(format!("cannot be reached ({e}): the container does not run"))),
            Err(_) => Err(failed("did not answer".into())),
        }
    }

    async fn connect(&self, id: &ContainerId) -> io::Result<UnixStream> {
        let folder = File::open(self.state_dir(id))?;
        UnixStream::connect(sys::fd_path(folder.as_fd()).join(shim::SOCKET)).await
    }

    /// All containers known here (asks the shims, so it may block for a moment).
    ///
    /// # Errors
    /// When the task folders cannot be read.
    pub fn list(&self) -> Result<Vec<(ContainerId, Phase)>> {
        let mut all = Vec::new();
        for id in self.ids()? {
            let task_dir = self.task_dir(&id);
            let phase = if ExitRecord::read(&task_dir)?.is_some() {
                Phase::Ended
            } else if is_held(&task_dir)? {
                if self.is_paused(&id) { Phase::Paused } else { Phase::Running }
            } else {
                Phase::Abandoned
            };
            all.push((id, phase));
        }
        all.sort();
        Ok(all)
    }

    fn is_paused(&self, id: &ContainerId) -> bool {
        let ask = || -> io::Result<[u8; 6]> {
            let folder = File::open(self.state_dir(id))?;
            let mut stream = StdStream::connect(sys::fd_path(folder.as_fd()).join(shim::SOCKET))?;
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            stream.write_all(b"phase\n")?;
            let mut answer = [0; 6];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer == *b"paused")
    }

    fn ids(&self) -> Result<Vec<ContainerId>> {
        let tasks = self.0.config.data_dir.join("tasks");
        let entries = fs::read_dir(&tasks).at("read", &tasks)?;
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|n| ContainerId::new(n).ok()).collect())
    }

    /// Clears up after shims that died (SIGKILL, power cut): kills what is left of their containers, removes
    /// their control groups, frees their user ids, and records their end as [`EndCause::Lost`]. Call it when the
    /// agent starts. Returns whom it settled.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn recover(&self) -> Result<Vec<ContainerId>> {
        let mut settled = Vec::new();
        let mut failure = None;
        for id in self.ids()? {
            match self.settle(&id).await {
                Ok(true) => settled.push(id),
                Ok(false) => {}
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        for id in self.0.ranges.holders() {
            // A shim that died after its last word, or a removal cut short.
            let task_dir = self.task_dir(&id);
            if !is_held(&task_dir)? && (!task_dir.exists() || ExitRecord::read(&task_dir)?.is_some()) {
                self.0.ranges.release(&id)?;
                let state_dir = self.state_dir(&id);
                durable::remove_tree(&state_dir).at("remove", state_dir)?;
            }
        }
        failure.map_or(Ok(settled), Err)
    }

    /// Settles one container if its shim is gone without a record; says whether it was so.
    async fn settle(&self, id: &ContainerId) -> Result<bool> {
        let _turn = self.0.turn.lock().await;
        let (this, id) = (self.clone(), id.clone());
        blocking(move || {
            let task_dir = this.task_dir(&id);
            if ExitRecord::read(&task_dir)?.is_some() || is_held(&task_dir)? {
                return Ok(false);
            }
            shim::sweep(&id, this.0.enforcement.cgroups)?;
            this.0.ranges.release(&id)?;
            let state_dir = this.state_dir(&id);
            durable::remove_tree(&state_dir).at("remove", state_dir)?;
            if !task_dir.join(shim::REQUEST).exists() {
                // An agent died before anything was promised: there is nothing to tell.
                durable::remove_tree(&task_dir).at("remove", task_dir)?;
                return Ok(false);
            }
            ExitRecord::without_run(id, EndCause::Lost, -1).write(&task_dir)?;
            Ok(true)
        })
        .await
    }

    /// Forgets a container: stops it if it runs, and removes record, outputs and logs. That there is none is fine.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        match self.stop(id, Duration::ZERO).await {
            Ok(()) | Err(RuntimeError::Unknown { .. } | RuntimeError::Damaged { .. }) => {}
            Err(e) => return Err(e),
        }
        let (this, id) = (self.clone(), id.clone());
        blocking(move || {
            let task_dir = this.task_dir(&id);
            // The request goes first: without it the rest is only litter, which recovery removes.
            match fs::remove_file(task_dir.join(shim::REQUEST)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).at("remove", task_dir),
                _ => {}
            }
            sosna_fault::point("runtime/remove").at("remove", &task_dir)?;
            durable::remove_tree(&task_dir).at("remove", task_dir)?;
            this.0.ranges.release(&id)
        })
        .await
    }
}

/// Whether a shim lives for this task.
fn is_held(task_dir: &Path) -> Result<bool> {
    let path = task_dir.join(shim::LOCK);
    match File::options().write(true).open(&path) {
        Ok(file) => sys::is_locked(&file).at("look at the lock", path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("open", path),
    }
}

fn probe(program: &Program, scratch: &Path) -> Result<Enforcement> {
    let failed = |problem: String| RuntimeError::Shim {
        id: "(probe)".into(),
        problem,
        log: PathBuf::from("this program's stderr"),
    };
    let output = program
        .shim(shim::PROBE, scratch)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| failed(format!("could not be started: {e}")))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| failed(format!("did not say what this machine enforces ({}, {e})", output.status)))
}

/// Runs what blocks away from the tasks of the agent.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(RuntimeError::Io {
            action: "finish the work on",
            path: "a container".into(),
            source: io::Error::other(e),
        }),
    }
}
