//! The listener for people and their programs, with TLS and without. Connections are counted, in all and from one
//! address, and nobody may be slow about what they ask: a stranger must not be able to hold the listener up.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use sosna_api::{Code, Problem};
use sosna_broker::ServerIdentity;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::places::Places;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD_BYTES: usize = 64 * 1024;
/// With this byte every TLS connection begins (RFC 8446, 5.1: a record of the handshake).
const TLS_HANDSHAKE: u8 = 22;

/// What the listener bears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections at once.
    pub(crate) connections: usize,
    /// Of those, from one address (of IPv6: one /64). On loopback, where a proxy may stand for everybody, there is
    /// no such bound.
    pub(crate) per_address: usize,
    /// How long a request's head may take, and how long a connection may be idle.
    pub(crate) request: Duration,
}

/// How the listener shows itself with the hub's certificate.
///
/// # Errors
/// Where certificate and key do not fit.
pub(crate) fn tls(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until `stop` turns true, and then until every request in hand is answered. With `tls`, each new
/// connection gets the configuration that it holds then; connections that stand keep theirs.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::new(bounds.connections, bounds.per_address);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only burn the processor.
                tracing::warn!(%error, "the listener for people cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = match party(peer.ip()) {
            Some(party) => places.take_for(party),
            None => places.take(),
        };
        let Some(place) = place else {
            tracing::debug!(%peer, "too many connections");
            continue;
        };
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.borrow().clone()));
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            match acceptor {
                None => talk(stream, router, bounds.request, stop).await,
                Some(acceptor) => {
                    // Who is not done in time, or speaks something else, is gone.
                    if let Ok(Some(stream)) = timeout(HANDSHAKE, handshake(stream, acceptor)).await {
                        talk(stream, router, bounds.request, stop).await;
                    }
                }
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn handshake(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? > 0 && first[0] != TLS_HANDSHAKE && first[0].is_ascii_alphabetic()
    {
        // Nothing was read, so the answer may be lost with the connection: it is a courtesy.
        let _ = stream.write_all(plain().as_bytes()).await;
        let _ = stream.shutdown().await;
        return None;
    }
    match acceptor.accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// What somebody is told who speaks plain HTTP to a listener for HTTPS.
fn plain() -> String {
    let why =
        "this port speaks HTTPS only; give an address that begins with https://, and the hub's authority";
    let body = serde_json::to_string(&Problem::new(Code::Invalid, why)).unwrap_or_default();
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn talk<S>(stream: S, router: Router, request: Duration, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(request)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let stopped = tokio::select! {
        done = connection.as_mut() => Some(done),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let done = match stopped {
        Some(done) => done,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Whom an address stands for: in IPv6 one party has at least a /64; on loopback it may be a proxy, which stands for
/// everybody.
fn party(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(v6) => Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))),
        v4 => Some(v4),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_network_is_one_party_and_loopback_is_none() {
        let of = |text: &str| party(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(own), None, "{own}");
        }
    }
}
