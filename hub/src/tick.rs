//! What happens because time passes: leases and offers run out, results are not shown, vouchers fall due.

use std::{sync::Arc, time::Duration};

use sosna_protocol::{
    codec::Bounded,
    message::{beat::Phase, work::Cancel},
    result::Cause,
};
use sosna_store::AssignmentState;

use crate::{
    content,
    error::HubError,
    hub::{Effect, Hub},
    ledger, verify,
};

/// How exact deadlines are.
const TICK: Duration = Duration::from_millis(250);

/// Runs until the hub stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for result in [lapse(&hub).await, reveal(&hub).await, ledger::issue_due(&hub).await] {
            note(result);
        }
        content::collect_when_due(&hub);
    }
}

/// Gives away what its device no longer answers for.
async fn lapse(hub: &Arc<Hub>) -> Result<(), HubError> {
    let now = hub.now_ms();
    let lapsed = hub
        .store
        .read(move |tx| Box::pin(async move { tx.lapsed_assignments(now).await.map_err(HubError::from) }))
        .await?;
    for one in lapsed {
        let done = hub
            .change(move |tx, hub| {
                Box::pin(async move {
                    // A beat may have come in since.
                    let Some(one) = tx.assignment(&one.id).await? else { return Ok(((), Vec::new())) };
                    let waits = matches!(one.state, AssignmentState::Offered | AssignmentState::Accepted);
                    if !waits || one.lease_until_ms >= hub.now_ms() {
                        return Ok(((), Vec::new()));
                    }
                    hub.metrics.assignments_lapsed.add_one();
                    let (cause, why) = match one.state {
                        AssignmentState::Offered => (None, "the device did not answer the offer"),
                        // Whoever serves the image can take as long as he likes.
                        _ if one.is_over_time(hub.now_ms()) && one.phase == Some(Phase::Fetching) => (
                            Some(Cause::NoImage),
                            "the device did not get all of the image in the task's time",
                        ),
                        _ if one.is_over_time(hub.now_ms()) => {
                            (None, "the device did not come to a result in the task's time")
                        }
                        _ => (None, "the device was not heard of, and its lease ran out"),
                    };
                    let state = AssignmentState::Expired;
                    let mut effects = match cause {
                        Some(cause) => verify::give_up_by(tx, &hub, &one, (state, cause), why).await?,
                        None => verify::give_up(tx, &hub, &one, state, why).await?,
                    };
                    if one.state == AssignmentState::Offered {
                        let cancel =
                            Cancel { assignment: one.id, explanation: Bounded("the offer was not answered") };
                        effects.push(Effect::send(one.device, &cancel)?);
                    }
                    Ok(((), effects))
                })
            })
            .await;
        note(done);
    }
    Ok(())
}

/// One that fails must not keep the others from their turn.
fn note(done: Result<(), HubError>) {
    if let Err(error) = done {
        tracing::error!("a deadline could not be kept: {}", sosna_host::report::line(&error));
    }
}

async fn reveal(hub: &Arc<Hub>) -> Result<(), HubError> {
    let now = hub.now_ms();
    let overdue = hub
        .store
        .read(move |tx| Box::pin(async move { tx.overdue_reveals(now).await.map_err(HubError::from) }))
        .await?;
    for task in overdue {
        let done = hub
            .change(move |tx, hub| {
                Box::pin(async move { Ok(((), verify::expire_reveals(tx, &hub, &task).await?)) })
            })
            .await;
        note(done);
    }
    Ok(())
}
