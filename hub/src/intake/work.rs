//! Whether a device will do what it was offered.

use std::sync::Arc;

use sosna_protocol::{
    codec::Bounded,
    frame::Frame,
    message::work::{Cancel, Reason, Up},
};
use sosna_store::{AssignmentState, JobState, TaskState, Tx};

use super::{
    Heard, Trouble,
    admit::{self, Novelty},
    drop_it,
};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    verify,
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    let frame = Frame::decode(&heard.payload).map_err(drop_it)?;
    let known = Up::read(&frame).map(drop).map_err(|error| sosna_host::report::line(&error));
    let device = heard.device;
    let novelty = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                let (novelty, ack) = admit::outbox(tx, &heard).await?;
                let mut effects = vec![ack];
                if novelty == Novelty::Fresh {
                    let frame = Frame::decode(&heard.payload)
                        .map_err(|error| HubError::internal("a frame", error))?;
                    match Up::read(&frame) {
                        Ok(Up::Accept(accept)) => {
                            effects.extend(accepted(tx, &hub, &heard, accept.assignment).await?)
                        }
                        Ok(Up::Refuse(refuse)) => {
                            let why = format!("{}: {}", refuse.reason.word(), refuse.explanation.0);
                            let told = (refuse.reason, why.as_str());
                            effects.extend(refused(tx, &hub, &heard, refuse.assignment, told).await?);
                        }
                        // Counted as taken all the same, or it would hold up everything behind it for ever.
                        Err(_) => {}
                    }
                    hub.metrics.messages_taken.add_one();
                }
                Ok((novelty, effects))
            })
        })
        .await?;
    after(hub, device, novelty).await?;
    known.map_err(Trouble::Drop)
}

/// What follows from whether a frame was new, for every outbox kind.
pub(super) async fn after(
    hub: &Arc<Hub>,
    device: sosna_protocol::Address,
    novelty: Novelty,
) -> Result<(), Trouble> {
    match novelty {
        Novelty::Fresh => {}
        Novelty::Known => hub.metrics.messages_replayed.add_one(),
        Novelty::Clone => {
            admit::quarantine(hub, device, "it said two things under one counter").await?;
        }
    }
    Ok(())
}

async fn accepted(
    tx: &mut Tx,
    hub: &Hub,
    heard: &Heard,
    id: sosna_protocol::identity::AssignmentId,
) -> Result<Vec<Effect>, HubError> {
    let now = hub.now_ms();
    let Some(one) = tx.assignment(&id).await?.filter(|one| one.device == heard.device) else {
        return Ok(Vec::new());
    };
    let Some(task) = tx.task(&one.task).await? else { return Ok(Vec::new()) };
    match one.state {
        AssignmentState::Offered => {
            tx.accept_assignment(&id, now + u64::from(hub.config.times.lease_ms), now).await?;
            if task.state == TaskState::Queued {
                tx.set_task_state(&task.id, TaskState::Running, None).await?;
                if tx.job(&task.job).await?.is_some_and(|job| job.state == JobState::Queued) {
                    tx.set_job_state(&task.job, JobState::Running, None).await?;
                }
            }
            Ok(vec![
                Effect::Event(Event::Assignment(task.job, task.id, id)),
                Effect::Event(Event::Task(task.job, task.id)),
                Effect::Event(Event::Job(task.job)),
            ])
        }
        AssignmentState::Accepted | AssignmentState::Committed | AssignmentState::Revealed => Ok(Vec::new()),
        _ => {
            let cancel =
                Cancel { assignment: id, explanation: Bounded("the offer was given to somebody else") };
            Ok(vec![Effect::send(heard.device, &cancel)?])
        }
    }
}

async fn refused(
    tx: &mut Tx,
    hub: &Hub,
    heard: &Heard,
    id: sosna_protocol::identity::AssignmentId,
    (reason, why): (Reason, &str),
) -> Result<Vec<Effect>, HubError> {
    let one = tx.assignment(&id).await?.filter(|one| {
        one.device == heard.device
            && matches!(one.state, AssignmentState::Offered | AssignmentState::Accepted)
    });
    let Some(one) = one else { return Ok(Vec::new()) };
    let effects = verify::give_up(tx, hub, &one, AssignmentState::Refused, why).await?;
    // Room, price list and exposure change; what a device cannot do at all it will not learn.
    if !matches!(reason, Reason::Unsupported | Reason::Malformed) {
        tx.ask_again(&one.id, verify::ask_again_at(hub)).await?;
    }
    Ok(effects)
}
