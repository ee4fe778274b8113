//! The broker inside the hub's process: two rmqtt engines that share nothing, one for each listener.
//!
//! Nothing outside this folder may name rmqtt.

mod admission;
mod callers;
mod engine;
mod fitter;
mod front;
mod hooks;
mod postponed;
mod predecessors;
mod reaper;
mod sessions;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sosna_protocol::{Address, topic::Kind};
use tokio::{sync::Mutex, task::JoinHandle, time::Instant};

use crate::{
    access::Realm,
    ca::{ServerIdentity, TrustBundle},
    config::BrokerConfig,
    service::{Broker, BrokerError, Delivery, Handler},
};
use callers::Callers;
use engine::Engine;
use front::Front;
use hooks::Hooks;
use sessions::Sessions;

/// How long a shutdown waits for sessions to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The broker inside the hub's process. Dropping it stops listening; [`Broker::shutdown`] also ends the
/// sessions.
pub struct EmbeddedBroker {
    config: BrokerConfig,
    main: Engine,
    bootstrap: Engine,
    front: Front,
    main_address: SocketAddr,
    main_task: Mutex<JoinHandle<()>>,
    inner_task: JoinHandle<()>,
    reaper_task: JoinHandle<()>,
    closing: Arc<AtomicBool>,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("main", &self.main_address)
            .field("bootstrap", &self.front.address())
            .field("connections", &self.main.hooks.sessions.len())
            .finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Opens both listeners. `identity` is what they show, `trust` whom the main one admits.
    ///
    /// # Errors
    /// [`BrokerError::Listen`] if an address is taken, [`BrokerError::Certificates`].
    pub async fn start(
        config: BrokerConfig,
        identity: &ServerIdentity,
        trust: &TrustBundle,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, BrokerError> {
        // The listener proper shares its port with its successor, and so would with a second hub.
        let listen = |source: std::io::Error| BrokerError::Listen {
            purpose: "devices",
            address: config.main,
            source: source.into(),
        };
        drop(std::net::TcpListener::bind(config.main).map_err(listen)?);
        let listener = engine::main_listener(&config, config.main, identity, trust)?;
        let main_address = listener.local_addr().map_err(|e| BrokerError::Listen {
            purpose: "devices",
            address: config.main,
            source: e.into(),
        })?;

        let closing = Arc::new(AtomicBool::new(false));
        let callers = Arc::new(Callers::default());
        let hooks = |realm: Realm| Hooks {
            realm,
            handler: handler.clone(),
            sessions: Arc::new(Sessions::default()),
            callers: (realm == Realm::Bootstrap).then(|| callers.clone()),
            postponed: Arc::default(),
            closing: closing.clone(),
            engine: OnceLock::new(),
        };
        let main = Engine::new(&config, hooks(Realm::Main)).await;
        let bootstrap = Engine::new(&config, hooks(Realm::Bootstrap)).await;

        let inner = engine::inner_listener(&config)?;
        let inner_address = inner.local_addr().map_err(|e| BrokerError::Listen {
            purpose: "enrolment",
            address: config.bootstrap,
            source: e.into(),
        })?;
        let front = Front::start(&config, identity, callers.clone(), inner_address).await?;
        let inner_task = bootstrap.serve(inner);
        let main_task = Mutex::new(main.serve(listener));
        // One handshake timeout for TLS, one for the CONNECT.
        let patience = config.handshake_timeout * 2;
        let sessions = main.hooks.sessions.clone();
        let reaper_task = tokio::spawn(reaper::reap(main_address.port(), sessions, patience));
        Ok(Self { config, main, bootstrap, front, main_address, main_task, inner_task, reaper_task, closing })
    }

    /// Where devices connect.
    #[must_use]
    pub fn main_addr(&self) -> SocketAddr {
        self.main_address
    }

    /// Where devices enrol.
    #[must_use]
    pub fn bootstrap_addr(&self) -> SocketAddr {
        self.front.address()
    }

    fn open(&self) -> Result<(), BrokerError> {
        if self.closing.load(Ordering::Acquire) { Err(BrokerError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish_to_device(
        &self,
        device: &Address,
        kind: Kind,
        payload: &[u8],
        qos1: bool,
    ) -> Result<Delivery, BrokerError> {
        self.open()?;
        self.main.publish(device, kind, payload, qos1).await
    }

    async fn publish_to_bootstrap(&self, device: &Address, payload: &[u8]) -> Result<Delivery, BrokerError> {
        self.open()?;
        self.bootstrap.publish(device, Kind::Enrol, payload, true).await
    }

    async fn disconnect(&self, device: &Address) -> bool {
        let had = self.main.dismiss(device).await;
        self.bootstrap.dismiss(device).await;
        had
    }

    fn is_serving(&self) -> bool {
        // Held only while one listener takes over from another.
        let main = self.main_task.try_lock().map_or(true, |task| !task.is_finished());
        main && self.open().is_ok() && !self.inner_task.is_finished() && self.front.is_listening()
    }

    fn connections(&self) -> usize {
        self.main.hooks.sessions.len()
    }

    fn connected(&self) -> Vec<Address> {
        self.main.hooks.sessions.devices()
    }

    fn is_connected(&self, device: &Address) -> bool {
        self.main.hooks.sessions.contains(device)
    }

    async fn reload_certificates(
        &self,
        identity: &ServerIdentity,
        trust: &TrustBundle,
    ) -> Result<(), BrokerError> {
        let mut task = self.main_task.lock().await;
        self.open()?;
        let listener = engine::main_listener(&self.config, self.main_address, identity, trust)?;
        self.front.replace(identity)?;
        let successor = self.main.serve(listener);
        std::mem::replace(&mut *task, successor).abort();
        Ok(())
    }

    async fn shutdown(&self) {
        self.closing.store(true, Ordering::Release);
        self.front.stop();
        self.inner_task.abort();
        self.reaper_task.abort();
        let mut task = self.main_task.lock().await;
        task.abort();
        // Its end is that of the listening socket. A cancelled task is what was asked for; one that has ended already
        // must not be asked again.
        if !task.is_finished() {
            let _ = (&mut *task).await;
        }
        let until = Instant::now() + FAREWELL;
        // Again and again, for sessions that were on their way in.
        loop {
            self.main.close_all().await;
            self.bootstrap.close_all().await;
            if self.main.open() <= 0 && self.bootstrap.open() <= 0 || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.inner_task.abort();
        self.reaper_task.abort();
        self.main_task.get_mut().abort();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::SystemTime;

    use super::*;
    use crate::{
        ca::CertificateAuthority,
        serial::Serial,
        service::{Admission, Arrival, Departure, NotTaken, Peer},
    };

    struct Nobody;

    #[async_trait]
    impl Handler for Nobody {
        async fn authorise(&self, _: Address, _: Serial) -> Admission {
            Admission::Deny("nobody".to_owned())
        }

        async fn message(&self, _: Peer, _: Kind, _: &[u8]) -> Result<(), NotTaken> {
            Err(NotTaken::Refused)
        }

        async fn connected(&self, _: Arrival) {}

        async fn disconnected(&self, _: Address, _: Departure) {}
    }

    /// Whichever of its listeners dies, the broker does not say that it serves.
    #[tokio::test]
    async fn a_broker_of_which_a_part_has_died_does_not_serve() {
        let folder = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::create(folder.path()).unwrap();
        let day = Duration::from_secs(86_400);
        let identity = authority.issue_server(&[], SystemTime::now(), day).unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let dies: [fn(&EmbeddedBroker); 4] = [
            |broker| broker.main_task.try_lock().unwrap().abort(),
            |broker| broker.inner_task.abort(),
            |broker| broker.front.stop(),
            |broker| broker.closing.store(true, Ordering::Release),
        ];
        for die in dies {
            let config = BrokerConfig { main: local, bootstrap: local, ..BrokerConfig::default() };
            let trust = authority.trust();
            let broker = EmbeddedBroker::start(config, &identity, &trust, Arc::new(Nobody)).await.unwrap();
            assert!(broker.is_serving());
            broker.reload_certificates(&identity, &trust).await.unwrap();
            assert!(broker.is_serving(), "another certificate is no death");
            die(&broker);
            tokio::time::timeout(Duration::from_secs(5), async {
                while broker.is_serving() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await
            .unwrap();
            broker.shutdown().await;
        }
    }
}
