//! Jobs.

use std::collections::HashMap;

use sosna_api::job::{Job, JobDetail, JobPrice, JobState, TaskCounts};
use sosna_protocol::identity::TaskId;
use sosna_store::{Account, Assignment, Task, Tx};

use super::task::{shown_state, task, unplaced};
use crate::{error::HubError, hub::Hub, job::JobSpec};

/// A job's specification.
pub(crate) fn spec_of(job: &sosna_store::Job) -> Result<JobSpec, HubError> {
    JobSpec::read(&job.spec).ok_or(HubError::Internal("a job's specification cannot be read", None))
}

/// A job as in lists.
pub(crate) async fn job(tx: &mut Tx, job: &sosna_store::Job) -> Result<Job, HubError> {
    let tasks = tx.tasks_of(&job.id).await?;
    summary(tx, job, &spec_of(job)?, &tasks).await
}

/// A job with its tasks and their assignments.
pub(crate) async fn job_detail(
    tx: &mut Tx,
    hub: &Hub,
    job: &sosna_store::Job,
) -> Result<JobDetail, HubError> {
    let spec = spec_of(job)?;
    let tasks = tx.tasks_of(&job.id).await?;
    let summary = summary(tx, job, &spec, &tasks).await?;
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

async fn summary(
    tx: &mut Tx,
    job: &sosna_store::Job,
    spec: &JobSpec,
    tasks: &[Task],
) -> Result<Job, HubError> {
    let reserved = tx.balance(&Account::Job(job.id)).await?;
    let counts = count(tasks);
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
        explanation: explain(job.state.is_final(), tasks),
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

fn count(tasks: &[Task]) -> TaskCounts {
    use sosna_api::task::TaskState;
    let mut counts = TaskCounts::default();
    for task in tasks {
        counts.total += 1;
        *match shown_state(task) {
            TaskState::Queued => &mut counts.queued,
            TaskState::Running => &mut counts.running,
            TaskState::Succeeded => &mut counts.succeeded,
            TaskState::Failed => &mut counts.failed,
            TaskState::Cancelled => &mut counts.cancelled,
        } += 1;
    }
    counts
}

/// What is not as wished: why nothing is placed while the job waits, why a task failed once it has ended.
fn explain(ended: bool, tasks: &[Task]) -> Option<String> {
    if ended {
        let failed = |task: &&Task| task.state == sosna_store::TaskState::Failed && !task.reason.is_empty();
        let first = tasks.iter().find(failed)?;
        return Some(format!("task {}: {}", first.place, first.reason));
    }
    tasks.iter().find_map(unplaced).map(|unplaced| unplaced.explanation)
}
