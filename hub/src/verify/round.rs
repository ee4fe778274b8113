//! The rounds of a replicated task: commitments come in, close, and are opened.

use sosna_protocol::{
    codec::Bounded,
    identity::TaskId,
    message::{
        result::{Closed, Judgement},
        work::Cancel,
    },
};
use sosna_store::{AssignmentState, TaskState, Tx};

use super::judge::{end_with, judge};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// Closes a task's commitments once as many are there as are wanted.
pub(crate) async fn close_if_complete(tx: &mut Tx, hub: &Hub, id: &TaskId) -> Result<Vec<Effect>, HubError> {
    let Some(task) = tx.task(id).await? else { return Ok(Vec::new()) };
    let assignments = tx.assignments_of_task(id).await?;
    let bound = assignments
        .iter()
        .filter(|one| matches!(one.state, AssignmentState::Committed | AssignmentState::Revealed))
        .count();
    if task.state != TaskState::Running || bound < usize::try_from(task.wanted).unwrap_or(usize::MAX) {
        return Ok(Vec::new());
    }
    let reveal_by_ms = hub.now_ms() + u64::from(hub.config.times.reveal_ms);
    tx.set_task_state(id, TaskState::Revealing, Some(reveal_by_ms)).await?;
    let mut effects = vec![Effect::Event(Event::Task(task.job, *id))];
    for assignment in assignments {
        match assignment.state {
            AssignmentState::Committed => {
                effects.push(Effect::send(
                    assignment.device,
                    &Closed { assignment: assignment.id, reveal_by_ms },
                )?);
            }
            // Somebody whose lease had been given away came back first.
            AssignmentState::Offered | AssignmentState::Accepted => {
                let why = "enough others have a result";
                tx.end_assignment(&assignment.id, AssignmentState::Cancelled, why).await?;
                // Those who were faster may yet fail to show what they have.
                tx.ask_again(&assignment.id, hub.now_ms()).await?;
                let cancel = Cancel { assignment: assignment.id, explanation: Bounded(why) };
                effects.push(Effect::send(assignment.device, &cancel)?);
                effects.push(Effect::Freed(assignment.id));
            }
            _ => {}
        }
    }
    Ok(effects)
}

/// Goes on without those who did not show in time what they had bound themselves to.
pub(crate) async fn expire_reveals(tx: &mut Tx, hub: &Hub, id: &TaskId) -> Result<Vec<Effect>, HubError> {
    let Some(task) = tx.task(id).await? else { return Ok(Vec::new()) };
    if task.state != TaskState::Revealing {
        return Ok(Vec::new());
    }
    let mut effects = Vec::new();
    for assignment in tx.assignments_of_task(id).await? {
        if assignment.state == AssignmentState::Committed {
            let why = "the committed result was not shown in time";
            // Once may be bad luck; who does it again chooses which results to show.
            let class = tx.image_class(id).await?;
            if tx.count_not_revealed(&assignment.device).await? > 0 {
                tx.count_invalid(&assignment.device, &class).await?;
            }
            tx.count_failed(&assignment.device, &class).await?;
            effects.extend(end_with(tx, hub, &task, &assignment, Judgement::NotRevealed, why).await?);
        }
    }
    effects.extend(judge(tx, hub, id).await?);
    Ok(effects)
}
