//! How many messages a second the hub's broker takes, and how long each waits for its acknowledgement: devices over TLS
//! with client certificates, at quality 1, into a handler that only counts. Then the same devices at mosquitto, where
//! it is on PATH: alone, and with one subscriber that reads everything, without which nobody would have the messages.
//!
//! `cargo run --release -p sosna-broker --example ingest -- [devices] [in flight] [seconds]`
//!
//! Each figure goes to standard output as one JSON object on a line, as `cargo xtask bench` wants it; everything else
//! goes to standard error.

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
    let Some(program) = mosquitto::program() else {
        eprintln!("SKIPPED the comparison: mosquitto is not on PATH");
        print("1/s", "telemetry", Figures::rate, &sosna, None);
        print("ms", "telemetry p99", Figures::p99_ms, &sosna, None);
        return Ok(());
    };
    for (name, subscribed) in [("mosquitto", true), ("mosquitto, nobody subscribed", false)] {
        let peer = Mosquitto::start(&program, folder.path(), &ca).await?;
        let subscriber = if subscribed { Some(peer.subscribe(&ca).await?) } else { None };
        let figures = publisher::measure(&ca, peer.address(), load).await?;
        eprintln!("{name}: {figures}");
        if subscriber.is_some_and(|received| received.load(Ordering::Relaxed) == 0) {
            return Err("the subscriber at mosquitto received nothing".into());
        }
        print("1/s", "telemetry", Figures::rate, &sosna, Some((name, &figures)));
        print("ms", "telemetry p99", Figures::p99_ms, &sosna, Some((name, &figures)));
    }
    Ok(())
}

/// One figure, as `cargo xtask bench` reads it.
fn print(unit: &str, metric: &str, of: fn(&Figures) -> f64, sosna: &Figures, peer: Option<(&str, &Figures)>) {
    let peer = peer.map_or_else(String::new, |(name, figures)| {
        format!(r#","peer":"{name}","peer_value":{:.3}"#, of(figures))
    });
    println!(r#"{{"metric":"{metric}","value":{:.3},"unit":"{unit}"{peer}}}"#, of(sosna));
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
