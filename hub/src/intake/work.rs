//! Whether a device will do what it was offered.

use std::sync::Arc;

use sosna_protocol::{
    codec::Bounded,
    message::work::{Cancel, Reason, Up},
};
use sosna_store::{AssignmentState, JobState, TaskState, Tx};

use super::{Heard, Trouble, admit};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    verify,
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    let known = Up::read(&heard.frame()?).map(drop).map_err(|error| sosna_host::report::line(&error));
    admit::take_outbox(hub, heard, |tx, hub, heard| {
        Box::pin(async move {
            match Up::read(&heard.frame()?) {
                Ok(Up::Accept(accept)) => accepted(tx, hub, heard, accept.assignment).await,
                Ok(Up::Refuse(refuse)) => {
                    let why = format!("{}: {}", refuse.reason.word(), refuse.explanation.0);
                    refused(tx, hub, heard, refuse.assignment, (refuse.reason, why.as_str())).await
                }
                Err(_) => Ok(Vec::new()),
            }
        })
    })
    .await?;
    known.map_err(Trouble::Drop)
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
