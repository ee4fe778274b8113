//! Devices that publish as fast as they are acknowledged, the same for every broker; how many were, and after how long.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use sosna_broker::{Address, CertificateAuthority, Kind};
use sosna_protocol::topic::Topic;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Failure;

/// Bytes of each message.
const PAYLOAD: usize = 100;
/// Runs before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) type Stream = TlsStream<TcpStream>;

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) devices: u16,
    /// Messages of each device that wait for their acknowledgement.
    pub(crate) in_flight: u16,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Of every acknowledged message, in microseconds, sorted.
    latencies: Vec<u32>,
    time: Duration,
}

// === impl Figures ===

impl Figures {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// Acknowledged messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// Milliseconds within which 99 of a hundred were acknowledged.
    pub(crate) fn p99_ms(&self) -> f64 {
        let place = self.latencies.len() * 99 / 100;
        self.latencies.get(place).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} messages/s, p99 {:.2} ms", self.rate(), self.p99_ms())
    }
}

/// Publishes at a broker for the time that is asked.
pub(crate) async fn measure(
    ca: &CertificateAuthority,
    broker: SocketAddr,
    load: Load,
) -> Result<Figures, Failure> {
    let counts = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    let mut writers = JoinSet::new();
    let epoch = Instant::now();
    for number in 0..load.devices {
        let mut name = [0; 20];
        name[..2].copy_from_slice(&number.to_be_bytes());
        let name = Address(name);
        let (reader, writer) = tokio::io::split(connect(ca, name, broker).await?);
        let window = Window {
            free: Arc::new(Semaphore::new(usize::from(load.in_flight))),
            sent: (0..usize::from(load.in_flight) * 2).map(|_| AtomicU64::new(0)).collect(),
            epoch,
        };
        readers.spawn(listen(reader, window.clone(), counts.clone(), stop.clone()));
        writers.spawn(publish(writer, name, window));
    }
    eprintln!("{} devices connected in {:.2?}", load.devices, epoch.elapsed());
    tokio::time::sleep(WARM_UP).await;
    let start = Instant::now();
    counts.store(true, Ordering::Release);
    tokio::time::sleep(load.time).await;
    counts.store(false, Ordering::Release);
    let time = start.elapsed();
    stop.store(true, Ordering::Release);
    let mut latencies = Vec::new();
    while let Some(one) = readers.join_next().await {
        latencies.extend(one??);
    }
    writers.shutdown().await;
    if latencies.is_empty() {
        return Err("nothing was acknowledged".into());
    }
    latencies.sort_unstable();
    Ok(Figures { latencies, time })
}

/// What is under way on one connection.
#[derive(Clone)]
struct Window {
    free: Arc<Semaphore>,
    /// When the message of each number went out, in nanoseconds; numbers come round after twice the window.
    sent: Arc<[AtomicU64]>,
    epoch: Instant,
}

impl Window {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A device's connection, after its CONNECT.
pub(crate) async fn connect(
    ca: &CertificateAuthority,
    name: Address,
    hub: SocketAddr,
) -> Result<Stream, Failure> {
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

/// Reads acknowledgements until it is told to stop; how long those took that count.
async fn listen(
    mut reader: ReadHalf<Stream>,
    window: Window,
    counts: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<u32>, Failure> {
    let mut latencies = Vec::new();
    let mut packets = Vec::new();
    let mut piece = [0; 4096];
    while !stop.load(Ordering::Acquire) {
        let count = reader.read(&mut piece).await?;
        if count == 0 {
            return Err("the broker closed a connection".into());
        }
        let (now, do_count) = (window.now(), counts.load(Ordering::Acquire));
        packets.extend_from_slice(&piece[..count]);
        // A PUBACK has four bytes; nothing else comes.
        let whole = packets.len() / 4 * 4;
        for packet in packets[..whole].chunks_exact(4) {
            if packet[..2] != [0x40, 2] {
                return Err(format!("not an acknowledgement: {packet:?}").into());
            }
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            let sent = window.sent[usize::from(number) % window.sent.len()].load(Ordering::Acquire);
            if do_count {
                latencies.push(u32::try_from(now.saturating_sub(sent) / 1000).unwrap_or(u32::MAX));
            }
        }
        packets.drain(..whole);
        window.free.add_permits(whole / 4);
    }
    Ok(latencies)
}

async fn publish(mut writer: WriteHalf<Stream>, name: Address, window: Window) -> Result<(), Failure> {
    let topic = Topic::up(name, Kind::Beat).text();
    let rest = u8::try_from(2 + topic.len() + 2 + PAYLOAD)?;
    let mut head = vec![0x32];
    // A length above 127 takes two bytes.
    head.extend([rest | 0x80, 1]);
    head.extend([0, u8::try_from(topic.len())?]);
    head.extend(topic.bytes());
    // A multiple of the slots, so that numbers and slots come round together.
    let slots = u16::try_from(window.sent.len())?;
    let most = u16::MAX / slots * slots;
    let mut number = 0_u16;
    loop {
        window.free.acquire().await?.forget();
        // Zero is no packet's number; the one after the last would fall on the first's slot anyway.
        number = if number >= most { 1 } else { number + 1 };
        let mut packet = head.clone();
        packet.extend(number.to_be_bytes());
        packet.extend([0x55; PAYLOAD]);
        window.sent[usize::from(number % slots)].store(window.now(), Ordering::Release);
        writer.write_all(&packet).await?;
    }
}
