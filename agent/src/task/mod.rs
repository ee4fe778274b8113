//! The assignments that this device holds: one driver each, which takes the next step from what the store says, so
//! that a restart at any moment goes on where the disk is.
//!
//! It must never start an assignment twice, nor let content or logs of a committed result leave the device before
//! the hub's signed "commitments are closed".

pub mod container;
pub(crate) mod decide;
mod deliver;
mod drive;
mod fetch;
mod logs;
mod outcome;
pub(crate) mod plan;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use sosna_host::{clock::Clock as _, content::ContentStore, file};
use sosna_layers::ImageStore;
use sosna_protocol::{
    identity::AssignmentId,
    message::beat::{Phase, Progress},
    result::Cause,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

use crate::{
    node::Node,
    store::{
        StoreError,
        record::{State, TaskRecord},
    },
};
use container::ContainerRuntime;

/// Frames of live output that wait to be sent. More are not made: the output is on disk and comes with the result.
const LIVE: usize = 4;
/// How long a container that is to be stopped may clean up.
const GRACE: Duration = Duration::from_secs(5);

/// Drives assignments.
#[derive(Debug)]
pub struct Engine {
    pub(crate) node: Arc<Node>,
    pub(crate) runtime: Arc<dyn ContainerRuntime>,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) inputs: ContentStore,
    pub(crate) credentials: HashMap<String, sosna_layers::RegistryAuth>,
    drivers: Mutex<HashMap<AssignmentId, Driver>>,
    live: mpsc::Sender<Vec<u8>>,
}

#[derive(Debug)]
struct Driver {
    hand: Arc<Hand>,
    join: JoinHandle<()>,
}

/// What the rest of the agent holds of a running driver.
#[derive(Debug)]
pub(crate) struct Hand {
    /// Something in the store has changed for it.
    pub(crate) wake: Notify,
    /// Raised when it is to stop at once.
    pub(crate) stop: watch::Sender<bool>,
    /// Thousandths of the present phase.
    pub(crate) permille: AtomicU16,
}

// === impl Engine ===

