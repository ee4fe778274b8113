//! A hub played by a test: a real broker (mosquitto) with real TLS, a real content server, and messages that are
//! really signed; only what it decides is written in the test.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "tests; no test uses all of it"
)]

pub mod agent;
pub mod broker;
pub mod content;
pub mod image;
pub mod opening;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rumqttc::v5::{AsyncClient, Event, MqttOptions, mqttbytes::QoS, mqttbytes::v5::Packet};
use sosna_host::{identity::IdentityKey, tls, token::JoinToken};
use sosna_protocol::{
    Address, Amount, Hash,
    codec::{Bounded, List},
    eip712::{Delegation, Domain, Receipt, Typed as _, Voucher, receipts_root},
    envelope::{self, Meta},
    frame::Frame,
    hash::sha256,
    identity::{AssignmentId, Sign as _},
    message::{
        Message,
        ack::{Ack, Position},
        enrol::{self, Granted, Refused},
        hello::{self, Welcome},
        pay::{Issue, Statement},
    },
    topic::{Kind, Topic},
    window::{Contiguous, Seen},
};

/// A program on `PATH`, or where root's programs are on a system whose `PATH` leaves them out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    places.map(|folder| folder.join(name)).find(|program| program.is_file())
}
use tokio::sync::mpsc;

use broker::Broker;
use content::Content;

pub const PATIENCE: Duration = Duration::from_secs(90);

/// A frame from a device, checked.
#[derive(Debug, Clone)]
pub struct Heard {
    pub device: Address,
    pub kind: Kind,
    pub counter: u64,
    pub epoch: u32,
    pub bytes: &'static [u8],
}

impl Heard {
    pub fn frame(&self) -> Frame<'static> {
        Frame::decode(self.bytes).unwrap()
    }
}

pub struct ScriptedHub {
    pub key: IdentityKey,
    pub owner: IdentityKey,
    pub secret: Hash,
    pub broker: Broker,
    pub content: Content,
    pub authority: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    client: AsyncClient,
    heard: mpsc::UnboundedReceiver<(String, Vec<u8>)>,
    counter: u64,
    windows: std::collections::HashMap<(Address, Kind), Contiguous>,
    _folder: tempfile::TempDir,
}

pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl ScriptedHub {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "scripted hub");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);

        let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let server_key = KeyPair::generate().unwrap();
        let certificate = server.signed_by(&server_key, &issuer).unwrap();
        let broker =
            Broker::start(folder.path(), &authority.pem(), &certificate.pem(), &server_key.serialize_pem());
        let chain = vec![certificate.der().clone(), authority.der().clone()];
        let content = Content::start(chain, server_key.serialize_der(), authority.der().clone()).await;
        let (client, heard) = listen(broker.plain).await;
        Self {
            key: IdentityKey::generate(),
            owner: IdentityKey::generate(),
            secret: Hash(sosna_host::random()),
            broker,
            content,
            authority,
            issuer,
            client,
            heard,
            counter: 0,
            windows: std::collections::HashMap::new(),
            _folder: folder,
        }
    }

    pub fn token(&self) -> JoinToken {
        let (expires, uses) = (now_ms() / 1000 + 3600, 10);
        let delegation =
            Delegation { hub: self.key.address(), secret_hash: sha256(&self.secret.0), expires, uses };
        JoinToken {
            host: "127.0.0.1".into(),
            bootstrap_port: self.broker.bootstrap,
            hub: self.key.address(),
            authority: tls::key_hash(self.authority.der()).unwrap(),
            secret: self.secret,
            owner: self.owner.address(),
            expires,
            uses,
            delegation: delegation.sign(&Domain::off_chain(self.key.address()), &self.owner).unwrap(),
        }
    }

    /// The broker goes away, and comes back on the same ports.
    pub fn go_away(&mut self) {
        self.broker.stop();
    }

    pub async fn come_back(&mut self) {
        self.broker.start_again();
        (self.client, self.heard) = listen(self.broker.plain).await;
    }

    pub fn seal<M: Message>(&mut self, device: Address, message: &M) -> Vec<u8> {
        let key = self.key.clone();
        self.seal_as(&key, device, message)
    }

    /// A counter that no other frame has.
    pub const fn next_counter(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn seal_as<M: Message>(&mut self, signer: &IdentityKey, device: Address, message: &M) -> Vec<u8> {
        let meta = Meta {
            sender: signer.address(),
            audience: device,
            epoch: 1,
            counter: self.next_counter(),
            expires_ms: now_ms() + 600_000,
        };
        sosna_host::seal::one(signer, meta, sosna_host::seal::body(message).unwrap()).unwrap()
    }

    pub async fn publish(&self, device: Address, kind: Kind, frame: Vec<u8>) {
        let topic = Topic::down(device, kind).text();
        self.client.publish(topic.as_str(), QoS::AtLeastOnce, false, frame).await.unwrap();
    }

    pub async fn say<M: Message>(&mut self, device: Address, message: &M) -> Vec<u8> {
        let frame = self.seal(device, message);
        self.publish(device, M::KIND, frame.clone()).await;
        frame
    }

    /// The next frame of one of these kinds that was not here before. Envelopes are checked; kinds of the outbox are
    /// acknowledged as a hub does it.
    pub async fn hear(&mut self, kinds: &[Kind]) -> Heard {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let heard = self.hear_any().await;
                if kinds.contains(&heard.kind) {
                    return heard;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("nothing of {kinds:?} came"))
    }

    async fn hear_any(&mut self) -> Heard {
        loop {
            let (topic, payload) = self.heard.recv().await.unwrap();
            let Some(Topic::Up { device, kind, shard }) = Topic::parse(&topic) else {
                panic!("topic {topic}")
            };
            assert_eq!(shard, sosna_protocol::topic::shard_of(&device));
            let bytes: &'static [u8] = Box::leak(payload.into_boxed_slice());
            agent::assert_no_key_in(bytes);
            let frame = Frame::decode(bytes).unwrap();
            if kind == Kind::Log {
                return Heard { device, kind, counter: 0, epoch: 0, bytes };
            }
            let seal = envelope::open(&frame, &self.key.address(), &device, None).unwrap();
            let (epoch, counter) = (seal.meta.epoch, seal.meta.counter);
            if matches!(kind, Kind::Work | Kind::Result | Kind::Pay) {
                let window = self.windows.entry((device, kind)).or_default();
                let seen = window.accept(epoch, counter);
                let (epoch, contiguous) = window.position();
                let positions = [Position { kind, epoch, contiguous }];
                self.say(device, &Ack { positions: List::new(&positions) }).await;
                if seen != Seen::Fresh {
                    continue;
                }
            }
            return Heard { device, kind, counter, epoch, bytes };
        }
    }

    /// Nothing of these kinds comes for a while.
    pub async fn hear_nothing(&mut self, kinds: &[Kind], time: Duration) {
        let heard = tokio::time::timeout(time, async {
            loop {
                let heard = self.hear_any().await;
                if kinds.contains(&heard.kind) {
                    return heard;
                }
            }
        })
        .await;
        assert!(heard.is_err(), "unexpected: {heard:?}");
    }

    /// Admits the next device that asks.
    pub async fn admit(&mut self) -> Address {
        let heard = self.hear(&[Kind::Enrol]).await;
        let enrol::Up::Request(request) = enrol::Up::read(&heard.frame()).unwrap() else {
            panic!("no request")
        };
        assert_eq!(request.secret, self.secret);
        let (certificate, valid_until_ms) = self.sign(request.csr.0, &heard.device);
        self.grant(heard.device, request.nonce, &certificate, valid_until_ms).await;
        heard.device
    }

    pub fn sign(&self, csr: &[u8], device: &Address) -> (Vec<u8>, u64) {
        self.sign_until(csr, device, None)
    }

    /// With another end of its validity, at the beginning of a year.
    pub fn sign_until(&self, csr: &[u8], device: &Address, end: Option<i32>) -> (Vec<u8>, u64) {
        let mut csr = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        csr.params.distinguished_name = rcgen::DistinguishedName::new();
        csr.params.distinguished_name.push(DnType::CommonName, device.to_string());
        if let Some(year) = end {
            csr.params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            csr.params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
        let certificate = csr.signed_by(&self.issuer).unwrap();
        let der = certificate.der().to_vec();
        let valid_until_ms = tls::valid_until_ms(&der).unwrap();
        (der, valid_until_ms)
    }

    pub async fn grant(
        &mut self,
        device: Address,
        nonce: sosna_protocol::identity::Nonce,
        certificate: &[u8],
        valid_until_ms: u64,
    ) {
        let authority = self.authority.der().to_vec();
        let authorities = [Bounded(authority.as_slice())];
        let (main, base) = (format!("127.0.0.1:{}", self.broker.main), self.content.base.clone());
        let granted = Granted {
            nonce,
            time_ms: now_ms(),
            certificate: Bounded(certificate),
            authorities: List::new(&authorities),
            valid_until_ms,
            main: Bounded(&main),
            content: Bounded(&base),
        };
        self.say(device, &granted).await;
    }

    pub async fn turn_away(&mut self, refusal: enrol::Refusal, explanation: &str) {
        let heard = self.hear(&[Kind::Enrol]).await;
        let enrol::Up::Request(request) = enrol::Up::read(&heard.frame()).unwrap() else {
            panic!("no request")
        };
        let refused =
            Refused { nonce: request.nonce, time_ms: now_ms(), refusal, explanation: Bounded(explanation) };
        self.say(heard.device, &refused).await;
    }

    /// Answers the next greeting and returns what the device holds.
    pub async fn welcome(&mut self, beat_ms: u32) -> Vec<AssignmentId> {
        let heard = self.hear(&[Kind::Hello]).await;
        let hello::Up::Hello(hello) = hello::Up::read(&heard.frame()).unwrap();
        let positions: Vec<_> = [Kind::Work, Kind::Result, Kind::Pay]
            .into_iter()
            .filter_map(|kind| {
                let (epoch, contiguous) = self.windows.get(&(heard.device, kind))?.position();
                Some(Position { kind, epoch, contiguous })
            })
            .collect();
        let welcome = Welcome {
            nonce: hello.nonce,
            version: hello.newest,
            time_ms: now_ms(),
            beat_ms,
            lease_ms: 60_000,
            positions: List::new(&positions),
            unwanted: List::default(),
            main: Bounded(""),
            content: Bounded(""),
        };
        self.say(heard.device, &welcome).await;
        hello.held.iter().collect()
    }

    /// A voucher over receipts, and the assignments that it covers.
    pub async fn pay(&mut self, device: Address, cumulative: Amount, receipts: &[Receipt]) {
        let domain = Domain::off_chain(self.key.address());
        let root = receipts_root(receipts.iter().map(|receipt| receipt.digest(&domain)));
        let voucher = Voucher { device, cumulative, receipts: root };
        let signature = voucher.sign(&domain, &self.key).unwrap();
        let statement =
            Statement { chain_id: 0, wallet: domain.wallet, cumulative, receipts: root, signature };
        let covers: Vec<_> = receipts.iter().map(|receipt| receipt.assignment).collect();
        self.say(device, &Issue { statement, covers: List::new(&covers) }).await;
    }
}

async fn listen(port: u16) -> (AsyncClient, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let mut options = MqttOptions::new("scripted-hub", "127.0.0.1", port);
    options.set_outgoing_inflight_upper_limit(64);
    let mut properties = rumqttc::v5::mqttbytes::v5::ConnectProperties::new();
    properties.max_packet_size = Some(200 * 1024);
    options.set_connect_properties(properties);
    let (client, mut event_loop) = AsyncClient::new(options, 64);
    let (sender, heard) = mpsc::unbounded_channel();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    client.subscribe("u/#", QoS::AtLeastOnce).await.unwrap();
    tokio::spawn(async move {
        let mut ready = Some(ready);
        while let Ok(event) = event_loop.poll().await {
            match event {
                Event::Incoming(Packet::SubAck(_)) => {
                    if let Some(ready) = ready.take() {
                        ready.send(()).unwrap();
                    }
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    if sender.send((topic, publish.payload.to_vec())).is_err() {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
    is_ready.await.unwrap();
    (client, heard)
}
