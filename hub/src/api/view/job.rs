//! Jobs.

use std::collections::HashMap;

use sosna_api::job::{Job, JobDetail, JobPrice, JobState, TaskCounts};
use sosna_protocol::identity::TaskId;
use sosna_store::{Account, Assignment, Task, TaskCount, Tx};

use super::task::{standing, task, unplaced};
use crate::{error::HubError, hub::Hub, job::JobSpec};

/// A job's specification.
pub(crate) fn spec_of(job: &sosna_store::Job) -> Result<JobSpec, HubError> {
    JobSpec::read(&job.spec).ok_or(HubError::Internal("a job's specification cannot be read", None))
}

/// A job as in lists.
pub(crate) async fn job(tx: &mut Tx, job: &sosna_store::Job) -> Result<Job, HubError> {
    summary(tx, job, &spec_of(job)?).await
}

/// A job with its tasks and their assignments.
pub(crate) async fn job_detail(
    tx: &mut Tx,
    hub: &Hub,
    job: &sosna_store::Job,
) -> Result<JobDetail, HubError> {
    let spec = spec_of(job)?;
    let tasks = tx.tasks_of(&job.id).await?;
    let summary = summary(tx, job, &spec).await?;
    let mut assignments: HashMap<TaskId, Vec<Assignment>> = HashMap::new();
    for one in tx.assignments_of_job(&job.id).await? {
        assignments.entry(one.task).or_default().push(one);
    }
    let show = |one: Task| {
        let assignments = assignments.remove(&one.id).unwrap_or_default();
        task(hub, &spec, &one, &assignments)
    };
    let tasks = tasks.into_iter().map(show).collect();
    Ok(JobDetail { job: summary, spec: spec.request, tasks })
}

async fn summary(tx: &mut Tx, job: &sosna_store::Job, spec: &JobSpec) -> Result<Job, HubError> {
    let reserved = tx.balance(&Account::Job(job.id)).await?;
    let counts = count(&tx.task_counts(&job.id).await?);
    let explanation = explain(tx, job).await?;
    Ok(Job {
        id: job.id.into(),
        name: Some(job.name.clone()).filter(|name| !name.is_empty()),
        buyer: job.buyer.clone(),
        state: state(job.state),
        image: spec.request.image.to_string(),
        verification: spec.request.verification,
        counts,
        price: JobPrice { max: spec.request.max_price, reserved: reserved.into(), spent: job.spent.into() },
        created_ms: job.created_ms,
        finished_ms: job.ended_ms,
        explanation,
    })
}

const fn state(state: sosna_store::JobState) -> JobState {
    use sosna_store::JobState as Stored;
    match state {
        Stored::Queued => JobState::Queued,
        Stored::Running => JobState::Running,
        Stored::Succeeded => JobState::Succeeded,
        Stored::Failed => JobState::Failed,
        Stored::Cancelled => JobState::Cancelled,
    }
}

fn count(stored: &[TaskCount]) -> TaskCounts {
    use sosna_api::task::TaskState;
    let mut counts = TaskCounts::default();
    for TaskCount { state, well, count } in stored {
        counts.total += count;
        *match standing(*state, *well) {
            TaskState::Queued => &mut counts.queued,
            TaskState::Running => &mut counts.running,
            TaskState::Succeeded => &mut counts.succeeded,
            TaskState::Failed => &mut counts.failed,
            TaskState::Cancelled => &mut counts.cancelled,
        } += count;
    }
    counts
}

/// What is not as wished: why nothing is placed while the job waits, why a task failed once it has ended.
async fn explain(tx: &mut Tx, job: &sosna_store::Job) -> Result<Option<String>, HubError> {
    let ended = job.state.is_final();
    let Some(first) = tx.first_task_with_reason(&job.id, ended).await? else { return Ok(None) };
    Ok(match ended {
        true => Some(format!("task {}: {}", first.place, first.reason)),
        false => unplaced(&first).map(|unplaced| unplaced.explanation),
    })
}
