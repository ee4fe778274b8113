//! Content that comes in: written aside as it arrives, kept only if it is what its name says.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use sosna_api::Code;
use sosna_host::content::{ContentError, ContentStore};
use sosna_protocol::Hash;
use tokio::sync::mpsc;

use crate::error::HubError;

/// How long the sender may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pieces between network and disk.
const QUEUE: usize = 8;

/// Takes a body as the content of this name and length; says whether it is new.
///
/// # Errors
/// [`Code::TooLarge`], [`Code::WrongDigest`], [`Code::Invalid`] where it breaks off, and [`HubError::File`].
pub(crate) async fn receive(
    store: &ContentStore,
    name: Hash,
    length: u64,
    most: u64,
    body: Body,
) -> Result<bool, HubError> {
    if length > most {
        let detail = format!("{length} bytes are more than the {most} that this hub takes; ask its operator");
        return Err(HubError::refused(Code::TooLarge, detail));
    }
    let (pieces, queue) = mpsc::channel(QUEUE);
    let store = store.clone();
    let writer = tokio::task::spawn_blocking(move || write(&store, name, length, queue));
    let fed = feed(body, pieces).await;
    let written = writer.await.map_err(|error| HubError::internal("content could not be written", error))?;
    // A full disk, or too many bytes, ends the feeding: the writer knows why.
    match (fed, written) {
        (_, Err(error @ HubError::File(_))) | (Ok(()), Err(error)) | (Err(error), _) => Err(error),
        (Ok(()), Ok(new)) => Ok(new),
    }
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

fn write(
    store: &ContentStore,
    name: Hash,
    length: u64,
    mut queue: mpsc::Receiver<Result<Bytes, ()>>,
) -> Result<bool, HubError> {
    let mut incoming = store.incoming_content()?;
    while let Some(piece) = queue.blocking_recv() {
        let Ok(piece) = piece else {
            return Err(HubError::refused(Code::Invalid, "the content did not arrive whole; send it again"));
        };
        incoming.write(&piece)?;
        if incoming.length() > length {
            break;
        }
    }
    let new = store.length(&name).is_none();
    match incoming.keep_as(&name, length) {
        Ok(()) => Ok(new),
        Err(ContentError::File(error)) => Err(error.into()),
        Err(error @ ContentError::Digest { .. }) => Err(HubError::refused(
            Code::WrongDigest,
            format!("{error}; send the content that the address names"),
        )),
        Err(error) => Err(HubError::refused(Code::Invalid, format!("{error}; send it again"))),
    }
}
