//! A device has a voucher on disk, or shows receipts that it has none for.

use std::sync::Arc;

use sosna_protocol::message::pay::Up;

use super::{Heard, Trouble, admit};
use crate::{
    hub::{Effect, Event, Hub},
    ledger,
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    let known = Up::read(&heard.frame()?).map(drop).map_err(|error| sosna_host::report::line(&error));
    admit::take_outbox(hub, heard, |tx, hub, heard| {
        Box::pin(async move {
            let device = heard.device;
            match Up::read(&heard.frame()?) {
                Ok(Up::Held(held)) => {
                    if !tx.hold_voucher(&device, held.cumulative, hub.now_ms()).await? {
                        return Ok(Vec::new());
                    }
                    let owed = ledger::unvouchered(tx, &device).await?;
                    Ok(vec![
                        Effect::Owed(device, owed),
                        Effect::Event(Event::Device(device)),
                        Effect::Schedule,
                    ])
                }
                Ok(Up::Present(present)) => ledger::present(tx, hub, device, present.receipts.iter()).await,
                Err(_) => Ok(Vec::new()),
            }
        })
    })
    .await?;
    known.map_err(Trouble::Drop)
}
