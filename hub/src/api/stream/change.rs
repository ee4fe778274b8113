//! Changes of a job, or of everything.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{extract::State, response::Response};
use sosna_api::{
    event::{CHANGE, Change, LAGGED},
    text::JobIdText,
};
use sosna_protocol::{
    Address,
    identity::{AssignmentId, JobId, TaskId},
};
use sosna_store::{Role, Tx};
use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{End, Listener, answer};
use crate::{
    api::{Caller, Failure, Served, extract::Named, view},
    error::HubError,
    hub::{Event, Hub},
};

/// Changes of one moment are told together: a task's verdict changes its assignments, itself and its job.
const MOMENT: Duration = Duration::from_millis(50);
/// How long after a job's end its last changes may come.
const AFTER_END: Duration = Duration::from_millis(200);
/// Jobs that the fleet's stream begins with.
const RECENT: u32 = 100;

/// What changed in a moment, each once.
#[derive(Debug, Default, Clone)]
struct Changed {
    jobs: BTreeSet<JobId>,
    tasks: BTreeSet<(JobId, TaskId)>,
    assignments: BTreeSet<(JobId, TaskId, AssignmentId)>,
    devices: BTreeSet<Address>,
    lagged: bool,
}

/// `GET /v1/jobs/{id}/events`.
pub(in crate::api) async fn job(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(id): Named<JobIdText>,
) -> Result<Response, Failure> {
    let hub = served.hub.clone();
    // From before the snapshot: what changes in between is told twice rather than never.
    let events = hub.watch();
    hub.store.read(|tx| Box::pin(async move { caller.own(tx.job(&id).await?).map(drop) })).await?;
    answer(&served, |listener| follow_job(hub, *id, events, listener))
}

/// `GET /v1/events`.
pub(in crate::api) async fn fleet(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Response, Failure> {
    caller.require(&[Role::Operator, Role::Admin])?;
    let hub = served.hub.clone();
    let events = hub.watch();
    answer(&served, |listener| follow_fleet(hub, events, listener))
}

async fn follow_job(
    hub: Arc<Hub>,
    id: JobId,
    mut events: Receiver<Event>,
    listener: Listener,
) -> Result<(), End> {
    let mut ended = tell_whole_job(&hub, id, &listener).await?;
    while !ended {
        let mut changed = next(&mut events, MOMENT).await?;
        if changed.lagged {
            listener.mark(LAGGED).await?;
            ended = tell_whole_job(&hub, id, &listener).await?;
            continue;
        }
        changed.keep_only(id);
        ended = tell(&hub, changed, &listener).await?;
    }
    // The job's end may have overtaken its tasks'.
    tokio::time::sleep(AFTER_END).await;
    let mut last = Changed::default();
    while last.take(events.try_recv().map_err(Into::into)) {}
    last.keep_only(id);
    last.jobs.insert(id);
    tell(&hub, last, &listener).await.map(drop)
}

async fn follow_fleet(hub: Arc<Hub>, mut events: Receiver<Event>, listener: Listener) -> Result<(), End> {
    let devices = hub.fleet().devices().iter().map(|live| live.device.address).collect();
    let jobs = hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let recent = tx.jobs(None, None, u64::MAX, RECENT).await?;
                Ok::<_, HubError>(recent.into_iter().map(|job| job.id).collect())
            })
        })
        .await?;
    tell(&hub, Changed { jobs, devices, ..Changed::default() }, &listener).await?;
    loop {
        let changed = next(&mut events, MOMENT).await?;
        if changed.lagged {
            listener.mark(LAGGED).await?;
        }
        tell(&hub, changed, &listener).await?;
    }
}

/// Waits for a change, and takes what comes with it.
async fn next(events: &mut Receiver<Event>, moment: Duration) -> Result<Changed, End> {
    let mut changed = Changed::default();
    if !changed.take(events.recv().await.map_err(Into::into)) {
        return Err(End::Gone);
    }
    tokio::time::sleep(moment).await;
    while changed.take(events.try_recv().map_err(Into::into)) {}
    Ok(changed)
}

async fn tell_whole_job(hub: &Arc<Hub>, id: JobId, listener: &Listener) -> Result<bool, End> {
    let shared = hub.clone();
    let detail = hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let job = tx.job(&id).await?.ok_or_else(|| HubError::not_found("job"))?;
                view::job_detail(tx, &shared, &job).await
            })
        })
        .await?;
    let at_ms = hub.now_ms();
    let ended = detail.job.state.is_final();
    listener.send(CHANGE, &Change::Job { at_ms, job: detail.job }).await?;
    for task in detail.tasks {
        listener.send(CHANGE, &Change::Task { at_ms, job: id.into(), task: Box::new(task) }).await?;
    }
    Ok(ended)
}

