//! Stores what was placed, then sends it.

use std::sync::Arc;

use sosna_protocol::identity::AssignmentId;
use sosna_store::{NewAssignment, OpenTask, Task, Tx};

use super::{offer, place::Placement};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    job::JobSpec,
    verify,
};

/// A replica that was placed, and the one that checks it.
pub(super) struct Placed {
    pub(super) open: OpenTask,
    pub(super) spec: Arc<JobSpec>,
    pub(super) id: AssignmentId,
    pub(super) placement: Placement,
    pub(super) check: Option<(AssignmentId, Placement)>,
}

/// Stores the placements, then sends them. Returns how many there are of those that still could be stored.
pub(super) async fn assign(hub: &Arc<Hub>, placed: Vec<Placed>) -> Result<usize, HubError> {
    let ids = |one: &Placed| [Some(one.id), one.check.as_ref().map(|(id, _)| *id)];
    let taken: Vec<AssignmentId> = placed.iter().flat_map(ids).flatten().collect();
    let result = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                let mut effects = Vec::new();
                let mut stored = 0;
                for one in placed {
                    stored += usize::from(store(tx, &hub, one, &mut effects).await?);
                }
                Ok((stored, effects))
            })
        })
        .await;
    if result.is_err() {
        let mut fleet = hub.fleet();
        taken.iter().for_each(|id| fleet.release(id));
    }
    result
}

async fn store(tx: &mut Tx, hub: &Hub, placed: Placed, effects: &mut Vec<Effect>) -> Result<bool, HubError> {
    let Placed { open, spec, id, placement, check } = placed;
    // The task may have ended, or been given away, since it was read.
    let current = tx.task(&open.task.id).await?;
    let is_open = current.as_ref().is_some_and(|current| {
        let task = &open.task;
        current.ended_ms.is_none() && current.state == task.state && current.check == task.check
    });
    let Some(mut task) = current.filter(|_| is_open) else {
        effects.push(Effect::Freed(id));
        effects.extend(check.map(|(id, _)| Effect::Freed(id)));
        return Ok(false);
    };
    let time_ms = spec.request.timeout_ms;
    let affordable = verify::afford(tx, hub, &task, &id, placement.price).await?;
    if !affordable || !put(tx, hub, &task, id, (&placement, time_ms)).await? {
        effects.push(Effect::Freed(id));
        effects.extend(check.map(|(id, _)| Effect::Freed(id)));
        return Ok(false);
    }
    if task.class.is_none() {
        tx.set_task_class(&task.id, placement.class).await?;
    }
    tx.set_task_reason(&task.id, "").await?;
    let mut both = vec![(id, placement)];
    if let Some((second, other)) = check {
        let most = placement.price.max(other.price);
        match verify::begin(tx, hub, &task, &id, most).await? {
            // The second may have been given the task since; then the check waits for another one.
            Some(checked) => {
                task = checked;
                match put(tx, hub, &task, second, (&other, time_ms)).await? {
                    true => both.push((second, other)),
                    false => effects.push(Effect::Freed(second)),
                }
            }
            None => effects.push(Effect::Freed(second)),
        }
    }
    for (id, placement) in both {
        let (Some(assignment), Some(job)) = (tx.assignment(&id).await?, tx.job(&task.job).await?) else {
            return Err(HubError::Internal("an assignment vanished while it was made", None));
        };
        match offer(hub, &spec, (&job, open.count), &task, &assignment, placement.class) {
            Ok(offer) => effects.push(offer),
            // Nobody can be told of it: it must not keep the others from being told of theirs.
            Err(error) => {
                let why = sosna_host::report::line(&error);
                effects.extend(verify::fail_task(tx, hub, &task, &why).await?);
                break;
            }
        }
        effects.push(Effect::Event(Event::Assignment(task.job, task.id, id)));
        hub.metrics.assignments_made.add_one();
    }
    Ok(true)
}

async fn put(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    id: AssignmentId,
    (placement, time_ms): (&Placement, u64),
) -> Result<bool, HubError> {
    let now = hub.now_ms();
    let new = NewAssignment {
        id,
        task: task.id,
        device: placement.device,
        owner: placement.owner,
        price: placement.price,
        lease_until_ms: now + u64::from(hub.config.times.offer_ms),
        created_ms: now,
        time_ms: time_ms.saturating_add(u64::from(hub.config.times.beside_ms)),
    };
    Ok(tx.put_assignment(&new).await?)
}
