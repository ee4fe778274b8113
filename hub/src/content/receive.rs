//! Content that comes in: written aside as it arrives, kept only if it is what its name says.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use sosna_api::Code;
use sosna_host::content::{ContentError, Incoming};
use sosna_protocol::Hash;
use sosna_store::Holder;
use tokio::sync::mpsc;

use super::{
    keeping::Coming,
    room::{Allowed, charge},
};
use crate::{error::HubError, hub::Hub};

/// How long the sender may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pieces between network and disk.
const QUEUE: usize = 8;

/// Takes a body as the content of this name and length, from somebody who may hold `allowed` that nothing uses;
/// says whether they had not sent it before. The whole body is read and checked, whether the store has it or not:
/// that is how they show that they have it.
///
/// # Errors
/// [`Code::TooLarge`], [`Code::Quota`], [`Code::DiskFull`], [`Code::WrongDigest`], [`Code::Invalid`] where it breaks
/// off, and [`HubError::File`].
pub(crate) async fn receive(
    hub: &Arc<Hub>,
    holder: Holder,
    allowed: Allowed,
    (name, length): (Hash, u64),
    body: Body,
) -> Result<bool, HubError> {
    let most = hub.config.limits.content_bytes;
    if length > most {
        let detail = format!("{length} bytes are more than the {most} that this hub takes; ask its operator");
        return Err(HubError::refused(Code::TooLarge, detail));
    }
    let _coming = Coming::admit(hub, &holder, allowed, &name, length).await?;
    let (pieces, queue) = mpsc::channel(QUEUE);
    let writing = hub.clone();
    let writer = tokio::task::spawn_blocking(move || write(&writing, length, queue));
    let fed = feed(body, pieces).await;
    let broken = |error| HubError::internal("content could not be written", error);
    // A full disk, or too many bytes, ends the feeding: the writer knows why.
    let incoming = match (fed, writer.await.map_err(broken)?) {
        (_, Err(error @ HubError::File(_))) | (Ok(()), Err(error)) | (Err(error), _) => return Err(error),
        (Ok(()), Ok(incoming)) => incoming,
    };
    // A collection that has just found the same content useless must not remove it after it was sent again, nor before the
    // store knows who holds it.
    let _steady = hub.keeping.steady().await;
    let keeping = hub.clone();
    let kept = tokio::task::spawn_blocking(move || keep(&keeping, incoming, &name, length));
    kept.await.map_err(broken)??;
    let now = hub.now_ms();
    hub.store
        .write(move |tx| {
            Box::pin(async move {
                let is_new = tx.held_since(&holder, &name).await?.is_none();
                tx.hold_content(&holder, &name, length, now).await?;
                Ok(is_new)
            })
        })
        .await
}

async fn feed(body: Body, pieces: mpsc::Sender<Result<Bytes, ()>>) -> Result<(), HubError> {
    let mut body = body.into_data_stream();
    loop {
        let piece = match tokio::time::timeout(PATIENCE, body.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_))) | Err(_) => {
                // Without this the writer would take what is there for the whole.
                let _ = pieces.send(Err(())).await;
                return Err(HubError::refused(
                    Code::Invalid,
                    "the content did not arrive whole; send it again",
                ));
            }
        };
        if pieces.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
}

fn write(hub: &Hub, length: u64, mut queue: mpsc::Receiver<Result<Bytes, ()>>) -> Result<Incoming, HubError> {
    let mut incoming = hub.content.incoming_content()?;
    while let Some(piece) = queue.blocking_recv() {
        let Ok(piece) = piece else {
            return Err(HubError::refused(Code::Invalid, "the content did not arrive whole; send it again"));
        };
        incoming.write(&piece)?;
        if incoming.length() > length {
            break;
        }
    }
    // While nobody is kept waiting: a large file takes seconds, for which nobody could submit a job.
    incoming.flush()?;
    Ok(incoming)
}

fn keep(hub: &Hub, incoming: Incoming, name: &Hash, length: u64) -> Result<(), HubError> {
    let is_new = hub.content.length(name).is_none();
    match incoming.keep_as(name, length) {
        Ok(()) => {
            if is_new {
                hub.keeping.stored.fetch_add(charge(length), Ordering::Relaxed);
            }
            Ok(())
        }
        Err(ContentError::File(error)) => Err(error.into()),
        Err(error @ ContentError::Digest { .. }) => Err(HubError::refused(
            Code::WrongDigest,
            format!("{error}; send the content that the address names"),
        )),
        Err(error) => Err(HubError::refused(Code::Invalid, format!("{error}; send it again"))),
    }
}
