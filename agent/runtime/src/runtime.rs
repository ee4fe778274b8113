//! The agent's side: has shims started, talks to them, reads their records, and has what those that died left cleared up.
//! Must never create a container in its own process, nor write where shims do.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sosna_privsep::{Launcher, Monitor, Streams};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    enforcement::Enforcement,
    error::{At, Result, RuntimeError},
    record::ExitRecord,
    settings::{Prepared, RuntimeConfig, Settings},
    shim::{self, Reply},
    spec::{ContainerId, ContainerSpec},
    sys,
};

/// How long a shim may take until it can be talked to.
const COMES_UP: Duration = Duration::from_secs(10);
/// How long it may take to clear up after containers: what does not die at once is waited for.
const CLEARS_UP: Duration = Duration::from_secs(120);

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
    settings: Settings,
    launcher: Launcher,
    /// Held while a shim is being started or a lost container settled: the two must not meet.
    turn: Mutex<()>,
}

impl Runtime {
    /// Prepares everything and starts shims from this process's own rights; for programs that have none to give up. An
    /// agent takes the steps one by one: [`Prepared::new`], a monitor with [`Prepared::helpers`], [`Runtime::new`].
    ///
    /// # Errors
    /// As [`Prepared::new`]; when no monitor can be started.
    pub fn open(config: RuntimeConfig) -> Result<Self> {
        let prepared = Prepared::new(config)?;
        let monitor = Monitor::new(prepared.helpers()).and_then(Monitor::beside);
        let launcher = monitor.at("start the monitor of", "containers")?;
        Ok(Self::new(prepared, launcher))
    }

    /// Over what was prepared; the launcher's monitor knows [`Prepared::helpers`].
    #[must_use]
    pub fn new(prepared: Prepared, launcher: Launcher) -> Self {
        Self(Arc::new(Inner { settings: prepared.0, launcher, turn: Mutex::new(()) }))
    }

    /// What this machine enforces.
    #[must_use]
    pub fn enforcement(&self) -> &Enforcement {
        &self.0.settings.enforcement
    }

    /// A container's folder: `stdout`, `stderr`, `outputs/`, `exit.json`.
    #[must_use]
    pub fn task_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.settings.task_dir(id)
    }

    fn state_dir(&self, id: &ContainerId) -> PathBuf {
        self.0.settings.state_of(id)
    }

    /// Starts a container. Returns when its shim has taken it over; that it could not be made is told by
    /// [`Runtime::wait`] as [`EndCause::StartFailed`]. The same specification again is no second container.
    ///
    /// # Errors
    /// A specification that cannot be used, an id in use by another one, no user ids left, or no shim.
    pub async fn start(&self, spec: &ContainerSpec) -> Result<()> {
        self.0.settings.check(spec)?;
        let _turn = self.0.turn.lock().await;
        let text = serde_json::to_vec(spec)
            .map_err(|source| RuntimeError::Damaged { path: "the specification".into(), source })?;
        let input = Streams::reading(&text).at("pass the specification of", spec.id.as_str())?;
        sosna_fault::passed("runtime/spawn-shim");
        self.ask(shim::RUN, &spec.id, input, COMES_UP).await?;
        sosna_fault::passed("runtime/shim-ready");
        Ok(())
    }

    /// Has a helper do something, and hears what came of it. One that runs a container answers, and goes on.
    async fn ask(
        &self,
        helper: &'static str,
        id: impl ToString,
        streams: Streams,
        patience: Duration,
    ) -> Result<Vec<ContainerId>> {
        let id = id.to_string();
        // Only a shim has a log of its own; what is said of all goes where the agent's words go.
        let (whose, log) = match id.as_str() {
            "" => ("(all)", "the agent's log".into()),
            id => (id, self.0.settings.data_dir.join("tasks").join(id).join(shim::LOG)),
        };
        let failed = |problem: String| RuntimeError::Shim { id: whose.to_owned(), problem, log: log.clone() };
        let talk = async {
            let (ours, theirs) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            let streams = Streams { stdout: Some(theirs.into()), ..streams };
            let running = self.0.launcher.start(helper, &id, streams)?;
            let mut line = Vec::new();
            BufReader::new(UnixStream::from_std(ours)?).read_until(b'\n', &mut line).await?;
            if line.is_empty() {
                // It could not be started, or died: its end tells.
                let status = running.ended().await?;
                return Err(io::Error::other(format!("said nothing and ended ({status})")));
            }
            Ok::<_, io::Error>(line)
        };
        let line = match timeout(patience, talk).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(failed(format!("did not come up: {error}"))),
            Err(_) => return Err(failed("did not come up in time".into())),
        };
        match serde_json::from_slice::<Reply>(&line) {
            Ok(reply) => reply.read(|problem| failed(format!("could not {helper} it: {problem}"))),
            Err(error) => Err(failed(format!("is not understood: {error}"))),
        }
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
        match timeout(self.0.settings.create_timeout, talk).await {
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

    /// The names of all containers known here, whatever has become of them.
    ///
    /// # Errors
    /// When the task folders cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        self.0.settings.ids()
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

    /// Clears up after shims that died (SIGKILL, power cut): kills what is left of their containers, removes
    /// their control groups, frees their user ids, and records their end as [`EndCause::Lost`]. Call it when the
    /// agent starts. Returns whom it settled.
    ///
    /// # Errors
    /// The first failure, after all have been tried.
    pub async fn recover(&self) -> Result<Vec<ContainerId>> {
        let _turn = self.0.turn.lock().await;
        self.ask(shim::SETTLE, "", Streams::default(), CLEARS_UP).await
    }

    /// Settles one container if its shim is gone without a record.
    async fn settle(&self, id: &ContainerId) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        self.ask(shim::SETTLE, id, Streams::default(), CLEARS_UP).await.map(drop)
    }

    /// Forgets a container: stops it if it runs, and removes record, outputs and logs. That there is none is fine.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        // What keeps it from being stopped, such as a record that nobody can read, need not keep it from being removed:
        // the helper does that only where no shim lives.
        let stopped = self.stop(id, Duration::ZERO).await;
        let removed = self.ask(shim::REMOVE, id, Streams::default(), CLEARS_UP).await.map(drop);
        match stopped {
            Err(RuntimeError::Unknown { .. } | RuntimeError::Damaged { .. }) | Ok(()) => removed,
            Err(stopping) => removed.map_err(|_| stopping),
        }
    }
}

/// Whether a shim lives for this task.
fn is_held(task_dir: &Path) -> Result<bool> {
    let path = task_dir.join(shim::LOCK);
    match File::open(&path) {
        Ok(file) => sys::is_locked(&file).at("look at the lock", path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("open", path),
    }
}
