//! How many messages a second the hub's broker takes, and how long each waits for its acknowledgement: devices over TLS
//! with client certificates, at quality 1, into a handler that only counts. Then the same devices at mosquitto, where
//! it is on PATH: alone, and with one subscriber that reads everything, without which nobody would have the messages.
//!
//! `cargo run --release -p sosna-broker --example ingest -- [devices] [in flight] [seconds]`
//!
//! One JSON object goes to standard output, everything else to standard error.

mod mosquitto;
mod publisher;

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use mosquitto::Mosquitto;
use publisher::{Figures, Load};
use sosna_broker::{
    Address, Admission, Arrival, Broker as _, BrokerConfig, CertificateAuthority, Departure, EmbeddedBroker,
    Handler, Kind, NotTaken, Peer,
};

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
    let load = Load {
        devices: arguments.next().transpose()?.unwrap_or(50),
        in_flight: arguments.next().transpose()?.unwrap_or(20),
        time: Duration::from_secs(u64::from(arguments.next().transpose()?.unwrap_or(5))),
    };

    let folder = tempfile::tempdir()?;
    let ca = CertificateAuthority::create(folder.path().join("ca"))?;
    let sosna = embedded(&ca, load).await?;
    eprintln!("sosna: {sosna}");
    let mut peers = String::from("null");
    if let Some(program) = mosquitto::program() {
        let mut figures = Vec::new();
        for subscribed in [false, true] {
            let peer = Mosquitto::start(&program, folder.path(), &ca).await?;
            let subscriber = if subscribed { Some(peer.subscribe(&ca).await?) } else { None };
            let one = publisher::measure(&ca, peer.address(), load).await?;
            eprintln!("mosquitto{}: {one}", if subscribed { " with a subscriber" } else { "" });
            if let Some(received) = subscriber {
                let bytes = received.load(Ordering::Relaxed);
                if bytes == 0 {
                    return Err("the subscriber at mosquitto received nothing".into());
                }
            }
            figures.push(one);
        }
        let ratio = |peer: &Figures| sosna.rate() / peer.rate().max(1.0);
        let [alone, subscribed] = [&figures[0], &figures[1]];
        peers = format!(
            r#"{{"alone":{},"with_subscriber":{},"ratio_to_alone":{:.3},"ratio_to_with_subscriber":{:.3}}}"#,
            alone.json(),
            subscribed.json(),
            ratio(alone),
            ratio(subscribed),
        );
    } else {
        eprintln!("mosquitto is not on PATH: nothing to compare with");
    }
    println!(
        r#"{{"devices":{},"in_flight":{},"seconds":{},"payload_bytes":{},"qos":1,"sosna":{},"mosquitto":{peers}}}"#,
        load.devices,
        load.in_flight,
        load.time.as_secs(),
        publisher::PAYLOAD,
        sosna.json(),
    );
    Ok(())
}

/// The hub's own broker. What clients were acknowledged must have come to the handler.
async fn embedded(ca: &CertificateAuthority, load: Load) -> Result<Figures, Failure> {
    let counter = Arc::new(Counter::default());
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = BrokerConfig { main: local, bootstrap: local, ..BrokerConfig::default() };
    let identity = ca.issue_server(&[], SystemTime::now(), Duration::from_secs(86_400))?;
    let broker = EmbeddedBroker::start(config, &identity, &ca.trust(), counter.clone()).await?;
    let figures = publisher::measure(ca, broker.main_addr(), load).await?;
    let taken = counter.0.load(Ordering::Relaxed);
    broker.shutdown().await;
    if taken < figures.acknowledged() {
        return Err(format!("{} were acknowledged and {taken} taken", figures.acknowledged()).into());
    }
    Ok(figures)
}
