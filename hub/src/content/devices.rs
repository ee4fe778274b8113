//! The devices' listener: `GET`, `HEAD` and `PUT /content/sha256/{hex}`, and `GET /content/payouts/{root}`.
//!
//! Who asks is who the certificate names; the store is asked again at every request whether it still holds.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse as _, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use sosna_api::{Code, wallet::PayoutProof};
use sosna_broker::Serial;
use sosna_host::manifest::ASSIGNMENT_HEADER;
use sosna_protocol::{Address, Hash, identity::AssignmentId};
use sosna_store::{DeviceState, Holder};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{Shown, keeping, receive, send, tls};
use crate::{
    api::{Failure, Named, proven},
    error::HubError,
    hub::Hub,
    places::{Place, Places},
};

/// Connections at once.
const CONNECTIONS: usize = 2048;
/// Of those, of one device.
const CONNECTIONS_OF_ONE: usize = 8;
/// How long a client has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long it has for a request's head, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// The largest head.
const HEAD_BYTES: usize = 16 * 1024;
/// How long a connection lasts at most: what breaks off is continued by a range, what hangs ends.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Who has connected.
#[derive(Debug, Clone, Copy)]
struct Peer {
    device: Address,
    serial: Serial,
}

/// Serves devices on a listener until `shutdown` turns true. Each new connection gets the TLS configuration that
/// `tls` holds then.
pub async fn serve(
    hub: Arc<Hub>,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let places = Places::new(CONNECTIONS, CONNECTIONS_OF_ONE);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the content listener could not accept a connection");
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = places.take() else { continue };
        let (acceptor, hub) = (TlsAcceptor::from(tls.borrow().clone()), hub.clone());
        let mut shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection(hub, stream, acceptor, place) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(LIFETIME) => {}
            }
        });
    }
}

async fn connection(hub: Arc<Hub>, stream: TcpStream, acceptor: TlsAcceptor, place: Place<Address>) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake for content failed");
            return;
        }
        Err(_) => return,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let Some((device, serial)) = certificates.and_then(|all| tls::peer(all.first()?)) else { return };
    let Some(_place) = place.of(device) else {
        tracing::debug!(%device, "too many connections for content");
        return;
    };
    let routes = Router::new()
        .route("/content/sha256/{hex}", get(read).head(read).put(write))
        .route("/content/payouts/{root}", get(payout))
        .method_not_allowed_fallback(|| async { Failure::not_allowed("this address") })
        .fallback(|| async { Failure::from(HubError::not_found("address")) })
        .layer(Extension(Peer { device, serial }))
        .with_state(hub);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await;
    if let Err(error) = served {
        tracing::debug!(%device, %error, "a connection for content broke");
    }
}

async fn read(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    Named(hex): Named<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let name = name_of(&hex)?;
    // Whether it has stored something for an assignment is what a device asks before it goes on sending.
    let stored = if method == Method::HEAD { assignment_of(&headers)? } else { None };
    let content = hub.content.clone();
    let may = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                admit(tx, peer).await?;
                match stored {
                    None => Ok::<_, HubError>(tx.device_may_read(&peer.device, &name).await?),
                    Some(id) => {
                        let own = tx.assignment(&id).await?.is_some_and(|one| one.device == peer.device);
                        let sent = tx.held_length(&Holder::Assignment(id), &name).await?;
                        // A file that a disk has cut short is not what was sent: it is to be sent again.
                        Ok(own && sent.is_some() && content.length(&name) == sent)
                    }
                }
            })
        })
        .await?;
    // The same answer for what is not there and for what is somebody else's.
    let missing = || HubError::not_found("content");
    if !may {
        return Err(missing().into());
    }
    let answer = send(&hub.content, &name, &method, &headers, Shown::Saved).await?;
    Ok(answer.ok_or_else(missing)?)
}

async fn write(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    Named(hex): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let name = name_of(&hex)?;
    let length = length_of(&headers)?;
    let id = assignment_of(&headers)?.ok_or_else(|| {
        let detail =
            format!("content is stored for an assignment; name it in the header {ASSIGNMENT_HEADER}");
        HubError::refused(Code::Invalid, detail)
    })?;
    let allowed = hub
        .store
        .read(|tx| {
            Box::pin(async move {
                admit(tx, peer).await?;
                keeping::declared(tx, &peer.device, &id).await
            })
        })
        .await?;
    receive(&hub, Holder::Assignment(id), allowed, (name, length), body).await?;
    // Whether it was there before is nobody's business.
    Ok(StatusCode::CREATED.into_response())
}

/// A device's own line of a root, with its way up: what it is paid by when the hub is gone.
async fn payout(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    Named(root): Named<String>,
) -> Result<Json<PayoutProof>, Failure> {
    let root =
        root.parse().map_err(|_| HubError::refused(Code::Invalid, "a root has 64 hexadecimal digits"))?;
    hub.store.read(|tx| Box::pin(async move { admit(tx, peer).await })).await?;
    let missing = || HubError::not_found("list of this root");
    let chain = hub.chain.as_ref().ok_or_else(missing)?;
    let list = chain.list(&hub.store, Some(root)).await?.ok_or_else(missing)?;
    Ok(Json(proven(chain, &list, &peer.device)?))
}

async fn admit(tx: &mut sosna_store::Tx, peer: Peer) -> Result<(), HubError> {
    let refused = |detail: &str| HubError::refused(Code::Forbidden, detail);
    if !tx.certificate_holds(&peer.device, &peer.serial.0).await? {
        return Err(refused("the certificate does not hold any more; renew it"));
    }
    match tx.device(&peer.device).await?.map(|device| device.state) {
        Some(DeviceState::Probation | DeviceState::Trusted) => Ok(()),
        _ => Err(refused("the device may do nothing here until the operator has decided")),
    }
}

/// For which assignment a device speaks, where it says so.
fn assignment_of(headers: &HeaderMap) -> Result<Option<AssignmentId>, HubError> {
    let Some(value) = headers.get(ASSIGNMENT_HEADER) else { return Ok(None) };
    let read = value.to_str().ok().and_then(|text| text.parse().ok()).map(Some);
    read.ok_or_else(|| {
        HubError::refused(Code::Invalid, format!("the header {ASSIGNMENT_HEADER} is no assignment"))
    })
}

/// A name in an address.
pub(crate) fn name_of(hex: &str) -> Result<Hash, HubError> {
    let good = hex.len() == 64 && hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    hex.parse().ok().filter(|_| good).ok_or_else(|| {
        HubError::refused(Code::Invalid, "content is named by its SHA-256: 64 lower-case hexadecimal digits")
    })
}

/// How much is announced.
pub(crate) fn length_of(headers: &HeaderMap) -> Result<u64, HubError> {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).ok_or_else(|| {
        HubError::refused(Code::Invalid, "content comes with its length; send the header Content-Length")
    })
}
