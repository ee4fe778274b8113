//! A content server over real sockets that can be told to misbehave, and that remembers what it was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sosna_layers::{Digest, Source};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What the server does about one blob instead of sending it.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The first request gets so many bytes and a broken connection.
    CutOnce(usize),
    /// Every request gets so many bytes and a broken connection.
    CutAlways(usize),
    /// Ranges are ignored.
    NoRange,
    /// Other bytes are sent.
    Instead(Vec<u8>),
    /// Only a status.
    Status(u16),
    /// Half of it, then nothing.
    Stall,
    /// Sent after this time.
    Late(Duration),
}

#[derive(Default)]
struct Shared {
    blobs: HashMap<Digest, Vec<u8>>,
    faults: HashMap<Digest, Fault>,
    /// Blob and first byte of each request.
    asked: Vec<(Digest, u64)>,
}

/// A running server; stops when dropped.
pub(crate) struct Server {
    shared: Arc<Mutex<Shared>>,
    address: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(blobs: &HashMap<Digest, Vec<u8>>) -> Self {
        Self::start_with(blobs, None).await
    }

    /// With TLS when there is an acceptor.
    pub(crate) async fn start_with(blobs: &HashMap<Digest, Vec<u8>>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = match &tls {
            Some(_) => format!("https://localhost:{port}/content"),
            None => format!("http://127.0.0.1:{port}/content"),
        };
        let shared = Arc::new(Mutex::new(Shared { blobs: blobs.clone(), ..Shared::default() }));
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (Arc::clone(&served), tls.clone());
                tokio::spawn(async move {
                    // A client that goes away, or may not come in, is no failure of the server's.
                    let _ = match tls {
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => answer(stream, &shared).await,
                            Err(error) => Err(error),
                        },
                        None => answer(stream, &shared).await,
                    };
                });
            }
        });
        Self { shared, address, task }
    }

    pub(crate) fn add(&self, blobs: &HashMap<Digest, Vec<u8>>) {
        self.shared.lock().unwrap().blobs.extend(blobs.clone());
    }

    pub(crate) fn fault(&self, digest: Digest, fault: Fault) {
        self.shared.lock().unwrap().faults.insert(digest, fault);
    }

    pub(crate) fn heal(&self) {
        self.shared.lock().unwrap().faults.clear();
    }

    /// First bytes of all requests for one blob.
    pub(crate) fn asked(&self, digest: Digest) -> Vec<u64> {
        let shared = self.shared.lock().unwrap();
        shared.asked.iter().filter(|(asked, _)| *asked == digest).map(|(_, from)| *from).collect()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn source(&self) -> Source {
        Source::Content { base_url: self.address.clone(), client: reqwest::Client::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Mutex<Shared>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let hex = head.split_whitespace().nth(1).and_then(|path| path.strip_prefix("/content/sha256/"));
    let Some(digest) = hex.and_then(|hex| Digest::from_hex(hex).ok()) else {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    };
    let range =
        head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let mut from: usize = range.unwrap_or(0);
    let (blob, fault) = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push((digest, from as u64));
        let fault = shared.faults.get(&digest).cloned();
        if matches!(fault, Some(Fault::CutOnce(_))) {
            shared.faults.remove(&digest);
        }
        (shared.blobs.get(&digest).cloned(), fault)
    };
    let status = |code: u16| format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let Some(mut blob) = blob else { return stream.write_all(status(404).as_bytes()).await };
    match &fault {
        Some(Fault::Status(code)) => return stream.write_all(status(*code).as_bytes()).await,
        Some(Fault::NoRange) => from = 0,
        Some(Fault::Instead(other)) => blob.clone_from(other),
        Some(Fault::Late(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    if from > blob.len() {
        return stream.write_all(status(416).as_bytes()).await;
    }
    let body = &blob[from..];
    let line = if from > 0 {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", blob.len() - 1, blob.len())
    } else {
        "200 OK".into()
    };
    let head = format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    let sent = match fault {
        Some(Fault::CutOnce(bytes) | Fault::CutAlways(bytes)) => bytes.min(body.len()),
        Some(Fault::Stall) => body.len() / 2,
        _ => body.len(),
    };
    stream.write_all(&body[..sent]).await?;
    stream.flush().await?;
    if matches!(fault, Some(Fault::Stall)) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    stream.shutdown().await
}
