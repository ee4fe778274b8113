//! Whether a frame is new. Outbox kinds count without gaps and are acknowledged up to where all has come in;
//! greetings and signs of life only must not come twice.

use std::sync::Arc;

use sosna_protocol::{
    Address,
    message::ack::Position,
    topic::Kind,
    window::{Contiguous, Seen, Sliding},
};
use sosna_store::{DeviceState, StoreError, Tx, Work};

use super::{Heard, Trouble};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// What is to be done with a frame.
#[derive(Debug, PartialEq, Eq)]
enum Novelty {
    /// It is new: do what it says.
    Fresh,
    /// It was taken before (or is beyond memory): only acknowledge.
    Known,
    /// It betrays a clone: one counter with two contents.
    Clone,
}

/// Judges an outbox frame and remembers it; with how far everything has now come in.
async fn outbox(tx: &mut Tx, heard: &Heard) -> Result<(Novelty, Effect), HubError> {
    let Heard { device, kind, seal, leaf, .. } = heard;
    let stored = tx.window(device, *kind).await?;
    let mut window = match stored {
        Some(bytes) => Contiguous::from_bytes(&bytes).ok_or(StoreError::Column { name: "state" })?,
        None => Contiguous::default(),
    };
    let seen = window.accept(seal.meta.epoch, seal.meta.counter);
    let novelty = match seen {
        Seen::Fresh => {
            tx.put_window(device, *kind, window.to_bytes()).await?;
            tx.put_heard(device, *kind, seal.meta.counter, leaf).await?;
            Novelty::Fresh
        }
        Seen::Replay => {
            let before = tx.heard(device, *kind, seal.meta.counter).await?;
            if before.is_some_and(|before| before != *leaf) { Novelty::Clone } else { Novelty::Known }
        }
        // What is too far ahead is not acknowledged, and comes again.
        Seen::Stale | Seen::Ahead => Novelty::Known,
    };
    let (epoch, contiguous) = window.position();
    Ok((novelty, Effect::Ack(*device, Position { kind: *kind, epoch, contiguous })))
}

/// Takes an outbox frame: does what it says if it is new, and acknowledges it in any case. What cannot be read is
/// counted as taken all the same, or it would hold up everything behind it for ever.
pub(super) async fn take_outbox<F>(hub: &Arc<Hub>, heard: Heard, act: F) -> Result<(), Trouble>
where
    F: for<'t> FnOnce(&'t mut Tx, &'t Hub, &'t Heard) -> Work<'t, Vec<Effect>, HubError> + Send + 'static,
{
    let device = heard.device;
    let novelty = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                let (novelty, ack) = outbox(tx, &heard).await?;
                let mut effects = vec![ack];
                if novelty == Novelty::Fresh {
                    effects.extend(act(tx, &hub, &heard).await?);
                    hub.metrics.messages_taken.add_one();
                }
                Ok((novelty, effects))
            })
        })
        .await?;
    match novelty {
        Novelty::Fresh => {}
        Novelty::Known => hub.metrics.messages_replayed.add_one(),
        Novelty::Clone => quarantine(hub, device, "it said two things under one counter").await?,
    }
    Ok(())
}

/// Judges a greeting, sign of life or enrolment, and remembers it.
pub(super) async fn passing(tx: &mut Tx, heard: &Heard) -> Result<bool, HubError> {
    let Heard { device, kind, seal, .. } = heard;
    let stored = tx.window(device, *kind).await?;
    let mut window = match stored {
        Some(bytes) => Sliding::from_bytes(&bytes).ok_or(StoreError::Column { name: "state" })?,
        None => Sliding::default(),
    };
    let is_new = window.accept(seal.meta.epoch, seal.meta.counter) == Seen::Fresh;
    if is_new {
        tx.put_window(device, *kind, window.to_bytes()).await?;
    }
    Ok(is_new)
}

/// Gives a device nothing new until the operator has looked at it.
pub(super) async fn quarantine(hub: &Arc<Hub>, device: Address, why: &'static str) -> Result<(), HubError> {
    tracing::error!(%device, "quarantined: {why}; if it is one device, approve it again with `sosna device approve`");
    hub.change(move |tx, _| {
        Box::pin(async move {
            let known = tx.device(&device).await?;
            if known.is_none_or(|device| device.state == DeviceState::Revoked) {
                return Ok(((), Vec::new()));
            }
            tx.set_device_state(&device, DeviceState::Quarantined).await?;
            let mut effects = super::described(tx, &device).await?;
            effects.push(Effect::Event(Event::Device(device)));
            Ok(((), effects))
        })
    })
    .await
}

/// The kinds whose position a hub tells a device when it greets.
pub(super) const OUTBOX: [Kind; 3] = [Kind::Work, Kind::Result, Kind::Pay];
