//! Judges what devices have shown, in the same transaction as the books.

use sosna_protocol::{
    Amount,
    codec::Bounded,
    identity::TaskId,
    message::{
        result::{Judgement, Verdict},
        work::Cancel,
    },
};
use sosna_store::{Account, Assignment, AssignmentState, JobState, Task, TaskEnd, TaskState, Transfer, Tx};

use super::decide::{Ballot, Decision, decide};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    job::finish_job_if_done,
};

/// Judges a task once everything that was committed has been shown (or has missed its deadline).
///
/// # Errors
/// [`HubError`]; then nothing is judged.
pub async fn judge(tx: &mut Tx, hub: &Hub, id: &TaskId) -> Result<Vec<Effect>, HubError> {
    let Some(task) = tx.task(id).await? else { return Ok(Vec::new()) };
    if task.ended_ms.is_some() {
        return Ok(Vec::new());
    }
    let assignments = tx.assignments_of_task(id).await?;
    if assignments.iter().any(|one| one.state == AssignmentState::Committed) {
        return Ok(Vec::new());
    }
    let shown: Vec<&Assignment> =
        assignments.iter().filter(|one| one.state == AssignmentState::Revealed).collect();
    let ballots: Vec<Ballot> = shown
        .iter()
        .filter_map(|one| {
            let revealed = one.revealed?;
            let committed_ms = one.committed_ms.or(one.revealed_ms).unwrap_or(u64::MAX);
            Some(Ballot { assignment: one.id, root: revealed.root, committed_ms })
        })
        .collect();
    let mut effects = vec![Effect::Event(Event::Task(task.job, *id))];
    if ballots.len() < usize::try_from(task.wanted).unwrap_or(usize::MAX) {
        tx.set_task_state(id, TaskState::Running, None).await?;
        effects.push(Effect::Schedule);
        return Ok(effects);
    }
    match decide(task.asked, &ballots) {
        Decision::Accept { root, paid, surplus, wrong } => {
            for one in &shown {
                let (judgement, why) = if paid.contains(&one.id) {
                    (Judgement::Accepted, "")
                } else if surplus.contains(&one.id) {
                    (Judgement::Surplus, "as many as were asked for were bound to the same result before")
                } else if wrong.contains(&one.id) {
                    (Judgement::Wrong, "more than half of the devices found another result")
                } else {
                    continue;
                };
                effects.extend(end_with(tx, hub, &task, one, judgement, why).await?);
            }
            // The paid ones all showed the same root; the first one's manifest is the result's.
            let first = shown.iter().find(|one| Some(&one.id) == paid.first()).and_then(|one| one.revealed);
            let Some(revealed) = first else { return Ok(effects) };
            let end = TaskEnd {
                root,
                manifest: revealed.manifest,
                cause: revealed.cause,
                exit_code: revealed.exit_code,
            };
            end_task(tx, hub, &task, Some(&end), "", &mut effects).await?;
        }
        Decision::More(wanted) => {
            tx.set_task_wanted(id, wanted).await?;
            tx.set_task_state(id, TaskState::Running, None).await?;
            effects.push(Effect::Schedule);
        }
        Decision::GiveUp => {
            let why = format!(
                "{} devices of different owners found no result that most of them share; \
                is the task deterministic?",
                ballots.len()
            );
            end_task(tx, hub, &task, None, &why, &mut effects).await?;
        }
    }
    Ok(effects)
}

/// Ends an assignment that will bring no result: its device refused, failed, was silent for too long, or was
/// revoked. The task is given to somebody else, or fails after too many attempts.
///
/// # Errors
/// [`HubError`]; then nothing has changed.
pub async fn give_up(
    tx: &mut Tx,
    hub: &Hub,
    assignment: &Assignment,
    state: AssignmentState,
    explanation: &str,
) -> Result<Vec<Effect>, HubError> {
    tx.end_assignment(&assignment.id, state, explanation).await?;
    if matches!(state, AssignmentState::Failed | AssignmentState::Expired) {
        tx.count_failed(&assignment.device).await?;
    }
    // One that accepted and was not heard of any more may still bring its result: it is not asked again as long
    // as it has not said that the work is lost. Nor is one that was bound to a result.
    let unanswered = state == AssignmentState::Expired && assignment.accepted_ms.is_none();
    if assignment.commitment.is_none() && (unanswered || state == AssignmentState::Failed) {
        tx.ask_again(&assignment.id, ask_again_at(hub)).await?;
    }
    let mut effects = vec![Effect::Freed(assignment.id), Effect::Schedule];
    let Some(task) = tx.task(&assignment.task).await? else { return Ok(effects) };
    effects.push(Effect::Event(Event::Assignment(task.job, task.id, assignment.id)));
    if let Some(device) = tx.device(&assignment.device).await? {
        effects.push(Effect::Describe(Box::new(device)));
    }
    if task.ended_ms.is_some() {
        return Ok(effects);
    }
    if !tx.assignments_of_task(&task.id).await?.iter().any(|one| one.state.is_open()) {
        tx.clear_task_class(&task.id).await?;
    }
    let not_before_ms = hub.now_ms() + u64::from(hub.config.times.retry_ms);
    // Only what began and came to nothing says something about the task.
    let counts = matches!(state, AssignmentState::Failed | AssignmentState::Expired) && !unanswered;
    if counts {
        tx.count_attempt(&task.id, not_before_ms).await?;
    } else {
        tx.delay_task(&task.id, not_before_ms).await?;
    }
    if counts && task.attempts.saturating_add(1) >= hub.config.limits.attempts {
        let why = format!("{} devices could not do it; the last one said: {explanation}", task.attempts + 1);
        end_task(tx, hub, &task, None, &why, &mut effects).await?;
    } else if task.state == TaskState::Revealing {
        // It had been bound to a result: the others may now be complete.
        effects.extend(Box::pin(judge(tx, hub, &task.id)).await?);
    }
    Ok(effects)
}

