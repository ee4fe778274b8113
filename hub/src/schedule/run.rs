//! The scheduler's loop: wakes when something may be placed, places what can be, says why the rest is not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sosna_protocol::{identity::AssignmentId, resources::Arch};
use sosna_store::{AssignmentState, NewAssignment, OpenTask};

use super::{
    offer,
    place::{Holder, Need, Placement, owner_of, place},
};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    job::JobSpec,
    verify,
};

/// How many tasks are looked at in one go.
const BATCH: u32 = 512;
/// How many times that is done in vain at one waking: beyond it, the next waking goes on where this one stopped, so
/// that many tasks that cannot be placed never keep others from being looked at.
const PAGES: u32 = 8;
/// How long at most until a task that could not be placed is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until the hub stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut skip = 0;
    loop {
        // Whichever comes first; a wake-up in the meantime is not lost.
        let _ = tokio::time::timeout(PATIENCE, hub.work.notified()).await;
        let mut in_vain = 0;
        while in_vain < PAGES {
            match round(&hub, skip).await {
                Ok(Round { looked_at, placed, waiting }) => {
                    skip += waiting;
                    in_vain += u32::from(placed == 0);
                    if looked_at < BATCH {
                        skip = 0;
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!("scheduling failed: {}", sosna_host::report::line(&error));
                    skip = 0;
                    break;
                }
            }
        }
    }
}

/// What came of looking at some tasks.
struct Round {
    /// How many those were.
    looked_at: u32,
    /// How many replicas were placed.
    placed: usize,
    /// How many of them still want a replica.
    waiting: u32,
}

/// Places what can be placed now of the tasks after the first `skip`.
async fn round(hub: &Arc<Hub>, skip: u32) -> Result<Round, HubError> {
    let now = hub.now_ms();
    let open = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let mut open = Vec::new();
                for task in tx.open_tasks_after(now, skip, BATCH).await? {
                    let holders = tx.assignments_of_task(&task.task.id).await?;
                    open.push((task, holders));
                }
                Ok::<_, HubError>(open)
            })
        })
        .await?;
    let mut specs: HashMap<_, Option<Arc<JobSpec>>> = HashMap::new();
    let mut placed = Vec::new();
    let mut unplaced = Vec::new();
    let mut result =
        Round { looked_at: u32::try_from(open.len()).unwrap_or(u32::MAX), placed: 0, waiting: 0 };
    // What a job's fresh tasks need is the same: where one cannot be placed, the others cannot either.
    let mut blocked: HashMap<_, String> = HashMap::new();
    for (task, assignments) in open {
        let spec = specs.entry(task.task.job).or_insert_with(|| JobSpec::read(&task.spec).map(Arc::new));
        let Some(spec) = spec.clone() else {
            result.waiting += 1;
            continue;
        };
        let mut holders: Vec<Holder> = assignments
            .iter()
            .filter(|one| one.ask_again_ms.is_none_or(|again| again > now))
            .map(|one| {
                // One that ran out may come back late; then its owner's second replica is what refuses it.
                let counts = one.state.is_open() || one.state == AssignmentState::Judged;
                holder(hub, one.device, counts)
            })
            .collect();
        let mut class = task.task.class;
        let fresh = holders.is_empty() && class.is_none();
        for _ in 0..task.missing {
            let known = blocked.get(&task.task.job).filter(|_| fresh && holders.is_empty());
            let choice = match known {
                Some(text) => Err(text.clone()),
                None => choose(hub, &task, &spec, class, &holders),
            };
            match choice {
                Ok((id, placement)) => {
                    holders.push(holder(hub, placement.device, true));
                    class = class.or(Some(placement.class));
                    placed.push((task.clone(), spec.clone(), id, placement));
                }
                Err(text) => {
                    result.waiting += 1;
                    if fresh && holders.is_empty() {
                        blocked.insert(task.task.job, text.clone());
                    }
                    // Saying the same thing again would only wear the disk.
                    if task.task.reason != text {
                        unplaced.push((task.task.id, task.task.job, text));
                    }
                    break;
                }
            }
        }
    }
    // First, because the devices' room is taken already.
    result.placed = placed.len();
    if !placed.is_empty() {
        assign(hub, placed).await?;
    }
    if !unplaced.is_empty() {
        explain(hub, unplaced).await?;
    }
    Ok(result)
}

