//! The hub's content store over HTTPS with client certificates, in memory.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    routing::get,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use sosna_protocol::{Hash, hash::sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

type Blobs = Arc<Mutex<HashMap<String, Bytes>>>;

pub struct Content {
    pub base: String,
    blobs: Blobs,
}

struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Content {
    pub async fn start(
        chain: Vec<CertificateDer<'static>>,
        key: Vec<u8>,
        authority: CertificateDer<'static>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let config =
            ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let secure = Secure { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let blobs = Blobs::default();
        let routes = Router::new()
            .route("/sha256/{name}", get(read).put(write))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&blobs));
        tokio::spawn(async move { axum::serve(secure, routes).await });
        Self { base, blobs }
    }

    /// Loses it, as a disk may.
    pub fn lose(&self, name: &Hash) {
        self.blobs.lock().unwrap().remove(&name.to_string()).expect("it was there");
    }

    pub fn put(&self, bytes: &[u8]) -> Hash {
        let name = sha256(bytes);
        self.blobs.lock().unwrap().insert(name.to_string(), Bytes::copy_from_slice(bytes));
        name
    }

    pub fn get(&self, name: &Hash) -> Option<Bytes> {
        self.blobs.lock().unwrap().get(&name.to_string()).cloned()
    }

    pub fn count(&self) -> usize {
        self.blobs.lock().unwrap().len()
    }
}

async fn read(State(blobs): State<Blobs>, Path(name): Path<String>) -> Result<Bytes, StatusCode> {
    blobs.lock().unwrap().get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn write(State(blobs): State<Blobs>, Path(name): Path<String>, body: Bytes) -> StatusCode {
    if sha256(&body).to_string() != name {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    blobs.lock().unwrap().insert(name, body);
    StatusCode::CREATED
}
