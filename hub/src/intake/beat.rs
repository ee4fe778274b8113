//! Signs of life: leases go on, progress is noted, and what is no longer the device's is told.

use std::sync::Arc;

use sosna_protocol::{
    codec::List,
    message::{
        beat::Up,
        work::{Lease, Renewed},
    },
};
use sosna_store::{Assignment, AssignmentState};

use super::{Heard, Trouble, admit, drop_it};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    Up::read(&heard.frame()?).map_err(drop_it)?;
    if let Some(live) = hub.fleet().get_mut(&heard.device) {
        live.seen_ms = hub.now_ms();
    }
    hub.change(move |tx, hub| {
        Box::pin(async move {
            if !admit::passing(tx, &heard).await? {
                hub.metrics.messages_replayed.add_one();
                return Ok(((), Vec::new()));
            }
            let frame = heard.frame()?;
            let Up::Beat(beat) = Up::read(&frame).map_err(|error| HubError::internal("a message", error))?;
            let now = hub.now_ms();
            let until_ms = now + u64::from(hub.config.times.lease_ms);
            let (mut leases, mut lost, mut effects) = (Vec::new(), Vec::new(), Vec::new());
            for progress in beat.assignments.iter() {
                let id = progress.assignment;
                let said = (progress.phase, progress.permille.min(1000));
                if let Some(until_ms) = tx.renew_assignment(&id, &heard.device, (until_ms, now), said).await?
                {
                    leases.push(Lease { assignment: id, until_ms });
                } else {
                    let state = tx.assignment(&id).await?.filter(|one| one.device == heard.device);
                    // One that ran out, or is about to because its time is over, may still count, as long as nobody else
                    // was faster.
                    let may_count = |one: &Assignment| {
                        matches!(one.state, AssignmentState::Expired | AssignmentState::Accepted)
                    };
                    if !state.as_ref().is_some_and(may_count) {
                        lost.push(id);
                    }
                }
            }
            tx.saw_device(&heard.device, now).await?;
            if !leases.is_empty() || !lost.is_empty() {
                let renewed = Renewed { leases: List::new(&leases), lost: List::new(&lost) };
                effects.push(Effect::send(heard.device, &renewed)?);
            }
            effects.push(Effect::Event(Event::Device(heard.device)));
            hub.metrics.messages_taken.add_one();
            Ok(((), effects))
        })
    })
    .await
    .map_err(Trouble::from)
}