/// From when on a device is asked again that would not or could not do a task.
pub(crate) fn ask_again_at(hub: &Hub) -> u64 {
    hub.now_ms() + u64::from(hub.config.times.ask_again_ms)
}

/// Ends a task that cannot be done at all.
///
/// # Errors
/// [`HubError`]; then nothing has changed.
pub(crate) async fn fail_task(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    reason: &str,
) -> Result<Vec<Effect>, HubError> {
    let mut effects = Vec::new();
    end_task(tx, hub, task, None, reason, &mut effects).await?;
    Ok(effects)
}

/// Ends an assignment with a verdict; one that is accepted is booked in the same transaction.
pub(super) async fn end_with(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    assignment: &Assignment,
    judgement: Judgement,
    explanation: &str,
) -> Result<Vec<Effect>, HubError> {
    let now = hub.now_ms();
    let owed = if judgement == Judgement::Accepted { assignment.price } else { Amount::ZERO };
    tx.judge_assignment(&assignment.id, judgement, owed, explanation, now).await?;
    match judgement {
        Judgement::Accepted => {
            earn(tx, task, assignment, now).await?;
            tx.count_valid(&assignment.device, hub.config.probation.results).await?;
            hub.metrics.results_accepted.add_one();
        }
        Judgement::Surplus => tx.count_valid(&assignment.device, hub.config.probation.results).await?,
        Judgement::Wrong => {
            tx.count_invalid(&assignment.device).await?;
            hub.metrics.results_wrong.add_one();
        }
        Judgement::Late | Judgement::Void | Judgement::NotRevealed => {}
    }
    let verdict = Verdict { assignment: assignment.id, judgement, owed, explanation: Bounded(explanation) };
    let mut effects = vec![
        Effect::send(assignment.device, &verdict)?,
        Effect::Freed(assignment.id),
        Effect::Event(Event::Assignment(task.job, task.id, assignment.id)),
        Effect::Event(Event::Device(assignment.device)),
    ];
    if let Some(device) = tx.device(&assignment.device).await? {
        effects.push(Effect::Describe(Box::new(device)));
    }
    Ok(effects)
}

/// Moves an assignment's price from what was set aside to its device: once, whatever happens.
async fn earn(tx: &mut Tx, task: &Task, assignment: &Assignment, now_ms: u64) -> Result<(), HubError> {
    let booked = tx
        .transfer(&Transfer {
            key: format!("earn:{}", assignment.id),
            kind: "earn",
            from: Account::Job(task.job),
            to: Account::Device(assignment.device),
            amount: assignment.price,
            job: Some(task.job),
            assignment: Some(assignment.id),
            at_ms: now_ms,
        })
        .await?;
    if booked && let Some(job) = tx.job(&task.job).await? {
        let spent = job.spent.checked_add(assignment.price).ok_or(sosna_store::LedgerError::Overflow)?;
        tx.set_job_spent(&task.job, spent).await?;
    }
    Ok(())
}

/// Ends a task, whatever of it is still open, and its job if it was the last.
async fn end_task(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    end: Option<&TaskEnd>,
    reason: &str,
    effects: &mut Vec<Effect>,
) -> Result<(), HubError> {
    let now = hub.now_ms();
    for assignment in tx.assignments_of_task(&task.id).await? {
        match assignment.state {
            AssignmentState::Revealed | AssignmentState::Committed => {
                let why = if end.is_some() {
                    "the task was decided without it"
                } else {
                    "the task came to nothing"
                };
                let judgement = if end.is_some() { Judgement::Late } else { Judgement::Void };
                effects.extend(end_with(tx, hub, task, &assignment, judgement, why).await?);
            }
            AssignmentState::Offered | AssignmentState::Accepted => {
                let why = "the task has ended";
                tx.end_assignment(&assignment.id, AssignmentState::Cancelled, why).await?;
                let cancel = Cancel { assignment: assignment.id, explanation: Bounded(why) };
                effects.push(Effect::send(assignment.device, &cancel)?);
                effects.push(Effect::Freed(assignment.id));
            }
            _ => {}
        }
    }
    let state = if end.is_some() { TaskState::Accepted } else { TaskState::Failed };
    tx.end_task(&task.id, state, end, reason, now).await?;
    if let Some(end) = end {
        tx.add_job_content(&task.job, &end.manifest).await?;
        for (name, _) in hub.manifest_content(&end.manifest) {
            tx.add_job_content(&task.job, &name).await?;
        }
    }
    tx.set_job_state(&task.job, JobState::Running, None).await?;
    effects.push(Effect::Event(Event::Task(task.job, task.id)));
    finish_job_if_done(tx, &task.job, now, effects).await
}
