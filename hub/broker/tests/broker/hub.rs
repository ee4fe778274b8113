//! A broker with a handler that records, and devices with certificates.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sosna_broker::{
    Address, Admission, Arrival, Broker as _, BrokerConfig, CertificateAuthority, Departure, EmbeddedBroker,
    Handler, Kind, NotTaken, Peer, Serial, ServerIdentity,
};
use sosna_protocol::topic::Topic;
use tokio::sync::{Semaphore, mpsc};

/// Longer than anything here takes, shorter than a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must happen for it to count as not happening.
pub const QUIET: Duration = Duration::from_millis(300);

const DAY: Duration = Duration::from_secs(86_400);

static PROVIDER: Once = Once::new();

/// The ports on which the hubs of this process listen to everybody.
pub static PUBLIC: Mutex<Vec<u16>> = Mutex::new(Vec::new());

pub fn install_provider() {
    PROVIDER.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    });
}

#[derive(Debug, PartialEq)]
pub enum Event {
    Came(Arrival),
    Went(Address, Departure),
}

/// Records what the broker says and answers as it was told to.
pub struct Recorder {
    messages: mpsc::UnboundedSender<(Peer, Kind, Vec<u8>)>,
    events: mpsc::UnboundedSender<Event>,
    pub revoked: Mutex<HashSet<Serial>>,
    /// Answers for the next messages; `Ok` when empty.
    pub verdicts: Mutex<VecDeque<Result<(), NotTaken>>>,
    /// A message takes one permit; plenty unless a test takes them away.
    pub gate: Semaphore,
    /// After how many questions every further one is denied.
    pub allowances: AtomicUsize,
    /// Whether nobody can be told anything now.
    pub in_trouble: AtomicBool,
}

#[async_trait]
impl Handler for Recorder {
    async fn authorise(&self, _device: Address, serial: Serial) -> Admission {
        if self.in_trouble.load(Ordering::SeqCst) {
            return Admission::Later("the disk is full".into());
        }
        let left =
            self.allowances.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() || self.revoked.lock().unwrap().contains(&serial) {
            return Admission::Deny("revoked".into());
        }
        Admission::Allow
    }

    async fn message(&self, from: Peer, kind: Kind, payload: &[u8]) -> Result<(), NotTaken> {
        // A test that is over does not listen any more.
        let _ = self.messages.send((from, kind, payload.to_vec()));
        self.gate.acquire().await.unwrap().forget();
        self.verdicts.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }

    async fn connected(&self, arrival: Arrival) {
        let _ = self.events.send(Event::Came(arrival));
    }

    async fn disconnected(&self, device: Address, why: Departure) {
        let _ = self.events.send(Event::Went(device, why));
    }
}

pub struct Hub {
    pub broker: EmbeddedBroker,
    pub ca: CertificateAuthority,
    pub recorder: Arc<Recorder>,
    pub messages: mpsc::UnboundedReceiver<(Peer, Kind, Vec<u8>)>,
    pub events: mpsc::UnboundedReceiver<Event>,
    _folder: tempfile::TempDir,
}

pub fn loopback() -> BrokerConfig {
    BrokerConfig {
        main: SocketAddr::from(([127, 0, 0, 1], 0)),
        bootstrap: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_connections: 100,
        ..BrokerConfig::default()
    }
}

impl Hub {
    pub async fn start() -> Self {
        Self::with(loopback()).await
    }

