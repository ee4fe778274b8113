//! A device has a voucher on disk.

use std::sync::Arc;

use sosna_protocol::message::pay::Up;

use super::{Heard, Trouble, admit};
use crate::hub::{Effect, Event, Hub};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    let known = Up::read(&heard.frame()?).map(drop).map_err(|error| sosna_host::report::line(&error));
    admit::take_outbox(hub, heard, |tx, hub, heard| {
        Box::pin(async move {
            let Ok(Up::Held(held)) = Up::read(&heard.frame()?) else { return Ok(Vec::new()) };
            tx.hold_voucher(&heard.device, held.cumulative, hub.now_ms()).await?;
            Ok(vec![Effect::Event(Event::Device(heard.device))])
        })
    })
    .await?;
    known.map_err(Trouble::Drop)
}
