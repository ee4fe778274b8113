//! The scheduler's loop: wakes when something may be placed, places what can be, says why the rest is not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sosna_store::Assignment;

use super::{
    assign::{Placed, assign},
    wish::{Wish, is_checked},
};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    job::JobSpec,
    ledger::deposits,
    verify,
};

/// How many tasks are looked at in one go.
const BATCH: u32 = 512;
/// How many times that is done in vain at one waking: beyond it, the next waking goes on where this one stopped, so
/// that many tasks that cannot be placed never keep others from being looked at.
const PAGES: u32 = 8;
/// How long at most until a task that could not be placed is looked at again.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how many milliseconds a check waits for a device that could be its next one: its buyer asked for one result,
/// and waits too.
const PATIENCE_FOR_CHECKS: u64 = 20_000;

/// Runs until the hub stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut skip = 0;
    loop {
        // Whichever comes first; a wake-up in the meantime is not lost.
        let _ = tokio::time::timeout(PATIENCE, hub.work.notified()).await;
        let mut in_vain = 0;
        while in_vain < PAGES {
            match round(&hub, skip).await {
                Ok(Round { looked_at, placed, waiting }) => {
                    skip += waiting;
                    in_vain += u32::from(placed == 0);
                    if looked_at < BATCH {
                        skip = 0;
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!("scheduling failed: {}", sosna_host::report::line(&error));
                    skip = 0;
                    break;
                }
            }
        }
    }
}

/// What came of looking at some tasks.
struct Round {
    /// How many those were.
    looked_at: u32,
    /// How many replicas were placed.
    placed: usize,
    /// How many of them still want a replica.
    waiting: u32,
}

/// Places what can be placed now of the tasks after the first `skip`.
async fn round(hub: &Arc<Hub>, skip: u32) -> Result<Round, HubError> {
    let now = hub.now_ms();
    let inner = hub.clone();
    let (open, mut allowances, mut budget) = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let (mut open, mut allowances) = (Vec::new(), HashMap::new());
                for task in tx.open_tasks_after(now, skip, BATCH).await? {
                    if !allowances.contains_key(&task.buyer) {
                        let left = deposits::allowance(tx, &inner, &task.buyer).await?;
                        allowances.insert(task.buyer.clone(), left);
                    }
                    let holders = tx.assignments_of_task(&task.task.id).await?;
                    let room = verify::room(tx, &inner, &task.task).await?;
                    open.push((task, holders, room));
                }
                Ok::<_, HubError>((open, allowances, verify::budget_left(tx, &inner).await?))
            })
        })
        .await?;
    let mut specs: HashMap<_, Option<Arc<JobSpec>>> = HashMap::new();
    let (mut placed, mut unplaced, mut unchecked) = (Vec::new(), Vec::new(), Vec::new());
    let mut result =
        Round { looked_at: u32::try_from(open.len()).unwrap_or(u32::MAX), placed: 0, waiting: 0 };
    // What a job's fresh tasks need is the same: where one cannot be placed, the others cannot either.
    let mut blocked: HashMap<_, String> = HashMap::new();
    for (task, assignments, room) in open {
        let spec = specs.entry(task.task.job).or_insert_with(|| JobSpec::read(&task.spec).map(Arc::new));
        let Some(spec) = spec.clone() else {
            result.waiting += 1;
            continue;
        };
        let allowance = allowances.get(&task.buyer).copied().flatten();
        let mut wish = Wish::new(hub, &task, &spec, &assignments, room, allowance);
        let fresh = wish.holders.is_empty() && wish.class.is_none();
        for _ in 0..task.missing {
            let known = blocked.get(&task.task.job).filter(|_| fresh && wish.holders.is_empty());
            let choice = match known {
                Some(text) => Err(text.clone()),
                None => wish.choose(hub, false),
            };
            match choice {
                Ok((id, placement)) => {
                    wish.holds(hub, &placement);
                    allowances.insert(task.buyer.clone(), wish.allowance);
                    let check = match verify::may_begin(&task.task, &assignments) {
                        true => wish.checker(hub, &placement, budget),
                        false => None,
                    };
                    if let Some((_, other)) = &check {
                        let most = placement.price.max(other.price);
                        budget = budget.checked_sub(most).unwrap_or_default();
                    }
                    let (open, spec) = (task.clone(), spec.clone());
                    placed.push(Placed { open, spec, id, placement, check });
                }
                Err(text) => {
                    result.waiting += 1;
                    if fresh && wish.holders.is_empty() {
                        blocked.insert(task.task.job, text.clone());
                    }
                    if is_checked(&task) && waited_since(&assignments) + PATIENCE_FOR_CHECKS <= now {
                        unchecked.push(task.task.id);
                    } else if task.task.reason != text {
                        // Saying the same thing again would only wear the disk.
                        unplaced.push((task.task.id, task.task.job, text));
                    }
                    break;
                }
            }
        }
    }
    // First, because the devices' room is taken already.
    if !placed.is_empty() {
        result.placed = assign(hub, placed).await?;
    }
    if !unplaced.is_empty() {
        explain(hub, unplaced).await?;
    }
    if !unchecked.is_empty() {
        hub.change(move |tx, hub| {
            Box::pin(async move {
                let mut effects = Vec::new();
                for task in unchecked {
                    effects.extend(verify::give_up_check(tx, &hub, &task).await?);
                }
                Ok(((), effects))
            })
        })
        .await?;
    }
    Ok(result)
}

/// When a task's devices last did something.
fn waited_since(assignments: &[Assignment]) -> u64 {
    let latest = |one: &Assignment| {
        one.created_ms.max(one.committed_ms.unwrap_or_default()).max(one.revealed_ms.unwrap_or_default())
    };
    assignments.iter().map(latest).max().unwrap_or_default()
}

async fn explain(
    hub: &Arc<Hub>,
    unplaced: Vec<(sosna_protocol::identity::TaskId, sosna_protocol::identity::JobId, String)>,
) -> Result<(), HubError> {
    hub.change(move |tx, _| {
        Box::pin(async move {
            let mut effects = Vec::new();
            for (task, job, reason) in unplaced {
                tx.set_task_reason(&task, &reason).await?;
                effects.push(Effect::Event(Event::Task(job, task)));
            }
            Ok(((), effects))
        })
    })
    .await
}