fn holder(hub: &Hub, device: sosna_protocol::Address, counts: bool) -> Holder {
    let fleet = hub.fleet();
    let live = fleet.get(&device);
    Holder { device, owner: live.and_then(owner_of), network: live.and_then(|live| live.network), counts }
}

/// Chooses a device and takes its room at once, so that the next choice sees it taken; or says why there is none, in
/// the stored form.
fn choose(
    hub: &Hub,
    task: &OpenTask,
    spec: &JobSpec,
    class: Option<sosna_protocol::resources::Class>,
    holders: &[Holder],
) -> Result<(AssignmentId, Placement), String> {
    // Without exactness replicas still share an architecture: one image, one digest.
    let archs: Vec<Arch> = match class {
        Some(class) => vec![class.arch],
        None => spec.images.iter().map(|image| *image.arch).collect(),
    };
    let need = Need {
        archs: &archs,
        class: class.filter(|_| spec.exact_class()),
        resources: spec.resources(),
        timeout_ms: spec.request.timeout_ms,
        cap: task.cap,
        region: spec.request.region.as_deref(),
        holders,
        apart: task.task.asked > 1,
        probation_assignments: hub.config.probation.assignments,
    };
    let mut fleet = hub.fleet();
    let placement = place(fleet.devices(), &need, u64::from_be_bytes(sosna_host::random()))
        .map_err(|reason| serde_json::to_string(&reason).unwrap_or_default())?;
    let id = AssignmentId(sosna_host::random());
    fleet.take(id, placement.device, need.resources);
    Ok((id, placement))
}

type Placed = (OpenTask, Arc<JobSpec>, AssignmentId, Placement);

/// Stores the placements, then sends them.
async fn assign(hub: &Arc<Hub>, placed: Vec<Placed>) -> Result<(), HubError> {
    let taken: Vec<AssignmentId> = placed.iter().map(|(_, _, id, _)| *id).collect();
    let result = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                let now = hub.now_ms();
                let mut effects = Vec::new();
                for (open, spec, id, placement) in placed {
                    let task = &open.task;
                    // The task may have ended, or been given away, since it was read.
                    let current = tx.task(&task.id).await?;
                    let is_open = current
                        .is_some_and(|current| current.ended_ms.is_none() && current.state == task.state);
                    let new = NewAssignment {
                        id,
                        task: task.id,
                        device: placement.device,
                        owner: placement.owner,
                        price: placement.price,
                        lease_until_ms: now + u64::from(hub.config.times.offer_ms),
                        created_ms: now,
                    };
                    if !is_open || !tx.put_assignment(&new).await? {
                        effects.push(Effect::Freed(id));
                        continue;
                    }
                    if task.class.is_none() {
                        tx.set_task_class(&task.id, placement.class).await?;
                    }
                    tx.set_task_reason(&task.id, "").await?;
                    let (Some(assignment), Some(job)) = (tx.assignment(&id).await?, tx.job(&task.job).await?)
                    else {
                        return Err(HubError::Internal("an assignment vanished while it was made", None));
                    };
                    match offer(&hub, &spec, (&job, open.count), task, &assignment, placement.class) {
                        Ok(offer) => effects.push(offer),
                        // Nobody can be told of it: it must not keep the others from being told of theirs.
                        Err(error) => {
                            let why = sosna_host::report::line(&error);
                            effects.extend(verify::fail_task(tx, &hub, task, &why).await?);
                            continue;
                        }
                    }
                    effects.push(Effect::Event(Event::Assignment(task.job, task.id, id)));
                    hub.metrics.assignments_made.add_one();
                }
                Ok(((), effects))
            })
        })
        .await;
    if result.is_err() {
        let mut fleet = hub.fleet();
        taken.iter().for_each(|id| fleet.release(id));
    }
    result
}

async fn explain(
    hub: &Arc<Hub>,
    unplaced: Vec<(sosna_protocol::identity::TaskId, sosna_protocol::identity::JobId, String)>,
) -> Result<(), HubError> {
    hub.change(move |tx, _| {
        Box::pin(async move {
            let mut effects = Vec::new();
            for (task, job, reason) in unplaced {
                tx.set_task_reason(&task, &reason).await?;
                effects.push(Effect::Event(Event::Task(job, task)));
            }
            Ok(((), effects))
        })
    })
    .await
}
