//! The bootstrap listener's front: TLS, limits and lifetimes, before the engine sees a byte.
//!
//! The engine itself bounds neither connections nor the time until the first packet, which is bearable behind
//! client certificates and not before strangers. The front ends TLS here, counts, and passes the bytes on to an
//! engine that listens on loopback and believes only connections that the front has entered in [`Callers`].

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    admission::{Admissions, Bounds},
    callers::Callers,
};
use crate::{ca::ServerIdentity, config::BrokerConfig, service::BrokerError};

/// The certificate that new connections are served with.
struct Present(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

impl ResolvesServerCert for Present {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certified(identity: &ServerIdentity) -> Result<Arc<CertifiedKey>, BrokerError> {
    let key = aws_lc_rs::sign::any_supported_type(&identity.key())
        .map_err(|e| BrokerError::Certificates(e.into()))?;
    Ok(Arc::new(CertifiedKey::new(identity.chain().to_vec(), key)))
}

pub(super) struct Front {
    address: SocketAddr,
    present: Arc<Present>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// What a connection needs.
struct Desk {
    tls: TlsAcceptor,
    admissions: Arc<Admissions>,
    callers: Arc<Callers>,
    engine: SocketAddr,
    handshake: Duration,
    life: Duration,
}

impl Front {
    /// Listens, and passes on to the engine at `engine`.
    pub(super) async fn start(
        config: &BrokerConfig,
        identity: &ServerIdentity,
        callers: Arc<Callers>,
        engine: SocketAddr,
    ) -> Result<Self, BrokerError> {
        let failed = |source: io::Error| BrokerError::Listen {
            purpose: "enrolment",
            address: config.bootstrap,
            source: source.into(),
        };
        let present = Arc::new(Present(RwLock::new(certified(identity)?)));
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| BrokerError::Certificates(e.into()))?
            .with_no_client_auth()
            .with_cert_resolver(present.clone());
        // Sets SO_REUSEADDR, without which a restart would have to wait for old connections to be forgotten.
        let listener = TcpListener::bind(config.bootstrap).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let desk = Arc::new(Desk {
            tls: TlsAcceptor::from(Arc::new(tls)),
            admissions: Admissions::new(Bounds {
                in_all: config.max_bootstrap_connections,
                per_address: config.bootstrap_per_address,
                per_minute: config.bootstrap_per_minute,
            }),
            callers,
            engine,
            handshake: config.handshake_timeout,
            life: config.bootstrap_life,
        });
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, desk, stopped));
        Ok(Self { address, present, stop, accepting })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it listens.
    pub(super) fn is_listening(&self) -> bool {
        !self.accepting.is_finished()
    }

    /// Serves new connections with `identity`.
    pub(super) fn replace(&self, identity: &ServerIdentity) -> Result<(), BrokerError> {
        let fresh = certified(identity)?;
        *self.present.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Stops listening and drops every connection.
    pub(super) fn stop(&self) {
        // Nobody listening means that everything has ended already.
        let _ = self.stop.send(true);
        self.accepting.abort();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>, stopped: watch::Receiver<bool>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: accepting again at once would only turn in circles.
                tracing::warn!(%error, "the bootstrap listener cannot accept");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Some(admitted) = desk.admissions.admit(peer.ip(), Instant::now()) else {
            tracing::debug!(%peer, "the bootstrap listener is full or asked too often");
            continue;
        };
        let (desk, mut stopped) = (desk.clone(), stopped.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = timeout(desk.life, pass_on(&desk, stream, peer)) => ended,
                _ = stopped.wait_for(|stop| *stop) => Ok(Ok(())),
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a bootstrap connection broke"),
                Err(_) => tracing::debug!(%peer, "a bootstrap connection lived long enough"),
            }
            drop(admitted);
        });
    }
}

async fn pass_on(desk: &Desk, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut outside =
        timeout(desk.handshake, desk.tls.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let socket = if desk.engine.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let mut inside = socket.connect(desk.engine).await?;
    inside.set_nodelay(true)?;
    // Entered before the first byte is passed on, so the engine never asks too early.
    let _entered = desk.callers.enter(inside.local_addr()?, peer.ip());
    match tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut inside, 4096, 4096).await {
        // A client that hangs up without TLS's farewell.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        other => other.map(|_| ()),
    }
}
