//! Server-sent events ([`sosna_api::event`] is the contract).
//!
//! Each stream is a task that looks up what changed and feeds a channel; it ends with its client, with the hub, or
//! when nothing more can come. What waits between them is bounded: a slow client makes its own task wait.

mod change;
mod logs;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use bytes::Bytes;
use serde::Serialize;
use sosna_api::Code;
use sosna_store::StoreError;
use tokio::sync::mpsc;

use super::{Failure, Served};
use crate::error::HubError;

pub(super) use change::{fleet, job};
pub(super) use logs::logs;

/// Events that wait for a slow client.
const WAITING: usize = 64;
/// After so long without an event a comment shows that the connection lives.
const ALIVE: Duration = Duration::from_secs(15);

/// The client's end of a stream.
#[derive(Debug, Clone)]
struct Listener(mpsc::Sender<Bytes>);

/// Why a stream ends.
#[derive(Debug)]
enum End {
    /// The client has gone.
    Gone,
    /// The hub failed.
    Failed(HubError),
}

impl From<HubError> for End {
    fn from(error: HubError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

// === impl Listener ===

impl Listener {
    async fn send(&self, name: &'static str, data: &(impl Serialize + Sync)) -> Result<(), End> {
        // Its strings' line ends are escaped: JSON written so is one line.
        let data = serde_json::to_string(data)
            .map_err(|error| HubError::internal("an event could not be written", error))?;
        self.event(name, &data).await
    }

    async fn mark(&self, name: &'static str) -> Result<(), End> {
        self.event(name, "").await
    }

    /// The field `data` stands there even where it is empty: without it an event is not dispatched (HTML,
    /// "Interpreting an event stream").
    async fn event(&self, name: &str, data: &str) -> Result<(), End> {
        let event = Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
        self.0.send(event).await.map_err(|_| End::Gone)
    }
}

/// Answers with what `feed` sends, until it ends, the client goes or the hub stops.
fn answer<F, W>(served: &Arc<Served>, feed: F) -> Result<Response, Failure>
where
    F: FnOnce(Listener) -> W,
    W: Future<Output = Result<(), End>> + Send + 'static,
{
    let place = served.streams.clone().try_acquire_owned();
    let place =
        place.map_err(|_| Failure::new(Code::Busy, "too many streams are open; close some, or try again"))?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let feeding = feed(Listener(sender.clone()));
    let mut shutdown = served.shutdown.clone();
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            ended = feeding => if let Err(End::Failed(error)) = ended {
                tracing::warn!("a stream of events ended: {}", sosna_host::report::line(&error));
            },
            () = sender.closed() => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    });
    let events = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let event = match tokio::time::timeout(ALIVE, receiver.recv()).await {
            Ok(event) => event?,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let mut answer = Response::new(Body::from_stream(events));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would make live streams pointless.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(answer)
}