impl Engine {
    /// An engine, and the frames of live output that it makes.
    #[must_use]
    pub fn new(
        node: Arc<Node>,
        runtime: Arc<dyn ContainerRuntime>,
        images: Arc<ImageStore>,
        inputs: ContentStore,
        credentials: HashMap<String, sosna_layers::RegistryAuth>,
    ) -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (live, frames) = mpsc::channel(LIVE);
        let engine = Self { node, runtime, images, inputs, credentials, drivers: Mutex::default(), live };
        (Arc::new(engine), frames)
    }

    /// Goes on with everything that the store holds open, after containers without shims have been settled, and
    /// removes what belongs to nothing any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        match self.runtime.recover().await {
            Ok(settled) if settled.is_empty() => {}
            Ok(settled) => {
                tracing::warn!(containers = settled.len(), "containers were lost and have been settled")
            }
            Err(error) => tracing::error!("lost containers: {}", sosna_host::report::line(&error)),
        }
        let tasks = self.node.store.open_tasks()?;
        match self.runtime.known() {
            Ok(known) => {
                let wanted = |task: &&TaskRecord| task.is_open();
                let wanted: Vec<_> =
                    tasks.iter().filter(wanted).map(|task| plan::container(&task.assignment)).collect();
                for id in known.iter().filter(|id| !wanted.contains(id)) {
                    self.remove_container(id).await;
                }
            }
            Err(error) => tracing::error!("containers: {}", sosna_host::report::line(&error)),
        }
        self.remove_stale_results(&tasks);
        for task in tasks.iter().filter(|task| task.is_open()) {
            tracing::info!(assignment = %task.assignment, "going on with it");
            self.start(task.assignment);
        }
        Ok(())
    }

    /// A crash between the end of a record and the removal of its files leaves them: nobody needs them any more.
    fn remove_stale_results(&self, tasks: &[TaskRecord]) {
        let open =
            |name: &str| tasks.iter().any(|task| task.is_open() && task.assignment.to_string() == name);
        let folders = std::fs::read_dir(self.node.data.join("results")).into_iter().flatten().flatten();
        for folder in folders.filter(|folder| !open(&folder.file_name().to_string_lossy())) {
            if let Err(error) = std::fs::remove_dir_all(folder.path()) {
                tracing::warn!("cannot remove {}: {error}", folder.path().display());
            }
        }
    }

    /// Starts the driver of an assignment that the store holds; a running one is only woken.
    pub(crate) fn start(self: &Arc<Self>, assignment: AssignmentId) {
        let mut drivers = self.drivers();
        if let Some(driver) = drivers.get(&assignment)
            && !driver.join.is_finished()
        {
            driver.hand.wake.notify_one();
            return;
        }
        let hand = Arc::new(Hand {
            wake: Notify::new(),
            stop: watch::Sender::new(false),
            permille: AtomicU16::new(0),
        });
        let join = tokio::spawn(drive::drive(Arc::clone(self), assignment, Arc::clone(&hand)));
        drivers.insert(assignment, Driver { hand, join });
    }

    /// Ends an assignment at once, whose record is closed already: stops its container and removes what it left. It is
    /// done when the task is, for which nobody need wait.
    pub(crate) fn end(self: &Arc<Self>, assignment: AssignmentId) -> JoinHandle<()> {
        let driver = self.drivers().remove(&assignment);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(driver) = driver {
                driver.hand.stop.send_replace(true);
                driver.hand.wake.notify_one();
                // It ends by itself between two steps; one that hangs is cut off.
                let abort = driver.join.abort_handle();
                if tokio::time::timeout(Duration::from_secs(30), driver.join).await.is_err() {
                    abort.abort();
                }
            }
            engine.clean(&assignment).await;
        })
    }

    /// Removes all that an assignment left on this device but its record and its receipt.
    pub(crate) async fn clean(&self, assignment: &AssignmentId) {
        self.remove_container(&plan::container(assignment)).await;
        let folder = self.result_folder(assignment);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", folder.display());
            }
            _ => {}
        }
    }

    async fn remove_container(&self, id: &sosna_runtime::ContainerId) {
        match self.runtime.stop(id, GRACE).await {
            Ok(()) | Err(sosna_runtime::RuntimeError::Unknown { .. }) => {}
            Err(error) => tracing::warn!("container {id}: {}", sosna_host::report::line(&error)),
        }
        match self.runtime.remove(id).await {
            Ok(()) | Err(sosna_runtime::RuntimeError::Unknown { .. }) => {}
            Err(error) => tracing::warn!("container {id}: {}", sosna_host::report::line(&error)),
        }
    }

    pub(crate) fn result_folder(&self, assignment: &AssignmentId) -> std::path::PathBuf {
        self.node.data.join("results").join(assignment.to_string())
    }

    /// Where the manifest of an assignment's result lies.
    pub(crate) fn manifest_path(&self, assignment: &AssignmentId) -> std::path::PathBuf {
        self.result_folder(assignment).join("manifest.json")
    }

    /// How far every open assignment is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn progress(&self, tasks: &[TaskRecord]) -> Vec<Progress> {
        let drivers = self.drivers();
        tasks
            .iter()
            .filter(|task| task.is_open())
            .map(|task| Progress {
                assignment: task.assignment,
                phase: phase(task),
                permille: drivers
                    .get(&task.assignment)
                    .map_or(0, |driver| driver.hand.permille.load(Ordering::Relaxed)),
            })
            .collect()
    }

    /// Removes inputs that no open assignment needs and nobody has used for a while.
    pub(crate) fn collect_inputs(&self, tasks: &[TaskRecord]) {
        let needed: Vec<_> = tasks
            .iter()
            .filter(|task| task.is_active())
            .filter_map(|task| self.node.store.assign_frame(&task.assignment).ok().flatten())
            .filter_map(|frame| plan::Plan::of_frame(&frame))
            .flat_map(|plan| plan.inputs)
            .map(|input| input.sha256)
            .collect();
        let mut old = Vec::new();
        let listed = self.inputs.each(|name, _, taken| {
            let is_old = taken.elapsed().is_ok_and(|age| age > Duration::from_secs(3600));
            if is_old && !needed.contains(&name) {
                old.push(name);
            }
        });
        let removed = old.iter().map(|name| self.inputs.remove(name));
        for failed in std::iter::once(listed).chain(removed).filter_map(Result::err) {
            tracing::warn!("an old input: {}", sosna_host::report::line(&failed));
        }
    }

    fn drivers(&self) -> std::sync::MutexGuard<'_, HashMap<AssignmentId, Driver>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a frame of live output; `false` where the line is slow.
    pub(crate) fn offer_live(&self, frame: Vec<u8>) -> bool {
        self.live.try_send(frame).is_ok()
    }

    /// Closes an assignment without a result, and tells the hub.
    pub(crate) fn fail(
        &self,
        assignment: &AssignmentId,
        cause: Cause,
        explanation: &str,
    ) -> Result<(), StoreError> {
        tracing::warn!(%assignment, cause = cause.word(), "no result: {explanation}");
        let now_ms = self.node.clock.now_ms();
        self.node.store.write(|tx| match tx.task(assignment)?.filter(TaskRecord::is_open) {
            Some(task) => put_failed(tx, &self.node.hub, task, (cause, explanation), now_ms),
            None => Ok(()),
        })
    }
}

/// Writes down that there will be no result, and tells the hub.
pub(crate) fn put_failed(
    tx: &mut crate::store::Tx<'_>,
    hub: &sosna_protocol::Address,
    mut task: TaskRecord,
    (cause, explanation): (Cause, &str),
    now_ms: u64,
) -> Result<(), StoreError> {
    task.state = State::Failed { cause: cause.word().to_owned(), explanation: explanation.to_owned() };
    task.ended_ms = Some(now_ms);
    tx.put_task(&task)?;
    say_failed(tx, hub, &task.assignment, cause, explanation)
}

/// Tells the hub that there will be no result.
pub(crate) fn say_failed(
    tx: &mut crate::store::Tx<'_>,
    hub: &sosna_protocol::Address,
    assignment: &AssignmentId,
    cause: Cause,
    explanation: &str,
) -> Result<(), StoreError> {
    let explanation = sosna_host::report::cut(explanation, sosna_protocol::message::MAX_EXPLANATION);
    let failed = sosna_protocol::message::result::Failed {
        assignment: *assignment,
        cause,
        explanation: sosna_protocol::codec::Bounded(explanation),
    };
    tx.say(hub, &failed)
}

/// The protocol's word for how far a task is.
pub(crate) fn phase(task: &TaskRecord) -> Phase {
    match &task.state {
        State::Waiting => Phase::Fetching,
        State::Running => Phase::Running,
        State::Finished if task.commits && task.reveal_by_ms.is_none() => Phase::Committed,
        _ => Phase::Delivering,
    }
}

/// Makes the folders that the engine writes into.
///
/// # Errors
/// [`file::FileError`].
pub fn make_folders(data: &std::path::Path) -> Result<(), file::FileError> {
    file::create_folder(&data.join("results"))
}