/// Tells what changed as it is now; says whether the last of the jobs has ended.
async fn tell(hub: &Arc<Hub>, changed: Changed, listener: &Listener) -> Result<bool, End> {
    let (shared, began) = (hub.clone(), Instant::now());
    let changes = hub.store.read(|tx| Box::pin(async move { look_up(tx, &shared, changed).await })).await?;
    // Looking up a very large job takes long: watching must leave the store to those who work.
    tokio::time::sleep((began.elapsed() * 3).saturating_sub(MOMENT)).await;
    let mut ended = false;
    for change in changes {
        if let Change::Job { job, .. } = &change {
            ended = job.state.is_final();
        }
        listener.send(CHANGE, &change).await?;
    }
    Ok(ended)
}

/// Assignments first and jobs last, so that who sees a job's end has seen everything before it.
async fn look_up(tx: &mut Tx, hub: &Hub, changed: Changed) -> Result<Vec<Change>, HubError> {
    let at_ms = hub.now_ms();
    let mut changes = Vec::new();
    for address in changed.devices {
        let live = hub.fleet().get(&address).cloned();
        if let Some(live) = live {
            let device = Box::new(view::device(tx, &live).await?);
            changes.push(Change::Device { at_ms, device });
        }
    }
    let whole: BTreeSet<TaskId> = changed.tasks.iter().map(|(_, task)| *task).collect();
    for (job, task, id) in changed.assignments {
        // A task comes with its assignments.
        let Some(stored) = tx.task(&task).await?.filter(|task| !whole.contains(&task.id)) else { continue };
        let all = tx.assignments_of_task(&task).await?;
        let Some(place) = all.iter().position(|one| one.id == id) else { continue };
        let assignment = view::assignment(hub, &all[place], view::round(&stored, place));
        changes.push(Change::Assignment {
            at_ms,
            job: job.into(),
            task: task.into(),
            index: stored.place,
            assignment: Box::new(assignment),
        });
    }
    for (id, task) in changed.tasks {
        let (Some(job), Some(stored)) = (tx.job(&id).await?, tx.task(&task).await?) else { continue };
        let assignments = tx.assignments_of_task(&task).await?;
        let task = Box::new(view::task(hub, &view::spec_of(&job)?, &stored, &assignments));
        changes.push(Change::Task { at_ms, job: id.into(), task });
    }
    for id in changed.jobs {
        if let Some(job) = tx.job(&id).await? {
            changes.push(Change::Job { at_ms, job: view::job(tx, &job).await? });
        }
    }
    Ok(changes)
}

// === impl Changed ===

/// Why there is no event.
enum NoEvent {
    Lagged,
    None,
}

impl From<RecvError> for NoEvent {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Lagged(_) => Self::Lagged,
            RecvError::Closed => Self::None,
        }
    }
}

impl From<TryRecvError> for NoEvent {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Lagged(_) => Self::Lagged,
            TryRecvError::Empty | TryRecvError::Closed => Self::None,
        }
    }
}

impl Changed {
    /// Notes an event; `false` where there was none.
    fn take(&mut self, event: Result<Event, NoEvent>) -> bool {
        match event {
            Ok(Event::Job(job)) => drop(self.jobs.insert(job)),
            Ok(Event::Task(job, task)) => drop(self.tasks.insert((job, task))),
            Ok(Event::Assignment(job, task, id)) => drop(self.assignments.insert((job, task, id))),
            Ok(Event::Device(device)) => drop(self.devices.insert(device)),
            Ok(Event::Log { .. }) => {}
            Err(NoEvent::Lagged) => self.lagged = true,
            Err(NoEvent::None) => return false,
        }
        true
    }

    fn keep_only(&mut self, job: JobId) {
        // A task's change is its job's: counts and price follow from it.
        let touched = self.tasks.iter().any(|(of, _)| *of == job);
        self.jobs.retain(|one| *one == job);
        if touched {
            self.jobs.insert(job);
        }
        self.tasks.retain(|(of, _)| *of == job);
        self.assignments.retain(|(of, _, _)| *of == job);
        self.devices.clear();
    }
}
