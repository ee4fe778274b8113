//! How many messages a second go through the broker's hook: devices and hub in one process, over TLS with client
//! certificates, at quality 1, a handler that only counts. For the record, not a promise.
//!
//! `cargo run --release -p sosna-broker --example ingest -- [devices] [in flight] [seconds]`

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use sosna_broker::{
    Address, Admission, Arrival, Broker as _, BrokerConfig, CertificateAuthority, Departure, EmbeddedBroker,
    Handler, Kind, NotTaken, Peer,
};
use sosna_protocol::topic::Topic;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_rustls::TlsConnector;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Default)]
struct Counter(AtomicU64);

#[async_trait]
impl Handler for Counter {
    async fn authorise(&self, _device: Address, _serial: sosna_broker::Serial) -> Admission {
        Admission::Allow
    }

    async fn message(&self, _from: Peer, _kind: Kind, _payload: &[u8]) -> Result<(), NotTaken> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn connected(&self, _arrival: Arrival) {}

    async fn disconnected(&self, _device: Address, _why: Departure) {}
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is installed")?;
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u16>());
    let devices = arguments.next().transpose()?.unwrap_or(50);
    let in_flight = arguments.next().transpose()?.unwrap_or(20);
    let seconds = u64::from(arguments.next().transpose()?.unwrap_or(5));

    let folder = tempfile::tempdir()?;
    let ca = CertificateAuthority::create(folder.path().join("ca"))?;
    let counter = Arc::new(Counter::default());
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = BrokerConfig { main: local, bootstrap: local, ..BrokerConfig::default() };
    let identity = ca.issue_server(&[], SystemTime::now(), Duration::from_secs(86_400))?;
    let broker = EmbeddedBroker::start(config, &identity, &ca.trust(), counter.clone()).await?;

    let start = Instant::now();
    for number in 0..devices {
        let mut name = [0; 20];
        name[..2].copy_from_slice(&number.to_be_bytes());
        let stream = connect(&ca, Address(name), broker.main_addr()).await?;
        tokio::spawn(publish(stream, Address(name), in_flight));
    }
    println!("{devices} devices connected in {:.2?}", start.elapsed());

    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, start) = (counter.0.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, time) = (counter.0.load(Ordering::Relaxed), start.elapsed());
    let rate = u128::from(after - before) * 1000 / time.as_millis().max(1);
    println!("{rate} messages/s of 100 bytes, {devices} devices with {in_flight} in flight each");
    broker.shutdown().await;
    Ok(())
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(ca: &CertificateAuthority, name: Address, hub: SocketAddr) -> Result<Stream, Failure> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let day = Duration::from_secs(86_400);
    let certificate = ca.sign_device_csr(csr.der(), &name, SystemTime::now(), day)?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone())?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let tls = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.der, certificate.authority], key)?;
    let tcp = TcpStream::connect(hub).await?;
    tcp.set_nodelay(true)?;
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(ServerName::from(hub.ip()), tcp).await?;

    // CONNECT of version 3.1.1: clean session, keep-alive of ten minutes.
    let mut packet = vec![0x10, 52, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 2, 88, 0, 40];
    packet.extend(name.to_string().bytes());
    stream.write_all(&packet).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer == [0x20, 2, 0, 0] { Ok(stream) } else { Err(format!("refused: {answer:?}").into()) }
}

async fn publish(stream: Stream, name: Address, in_flight: u16) -> Result<(), Failure> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let window = Arc::new(Semaphore::new(usize::from(in_flight)));
    let free = window.clone();
    tokio::spawn(async move {
        let mut answers = [0; 4096];
        let mut rest = 0;
        loop {
            // A PUBACK has four bytes.
            let Ok(count @ 1..) = reader.read(&mut answers).await else { return };
            free.add_permits((rest + count) / 4);
            rest = (rest + count) % 4;
        }
    });
    let topic = Topic::up(name, Kind::Beat).text();
    let rest = u8::try_from(2 + topic.len() + 2 + 100)?;
    let mut number = 0_u16;
    loop {
        window.acquire().await?.forget();
        number = number.checked_add(1).unwrap_or(1);
        let mut packet = vec![0x32];
        // A length above 127 takes two bytes.
        packet.extend([rest | 0x80, 1]);
        packet.extend([0, u8::try_from(topic.len())?]);
        packet.extend(topic.bytes());
        packet.extend(number.to_be_bytes());
        packet.extend([0x55; 100]);
        writer.write_all(&packet).await?;
    }
}
