//! Checks: a task whose buyer asked for one result, and which a device got that is not to be believed alone, is given
//! to a second device of another owner. The buyer pays one result, as asked; the operator pays the other.
//!
//! What the operator pays on a day is bounded by construction: it is set aside from that day's account, which may be
//! in debt by the budget and not more, before the devices are asked.

use sosna_protocol::{
    Amount,
    identity::{AssignmentId, TaskId},
};
use sosna_store::{Account, Assignment, AssignmentState, Check, CheckState, LedgerError, Task, Transfer, Tx};

use super::{close_if_complete, judge};
use crate::{
    error::HubError,
    hub::{Effect, Hub},
};

/// How many results of a checked task are wanted at first, and how many are paid.
pub(crate) const REPLICAS: u32 = 2;

/// The day of a moment, counted from 1970.
pub(crate) const fn day(now_ms: u64) -> u64 {
    now_ms / 86_400_000
}

/// What the operator may still spend today.
pub(crate) async fn budget_left(tx: &mut Tx, hub: &Hub) -> Result<Amount, HubError> {
    let spent = tx.debt(&Account::Verification(day(hub.now_ms()))).await?;
    Ok(hub.config.probation.check_budget.0.checked_sub(spent).unwrap_or_default())
}

/// What one more replica of a task may cost the operator: what is set aside for its check, and what is left of that
/// day's budget. Nothing bounds it where no device is checked.
pub(crate) async fn room(tx: &mut Tx, hub: &Hub, task: &Task) -> Result<Option<Amount>, HubError> {
    let Some(Check { state: CheckState::Open, day }) = task.check else { return Ok(None) };
    let spent = tx.debt(&Account::Verification(day)).await?;
    let left = hub.config.probation.check_budget.0.checked_sub(spent).unwrap_or_default();
    Ok(tx.balance(&Account::Check(task.id)).await?.checked_add(left))
}

/// Whether a device may be checked by a task that is about to be given to it: one result was asked for, and nobody has
/// it or may come back with it, under other rules than those that begin now.
pub(crate) fn may_begin(task: &Task, assignments: &[Assignment]) -> bool {
    let is_checked = task.check.is_some_and(|check| check.state == CheckState::Open);
    let is_held = |one: &Assignment| one.state.is_open() || one.state == AssignmentState::Expired;
    task.asked == 1 && !is_checked && !assignments.iter().any(is_held)
}

/// Begins to check a device by a task: sets aside what the dearer of both replicas costs. `None` where the day's
/// budget does not allow it; then nothing has changed.
pub(crate) async fn begin(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    first: &AssignmentId,
    most: Amount,
) -> Result<Option<Task>, HubError> {
    let check = Check { state: CheckState::Open, day: day(hub.now_ms()) };
    if !set_aside(tx, hub, &task.id, check.day, first, most).await? {
        return Ok(None);
    }
    tx.set_task_check(&task.id, check, REPLICAS).await?;
    Ok(Some(Task { check: Some(check), wanted: REPLICAS, ..task.clone() }))
}

/// Makes sure that the operator could pay one more replica of a task; `false` where the budget does not allow it.
pub(crate) async fn afford(
    tx: &mut Tx,
    hub: &Hub,
    task: &Task,
    assignment: &AssignmentId,
    price: Amount,
) -> Result<bool, HubError> {
    match task.check {
        Some(Check { state: CheckState::Open, day }) => {
            set_aside(tx, hub, &task.id, day, assignment, price).await
        }
        _ => Ok(true),
    }
}

/// Sets so much aside in all, from a day's account; `false` where the budget does not allow it.
async fn set_aside(
    tx: &mut Tx,
    hub: &Hub,
    task: &TaskId,
    day: u64,
    because_of: &AssignmentId,
    amount: Amount,
) -> Result<bool, HubError> {
    let account = Account::Check(*task);
    let held = tx.balance(&account).await?;
    let Some(more) = amount.checked_sub(held).filter(|more| *more > Amount::ZERO) else { return Ok(true) };
    let transfer = Transfer {
        key: format!("check:{because_of}"),
        kind: "reserve",
        from: Account::Verification(day),
        to: account,
        amount: more,
        job: None,
        assignment: Some(*because_of),
        at_ms: hub.now_ms(),
    };
    match tx.transfer_within(&transfer, hub.config.probation.check_budget.0).await {
        Ok(_) => Ok(true),
        Err(LedgerError::Funds { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives back what was set aside for a task's check and not spent.
///
/// # Errors
/// [`HubError`]; then nothing has changed.
pub(crate) async fn release(tx: &mut Tx, task: &Task, now_ms: u64) -> Result<(), HubError> {
    let Some(check) = task.check else { return Ok(()) };
    let account = Account::Check(task.id);
    let left = tx.balance(&account).await?;
    if left == Amount::ZERO {
        return Ok(());
    }
    // What was ever set aside grows before there can be anything more to give back.
    let ever = tx.ever_taken(&account).await?;
    tx.transfer(&Transfer {
        key: format!("uncheck:{}:{}", task.id, ever.units()),
        kind: "release",
        from: account,
        to: Account::Verification(check.day),
        amount: left,
        job: None,
        assignment: None,
        at_ms: now_ms,
    })
    .await?;
    Ok(())
}

/// Goes on without a check that wants a replica for which there is nobody: the buyer asked for one result, and gets
/// it as if nobody had been asked for a second.
///
/// # Errors
/// [`HubError`]; then nothing has changed.
pub(crate) async fn give_up_check(tx: &mut Tx, hub: &Hub, id: &TaskId) -> Result<Vec<Effect>, HubError> {
    let Some(task) = tx.task(id).await?.filter(|task| task.ended_ms.is_none()) else { return Ok(Vec::new()) };
    let Some(check) = task.check.filter(|check| check.state == CheckState::Open) else {
        return Ok(Vec::new());
    };
    let open = tx.assignments_of_task(id).await?.iter().filter(|one| one.state.is_open()).count();
    if open >= usize::try_from(task.wanted).unwrap_or(usize::MAX) {
        return Ok(Vec::new());
    }
    tx.set_task_check(id, Check { state: CheckState::Dropped, ..check }, 1).await?;
    release(tx, &task, hub.now_ms()).await?;
    let mut effects = close_if_complete(tx, hub, id).await?;
    // Where results were shown already.
    if tx.assignments_of_task(id).await?.iter().any(|one| one.state == AssignmentState::Revealed) {
        effects.extend(judge(tx, hub, id).await?);
    }
    Ok(effects)
}
