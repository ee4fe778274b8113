//! Signs what goes out, as much at once as has queued, and gives it to the broker.
//!
//! A frame that is lost here or on its way is no harm: whatever a device still needs is said again when it greets.

use std::sync::Arc;

use sosna_protocol::envelope::Meta;
use tokio::sync::mpsc;

use crate::hub::{Hub, Outbound, To};

/// How many frames one signature covers at most.
const BATCH: usize = 512;

/// Runs until nothing more can come.
pub(crate) async fn run(hub: Arc<Hub>, mut waiting: mpsc::Receiver<Outbound>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let sender = hub.address();
        let expires_ms = hub.now_ms() + u64::from(hub.config.times.frame_ms);
        let mut places = Vec::with_capacity(batch.len());
        let mut frames = Vec::with_capacity(batch.len());
        for Outbound { to, kind, body } in batch.drain(..) {
            let (To::Device(audience) | To::Bootstrap(audience)) = to;
            let meta = Meta { sender, audience, epoch: hub.epoch, counter: hub.next_counter(), expires_ms };
            places.push((to, kind));
            frames.push((meta, body));
        }
        let Ok(sealed) = sosna_host::seal::batch(&hub.signer, &frames);
        hub.metrics.batches_signed.add_one();
        let Some(broker) = hub.broker.get() else { continue };
        for ((to, kind), frame) in places.into_iter().zip(sealed) {
            sosna_fault::passed("hub/publish");
            let sent = match to {
                To::Device(device) => broker.publish_to_device(&device, kind, &frame, true).await,
                To::Bootstrap(device) => broker.publish_to_bootstrap(&device, &frame).await,
            };
            match sent {
                Ok(_) => hub.metrics.frames_sent.add_one(),
                Err(error) => tracing::warn!("a frame was not sent: {}", sosna_host::report::line(&error)),
            }
        }
    }
}
