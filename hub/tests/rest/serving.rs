//! The listeners of a hub that serves: what they bear from strangers, what they show, and when the hub is ready.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls_pki_types::ServerName;
use sosna_host::{
    clock::SystemClock,
    tls::{self, Pin},
};
use sosna_hub::{
    HubConfig,
    config::Ports,
    serve::{self, Serving},
};
use sosna_protocol::Hash;
use sosna_store::{Store, StoreError};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const PATIENCE: Duration = Duration::from_secs(20);
const ALIVE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n";

/// A hub on free ports of loopback.
async fn serving(change: impl FnOnce(&mut HubConfig)) -> (Serving, TempDir) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = TempDir::new().unwrap();
    let mut config = HubConfig {
        data: folder.path().join("hub").display().to_string(),
        ports: Ports { http: 0, main: 0, bootstrap: 0, content: 0 },
        ..HubConfig::default()
    };
    change(&mut config);
    (serve::start(config).await.unwrap(), folder)
}

/// `host:port` of the listener for people.
fn people(serving: &Serving) -> &str {
    let url = &serving.hub.addresses.get().unwrap().http;
    url.split_once("://").unwrap().1
}

/// What comes until so many bytes of it, `wanted`, have come, or until the end.
async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 1024];
    while !text.contains(wanted) {
        match timeout(PATIENCE, stream.read(&mut piece)).await.expect("neither an answer nor an end") {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&piece[..count])),
            _ => break,
        }
    }
    text
}

async fn readiness(address: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").await.unwrap();
    let text = answer(&mut stream, "no such text").await;
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_holds_the_listener_up() {
    let (hub, _folder) = serving(|config| {
        config.times.request_ms = 600;
        config.limits.connections = 3;
    })
    .await;
    let address = people(&hub);

    // A head that comes byte by byte is waited for as long as a head may take, and no longer.
    let began = Instant::now();
    let mut slow = TcpStream::connect(address).await.unwrap();
    for byte in ALIVE {
        if slow.write_all(&[*byte]).await.is_err() || began.elapsed() > PATIENCE {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let said = answer(&mut slow, "ok").await;
    assert!(!said.contains("200"), "{said}");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());

    // Nothing at all, and nothing any more after an answer.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(ALIVE).await.unwrap();
    assert!(answer(&mut idle, "ok\n").await.starts_with("HTTP/1.1 200"));
    for stream in [&mut silent, &mut idle] {
        assert!(!answer(stream, "200").await.contains("200"));
    }

    // No more than there are places; the next one has a place again.
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET").await.unwrap();
        open.push(stream);
    }
    sleep(Duration::from_millis(100)).await;
    let mut more = TcpStream::connect(address).await.unwrap();
    let _ = more.write_all(ALIVE).await;
    assert_eq!(answer(&mut more, "ok\n").await, "");
    open.pop();
    sleep(Duration::from_millis(100)).await;
    let mut next = TcpStream::connect(address).await.unwrap();
    next.write_all(ALIVE).await.unwrap();
    assert!(answer(&mut next, "ok\n").await.starts_with("HTTP/1.1 200"));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_ready_while_its_store_takes_writes_and_its_broker_serves() {
    let (hub, _folder) = serving(|_| {}).await;
    let address = people(&hub).to_owned();
    assert_eq!(readiness(&address).await.0, 200);

    // Somebody else holds the store: reading works, writing does not.
    let other = Store::open(hub.hub.store.path()).await.unwrap();
    let (release, released) = oneshot::channel::<()>();
    let (held, holding) = oneshot::channel();
    let holder = tokio::spawn(async move {
        let done = other.write(move |tx| {
            Box::pin(async move {
                tx.try_to_write(1).await?;
                held.send(()).unwrap();
                let _ = released.await;
                Ok::<_, StoreError>(())
            })
        });
        done.await
    });
    holding.await.unwrap();
    // What was true a moment ago is believed for a moment.
    sleep(Duration::from_millis(1100)).await;
    let (code, said) = readiness(&address).await;
    assert_eq!(code, 503, "{said}");
    assert!(said.contains("the store does not answer in time"), "{said}");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(ALIVE).await.unwrap();
    assert!(answer(&mut stream, "ok\n").await.starts_with("HTTP/1.1 200"), "it lives all the same");
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    timeout(PATIENCE, async {
        while readiness(&address).await.0 != 200 {
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap();

    // The broker goes, the pages stay.
    hub.hub.broker.get().unwrap().shutdown().await;
    let (code, said) = readiness(&address).await;
    assert_eq!(code, 503, "{said}");
    assert!(said.contains("the broker does not listen any more"), "{said}");
    hub.stop().await;
}

async fn pinned(address: &str, pin: Hash) -> std::io::Result<TlsStream<TcpStream>> {
    let config = tls::client(Pin::Key(pin), None, Some(SystemClock::shared())).unwrap();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("hub.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_are_encrypted_and_renew_their_certificate_without_dropping_anybody() {
    let (hub, _folder) = serving(|config| {
        config.https = true;
        config.times.listener_certificate_ms = 9_000;
    })
    .await;
    let addresses = hub.hub.addresses.get().unwrap().clone();
    assert!(addresses.http.starts_with("https://"), "{addresses:?}");
    let pin = Hash(hub.hub.authority.read().await.spki_sha256());
    let all = [
        people(&hub).to_owned(),
        addresses.main.clone(),
        format!("127.0.0.1:{}", addresses.bootstrap),
        addresses.content.trim_start_matches("https://").trim_end_matches("/content").to_owned(),
    ];
    let certificates = async || {
        let mut seen = Vec::new();
        for address in &all {
            seen.push(shown(&pinned(address, pin).await.unwrap()));
        }
        seen
    };

    // Plain HTTP is told what is spoken here, and nothing else.
    let mut plain = TcpStream::connect(&all[0]).await.unwrap();
    plain.write_all(ALIVE).await.unwrap();
    let said = answer(&mut plain, "no such text").await;
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("HTTPS only"), "{said}");
    // A hub with another key is not the one that was meant.
    let wrong = pinned(&all[0], Hash([7; 32])).await.unwrap_err();
    assert!(wrong.to_string().contains("invalid peer certificate"), "{wrong}");

    let mut standing = pinned(&all[0], pin).await.unwrap();
    standing.write_all(ALIVE).await.unwrap();
    assert!(answer(&mut standing, "ok\n").await.contains("200 OK"));
    let before = certificates().await;
    assert!(before.iter().all(|one| *one == before[0]), "one certificate for all listeners");

    let mut after = before.clone();
    timeout(PATIENCE, async {
        while after.iter().zip(&before).any(|(after, before)| after == before) {
            sleep(Duration::from_millis(300)).await;
            after = certificates().await;
        }
    })
    .await
    .expect("every listener shows a new certificate, under the same pin");
    let end = |one: &[u8]| tls::valid_until_ms(one).unwrap();
    assert!(end(&after[0]) > end(&before[0]));
    // Who was there before is still served, under the certificate of then.
    standing.write_all(ALIVE).await.unwrap();
    assert!(answer(&mut standing, "ok\n").await.contains("200 OK"));
    assert_eq!(shown(&standing), before[0]);
    hub.stop().await;
}
