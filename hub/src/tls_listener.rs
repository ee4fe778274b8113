//! HTTPS for people, where the hub listens beyond this machine.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use sosna_broker::ServerIdentity;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections may wait to be served.
const WAITING: usize = 256;

/// Accepts TLS connections. Handshakes go on beside each other: a slow one holds up nobody.
#[derive(Debug)]
pub(crate) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// Starts to accept, with the hub's certificate.
    pub(crate) fn start(listener: TcpListener, identity: &ServerIdentity) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(identity.chain().to_vec(), identity.key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let address = listener.local_addr().map_err(|error| rustls::Error::General(error.to_string()))?;
        let (done, ready) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            while !done.is_closed() {
                let Ok((stream, peer)) = listener.accept().await else {
                    // Out of descriptors, most likely.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (acceptor, done) = (acceptor.clone(), done.clone());
                tokio::spawn(async move {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        // A listener that is gone serves nobody.
                        let _ = done.send((stream, peer)).await;
                    }
                });
            }
        });
        Ok(Self { address, ready })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with the program.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
