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
};

/// How many tasks are looked at in one go.
const BATCH: u32 = 512;
/// How long at most until a task that could not be placed is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until the hub stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    loop {
        // Whichever comes first; a wake-up in the meantime is not lost.
        let _ = tokio::time::timeout(PATIENCE, hub.work.notified()).await;
        loop {
            match round(&hub).await {
                Ok(placed) if placed > 0 => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!("scheduling failed: {}", sosna_host::report::line(&error));
                    break;
                }
            }
        }
    }
}

/// Places what can be placed now; returns how many replicas that were.
async fn round(hub: &Arc<Hub>) -> Result<usize, HubError> {
    let now = hub.now_ms();
    let open = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let mut open = Vec::new();
                for task in tx.open_tasks(now, BATCH).await? {
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
    for (task, assignments) in open {
        let spec = specs.entry(task.task.job).or_insert_with(|| JobSpec::read(&task.spec).map(Arc::new));
        let Some(spec) = spec.clone() else { continue };
        let mut holders: Vec<Holder> = assignments
            .iter()
            .map(|one| {
                // One that ran out may come back late; then its owner's second replica is what refuses it.
                let counts = one.state.is_open() || one.state == AssignmentState::Judged;
                holder(hub, one.device, counts)
            })
            .collect();
        let mut class = task.task.class;
        for _ in 0..task.missing {
            match choose(hub, &task, &spec, class, &holders) {
                Ok((id, placement)) => {
                    holders.push(holder(hub, placement.device, true));
                    class = class.or(Some(placement.class));
                    placed.push((task.clone(), spec.clone(), id, placement));
                }
                Err(reason) => {
                    let text = serde_json::to_string(&reason)
                        .map_err(|error| HubError::internal("a reason could not be written", error))?;
                    // Saying the same thing again would only wear the disk.
                    if task.task.reason != text {
                        unplaced.push((task.task.id, task.task.job, text));
                    }
                    break;
                }
            }
        }
    }
    let count = placed.len();
    if !unplaced.is_empty() {
        explain(hub, unplaced).await?;
    }
    if count > 0 {
        assign(hub, placed).await?;
    }
    Ok(count)
}

fn holder(hub: &Hub, device: sosna_protocol::Address, counts: bool) -> Holder {
    let fleet = hub.fleet();
    let live = fleet.get(&device);
    Holder { device, owner: live.and_then(owner_of), network: live.and_then(|live| live.network), counts }
}

/// Chooses a device and takes its room at once, so that the next choice sees it taken.
fn choose(
    hub: &Hub,
    task: &OpenTask,
    spec: &JobSpec,
    class: Option<sosna_protocol::resources::Class>,
    holders: &[Holder],
) -> Result<(AssignmentId, Placement), sosna_api::task::Unplaced> {
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
    let placement = place(fleet.devices(), &need, u64::from_be_bytes(sosna_host::random()))?;
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
                    effects.push(offer(&hub, &spec, (&job, open.count), task, &assignment, placement.class)?);
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
