//! The end of jobs: stopped by somebody, or because all their tasks have ended.

use std::sync::Arc;

use sosna_protocol::{Amount, codec::Bounded, identity::JobId, message::work::Cancel};
use sosna_store::{Account, AssignmentState, Job, JobState, TaskState, Transfer, Tx};

use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    verify,
};

impl Hub {
    /// Stops a job. One that has ended stays as it ended.
    ///
    /// # Errors
    /// [`HubError`]; `not-found` where there is no such job.
    pub async fn cancel(self: &Arc<Self>, id: JobId) -> Result<Job, HubError> {
        self.change(move |tx, hub| {
            Box::pin(async move {
                let job = tx.job(&id).await?.ok_or_else(|| HubError::not_found("job"))?;
                if job.state.is_final() {
                    return Ok((job, Vec::new()));
                }
                let now = hub.now_ms();
                let mut effects = Vec::new();
                for task in tx.tasks_of(&id).await? {
                    if task.ended_ms.is_some() {
                        continue;
                    }
                    for assignment in tx.assignments_of_task(&task.id).await? {
                        if assignment.state.is_open() {
                            let why = "the job was cancelled";
                            tx.end_assignment(&assignment.id, AssignmentState::Cancelled, why).await?;
                            let cancel = Cancel { assignment: assignment.id, explanation: Bounded(why) };
                            effects.push(Effect::send(assignment.device, &cancel)?);
                            effects.push(Effect::Freed(assignment.id));
                        }
                    }
                    verify::release(tx, &task, now).await?;
                    tx.end_task(&task.id, TaskState::Cancelled, None, "", now).await?;
                    effects.push(Effect::Event(Event::Task(id, task.id)));
                }
                let job = end_job(tx, &job, JobState::Cancelled, now, &mut effects).await?;
                Ok((job, effects))
            })
        })
        .await
    }
}

/// Ends a job whose last task has ended.
pub(crate) async fn finish_job_if_done(
    tx: &mut Tx,
    id: &JobId,
    now_ms: u64,
    effects: &mut Vec<Effect>,
) -> Result<(), HubError> {
    let Some(job) = tx.job(id).await? else { return Ok(()) };
    // A job may have ten thousand tasks, and this is asked at the end of each.
    if job.state.is_final() || tx.has_open_tasks(id).await? {
        effects.push(Effect::Event(Event::Job(*id)));
        return Ok(());
    }
    let tasks = tx.tasks_of(id).await?;
    let all_well = tasks.iter().all(|task| task.end.is_some_and(|end| end.exit_code == 0));
    let state = if all_well { JobState::Succeeded } else { JobState::Failed };
    end_job(tx, &job, state, now_ms, effects).await.map(drop)
}

/// Gives back to the buyer what the job did not cost.
async fn end_job(
    tx: &mut Tx,
    job: &Job,
    state: JobState,
    now_ms: u64,
    effects: &mut Vec<Effect>,
) -> Result<Job, HubError> {
    let left = tx.balance(&Account::Job(job.id)).await?;
    if left > Amount::ZERO {
        tx.transfer(&Transfer {
            key: format!("release:{}", job.id),
            kind: "release",
            from: Account::Job(job.id),
            to: Account::Buyer(job.buyer.clone()),
            amount: left,
            job: Some(job.id),
            assignment: None,
            at_ms: now_ms,
        })
        .await?;
    }
    tx.set_job_state(&job.id, state, Some(now_ms)).await?;
    effects.push(Effect::Event(Event::Job(job.id)));
    Ok(Job { state, ended_ms: Some(now_ms), ..job.clone() })
}
