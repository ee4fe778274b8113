//! A device has a voucher on disk.

use std::sync::Arc;

use sosna_protocol::{frame::Frame, message::pay::Up};

use super::{
    Heard, Trouble,
    admit::{self, Novelty},
    drop_it, work,
};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    let frame = Frame::decode(&heard.payload).map_err(drop_it)?;
    let known = Up::read(&frame).map(drop).map_err(|error| sosna_host::report::line(&error));
    let device = heard.device;
    let novelty = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                let (novelty, ack) = admit::outbox(tx, &heard).await?;
                let mut effects = vec![ack];
                if novelty == Novelty::Fresh {
                    let frame = Frame::decode(&heard.payload)
                        .map_err(|error| HubError::internal("a frame", error))?;
                    if let Ok(Up::Held(held)) = Up::read(&frame) {
                        tx.hold_voucher(&heard.device, held.cumulative, hub.now_ms()).await?;
                        effects.push(Effect::Event(Event::Device(heard.device)));
                    }
                    hub.metrics.messages_taken.add_one();
                }
                Ok((novelty, effects))
            })
        })
        .await?;
    work::after(hub, device, novelty).await?;
    known.map_err(Trouble::Drop)
}