    pub async fn with(config: BrokerConfig) -> Self {
        install_provider();
        let folder = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(folder.path().join("ca")).unwrap();
        let (messages, message_queue) = mpsc::unbounded_channel();
        let (events, event_queue) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder {
            messages,
            events,
            revoked: Mutex::default(),
            verdicts: Mutex::default(),
            gate: Semaphore::new(1_000_000),
            allowances: AtomicUsize::new(1_000_000),
            in_trouble: AtomicBool::new(false),
        });
        let identity = ca.issue_server(&[], SystemTime::now(), DAY).unwrap();
        let broker = EmbeddedBroker::start(config, &identity, &ca.trust(), recorder.clone()).await.unwrap();
        PUBLIC.lock().unwrap().extend([broker.main_addr().port(), broker.bootstrap_addr().port()]);
        Self { broker, ca, recorder, messages: message_queue, events: event_queue, _folder: folder }
    }

    pub fn identity(&self) -> ServerIdentity {
        self.ca.issue_server(&[], SystemTime::now(), DAY).unwrap()
    }

    /// The next message that the handler was given.
    pub async fn message(&mut self) -> (Peer, Kind, Vec<u8>) {
        tokio::time::timeout(PATIENCE, self.messages.recv())
            .await
            .expect("a message should have come")
            .unwrap()
    }

    pub async fn no_message(&mut self) {
        let message = tokio::time::timeout(QUIET, self.messages.recv()).await;
        assert!(message.is_err(), "nothing should have reached the handler: {message:?}");
    }

    pub async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("something should have happened")
            .unwrap()
    }

    pub async fn no_event(&mut self) {
        let event = tokio::time::timeout(QUIET, self.events.recv()).await;
        assert!(event.is_err(), "nothing should have happened: {event:?}");
    }

    pub async fn arrival(&mut self) -> Arrival {
        match self.event().await {
            Event::Came(arrival) => arrival,
            other => panic!("an arrival was expected, not {other:?}"),
        }
    }

    pub fn revoke(&self, serial: Serial) {
        self.recorder.revoked.lock().unwrap().insert(serial);
    }

    pub fn answer(&self, verdict: Result<(), NotTaken>) {
        self.recorder.verdicts.lock().unwrap().push_back(verdict);
    }

    /// Lets no message through until a permit is added.
    pub fn hold(&self) {
        let gate = &self.recorder.gate;
        gate.forget_permits(gate.available_permits());
    }

    pub async fn shutdown(&self) {
        self.broker.shutdown().await;
    }
}

/// A device with its key and certificate.
pub struct Device {
    pub address: Address,
    pub serial: Serial,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Vec<u8>,
}

pub fn request(name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = CertificateParams::new(vec![name.to_owned()]).unwrap().serialize_request(&key).unwrap();
    (csr.der().to_vec(), key.serialize_der())
}

impl Device {
    pub fn new(ca: &CertificateAuthority, number: u8) -> Self {
        Self::valid_for(ca, number, SystemTime::now(), Duration::from_secs(86_400))
    }

    pub fn valid_for(ca: &CertificateAuthority, number: u8, now: SystemTime, validity: Duration) -> Self {
        let address = Address([number; 20]);
        let (csr, key) = request("ignored.example");
        let issued = ca.sign_device_csr(&csr, &address, now, validity).unwrap();
        Self { address, serial: issued.serial, chain: vec![issued.der, issued.authority], key }
    }

    /// TLS with this device's certificate, trusting `ca`.
    pub fn tls(&self, ca: &CertificateAuthority) -> ClientConfig {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        ClientConfig::builder()
            .with_root_certificates(roots(ca))
            .with_client_auth_cert(self.chain.clone(), key)
            .unwrap()
    }

    pub fn up(&self, kind: Kind) -> String {
        Topic::up(self.address, kind).text().to_string()
    }

    pub fn down(&self, kind: Kind) -> String {
        Topic::down(self.address, kind).text().to_string()
    }
}

pub fn roots(ca: &CertificateAuthority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in ca.trust().certificates() {
        roots.add(certificate.clone()).unwrap();
    }
    roots
}

/// TLS without a certificate, trusting `ca`.
pub fn anonymous(ca: &CertificateAuthority) -> ClientConfig {
    ClientConfig::builder().with_root_certificates(roots(ca)).with_no_client_auth()
}
