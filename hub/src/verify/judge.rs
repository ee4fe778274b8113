//! Judges what devices have shown, in the same transaction as the books.

use sosna_protocol::{
    Address, Amount,
    codec::Bounded,
    identity::{AssignmentId, TaskId},
    message::{
        result::{Judgement, Verdict},
        work::Cancel,
    },
    resources::Arch,
    result::Cause,
};
use sosna_store::{
    Account, Assignment, AssignmentState, CheckState, JobState, Task, TaskEnd, TaskState, Transfer, Tx,
};

use super::{
    check,
    decide::{Ballot, Decision, Standing, decide, decide_checked, in_standing},
};
use crate::{
    error::HubError,
    fleet::reputation,
    hub::{Effect, Event, Hub},
    job::finish_job_if_done,
    ledger,
};

/// Whose money an accepted result is paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payer {
    /// What the buyer's job has set aside.
    Buyer,
    /// What the operator has set aside to have a device checked.
    Operator,
}

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
    let class = tx.image_class(id).await?;
    let mut ballots: Vec<Ballot> = Vec::new();
    for one in &shown {
        let Some(revealed) = one.revealed else { continue };
        let committed_ms = one.committed_ms.or(one.revealed_ms).unwrap_or(u64::MAX);
        let standing = standing(tx, hub, &one.device, &class).await?;
        ballots.push(Ballot { assignment: one.id, root: revealed.root, committed_ms, standing });
    }
    let mut effects = vec![Effect::Event(Event::Task(task.job, *id))];
    if ballots.len() < usize::try_from(task.wanted).unwrap_or(usize::MAX) {
        tx.set_task_state(id, TaskState::Running, None).await?;
        effects.push(Effect::Schedule);
        return Ok(effects);
    }
    let decision = match task.check {
        Some(check) => decide_checked(check.state == CheckState::Open, &ballots),
        None => decide(task.asked, &ballots),
    };
    match decision {
        Decision::Accept { root, paid, surplus, wrong } => {
            let by_operator = extra(&task, &ballots, &paid);
            for one in &shown {
                let (judgement, why) = if paid.contains(&one.id) {
                    let payer = if by_operator.contains(&one.id) { Payer::Operator } else { Payer::Buyer };
                    let verified = task.asked > 1 || task.check.is_some();
                    effects.extend(accept(tx, hub, &task, one, payer, verified).await?);
                    continue;
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
        Decision::Single(chosen) => {
            let Some(best) = shown.iter().find(|one| one.id == chosen) else { return Ok(effects) };
            let Some(revealed) = best.revealed else { return Ok(effects) };
            effects.extend(accept(tx, hub, &task, best, Payer::Buyer, false).await?);
            for one in shown.iter().filter(|one| one.id != chosen) {
                let is_same = one.revealed.is_some_and(|other| other.root == revealed.root);
                let (judgement, why) = match is_same {
                    true => (Judgement::Surplus, "one result was asked for, and another one counts"),
                    false => (
                        Judgement::Void,
                        "the devices found different results, and nobody could say which is right",
                    ),
                };
                effects.extend(end_with(tx, hub, &task, one, judgement, why).await?);
            }
            let end = TaskEnd {
                root: revealed.root,
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
    end_unpaid(tx, hub, assignment, (state, None), explanation).await
}

/// Ends an assignment as [`give_up`] does, where it came to nothing by this cause. Where that may be the task's own fault, the
/// device's past has it when another one could do it, and not before: whoever sends tasks that nobody can do would take
/// every device's good name. A device that was bound to a result had all that it needed.
///
/// # Errors
/// [`HubError`]; then nothing has changed.
pub async fn give_up_by(
    tx: &mut Tx,
    hub: &Hub,
    assignment: &Assignment,
    (state, cause): (AssignmentState, Cause),
    explanation: &str,
) -> Result<Vec<Effect>, HubError> {
    let is_in_doubt = assignment.state == AssignmentState::Accepted && cause.may_be_the_tasks();
    end_unpaid(tx, hub, assignment, (state, is_in_doubt.then_some(cause)), explanation).await
}

/// Ends an assignment, by a cause that is kept and counts later, or without one; and gives its task to somebody else, or
/// fails it after too many attempts.
async fn end_unpaid(
    tx: &mut Tx,
    hub: &Hub,
    assignment: &Assignment,
    (state, doubt): (AssignmentState, Option<Cause>),
    explanation: &str,
) -> Result<Vec<Effect>, HubError> {
    let class = tx.image_class(&assignment.task).await?;
    match doubt {
        Some(cause) => tx.end_assignment_by(&assignment.id, state, cause, explanation).await?,
        None => {
            tx.end_assignment(&assignment.id, state, explanation).await?;
            if matches!(state, AssignmentState::Failed | AssignmentState::Expired) {
                tx.count_failed(&assignment.device, &class).await?;
            }
        }
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
    effects.extend(news(tx, &assignment.device, &class).await?);
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
        let why = match task.attempts {
            0 => format!("a device could not do it: {explanation}"),
            before => format!("{} devices could not do it; the last one said: {explanation}", before + 1),
        };
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

/// Ends an assignment whose result counts: booked in the same transaction, once, whatever happens.
async fn accept(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    assignment: &Assignment,
    payer: Payer,
    verified: bool,
) -> Result<Vec<Effect>, HubError> {
    let (now, price) = (hub.now_ms(), assignment.price);
    tx.judge_assignment(&assignment.id, Judgement::Accepted, price, "", now).await?;
    earn(tx, task, assignment, payer, now).await?;
    let class = tx.image_class(&task.id).await?;
    tx.count_valid(&assignment.device, &class, verified, hub.config.probation.results).await?;
    hub.metrics.results_accepted.add_one();
    told(tx, task, assignment, (Judgement::Accepted, price), &class, "").await
}

/// Ends an assignment with a verdict by which nothing is owed.
pub(super) async fn end_with(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    assignment: &Assignment,
    judgement: Judgement,
    explanation: &str,
) -> Result<Vec<Effect>, HubError> {
    tx.judge_assignment(&assignment.id, judgement, Amount::ZERO, explanation, hub.now_ms()).await?;
    let class = tx.image_class(&task.id).await?;
    match judgement {
        Judgement::Surplus => {
            tx.count_valid(&assignment.device, &class, true, hub.config.probation.results).await?;
        }
        Judgement::Wrong => {
            tx.count_invalid(&assignment.device, &class).await?;
            hub.metrics.results_wrong.add_one();
        }
        Judgement::Accepted | Judgement::Late | Judgement::Void | Judgement::NotRevealed => {}
    }
    told(tx, task, assignment, (judgement, Amount::ZERO), &class, explanation).await
}

/// Tells an assignment's end, to its device with what all its work ever came to.
async fn told(
    tx: &mut Tx,
    task: &Task,
    assignment: &Assignment,
    (judgement, owed): (Judgement, Amount),
    class: &str,
    explanation: &str,
) -> Result<Vec<Effect>, HubError> {
    let earned = match judgement {
        Judgement::Accepted => Some(tx.ever_taken(&Account::Device(assignment.device)).await?),
        _ => None,
    };
    let explanation = Bounded(explanation);
    let verdict = Verdict { assignment: assignment.id, judgement, owed, explanation, earned };
    let mut effects = vec![
        Effect::send(assignment.device, &verdict)?,
        Effect::Freed(assignment.id),
        Effect::Event(Event::Assignment(task.job, task.id, assignment.id)),
        Effect::Event(Event::Device(assignment.device)),
    ];
    effects.extend(news(tx, &assignment.device, class).await?);
    Ok(effects)
}

/// Who of those that are paid is paid by the operator: all but one, where a device is checked. The buyer gets the
/// best standing.
fn extra(task: &Task, ballots: &[Ballot], paid: &[AssignmentId]) -> Vec<AssignmentId> {
    if task.check.is_none() {
        return Vec::new();
    }
    let ordered = in_standing(ballots).into_iter().map(|one| one.assignment);
    ordered.filter(|one| paid.contains(one)).skip(1).collect()
}

/// What a device's word is worth where nobody can confirm it.
async fn standing(tx: &mut Tx, hub: &Hub, device: &Address, class: &str) -> Result<Standing, HubError> {
    let Some(found) = tx.device(device).await? else { return Ok(Standing::default()) };
    let record = tx.record(device, class).await?;
    let results = hub.config.probation.results;
    Ok(Standing {
        established: !reputation::wants_check(&found, record.as_ref(), results),
        score: reputation::within(&found, record.as_ref()),
    })
}

/// What has changed of a device, for the picture of the fleet.
async fn news(tx: &mut Tx, address: &Address, class: &str) -> Result<Vec<Effect>, HubError> {
    let mut effects = vec![Effect::Owed(*address, ledger::unvouchered(tx, address).await?)];
    if let Some(device) = tx.device(address).await? {
        effects.push(Effect::Describe(Box::new(device)));
    }
    if let Some(record) = tx.record(address, class).await? {
        effects.push(Effect::Record(*address, class.to_owned(), record));
    }
    Ok(effects)
}

/// Moves an assignment's price from what was set aside to its device: once, whatever happens.
async fn earn(
    tx: &mut Tx,
    task: &Task,
    assignment: &Assignment,
    payer: Payer,
    now_ms: u64,
) -> Result<(), HubError> {
    let (kind, from) = match payer {
        Payer::Buyer => ("earn", Account::Job(task.job)),
        Payer::Operator => ("verification", Account::Check(task.id)),
    };
    let booked = tx
        .transfer(&Transfer {
            key: format!("earn:{}", assignment.id),
            kind,
            from,
            to: Account::Device(assignment.device),
            amount: assignment.price,
            job: Some(task.job),
            assignment: Some(assignment.id),
            at_ms: now_ms,
        })
        .await?;
    if booked
        && payer == Payer::Buyer
        && let Some(job) = tx.job(&task.job).await?
    {
        let spent = job.spent.checked_add(assignment.price).ok_or(sosna_store::LedgerError::Overflow)?;
        tx.set_job_spent(&task.job, spent).await?;
        ledger::deposits::count_spent(tx, &job.buyer, assignment.price).await?;
    }
    Ok(())
}

/// Counts what was not counted as long as it might be the task's fault: another device has done the task, one for which it is
/// the same image.
async fn blame(tx: &mut Tx, task: &Task, effects: &mut Vec<Effect>) -> Result<(), HubError> {
    let unblamed = tx.unblamed(&task.id).await?;
    if unblamed.is_empty() {
        return Ok(());
    }
    let class = tx.image_class(&task.id).await?;
    let (mut did, mut archs) = (Vec::new(), Vec::new());
    for one in tx.assignments_of_task(&task.id).await? {
        if matches!(one.judgement, Some(Judgement::Accepted | Judgement::Surplus)) {
            archs.extend(arch(tx, &one.device).await?);
            did.push(one.device);
        }
    }
    for device in unblamed {
        let Some(own) = arch(tx, &device).await? else { continue };
        if archs.contains(&own) && !did.contains(&device) {
            tx.count_failed(&device, &class).await?;
            effects.extend(news(tx, &device, &class).await?);
        }
    }
    Ok(())
}

async fn arch(tx: &mut Tx, device: &Address) -> Result<Option<Arch>, HubError> {
    Ok(tx.device(device).await?.map(|device| device.described.class.arch))
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
    if end.is_some() {
        blame(tx, task, effects).await?;
    }
    check::release(tx, task, now).await?;
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
