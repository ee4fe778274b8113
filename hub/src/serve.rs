//! Brings a hub up, and down again in order.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sosna_broker::{BrokerConfig, BrokerError, EmbeddedBroker, ServerIdentity, TrustBundle};
use sosna_host::{
    address,
    clock::{Clock as _, SystemClock},
    file::{self, Access, FileError},
};
use sosna_store::Role;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    HubConfig, HubError, admin, api, content, heap,
    hub::{Addresses, Hub, Outbound},
    intake::Intake,
    ledger, listener, outbound, schedule, tick,
};

/// How long a stop waits for what is in hand.
const FAREWELL: Duration = Duration::from_secs(10);

/// Why a hub does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot be opened.
    #[error("the hub in {data} cannot be opened")]
    Open {
        /// The folder.
        data: String,
        /// Why not.
        #[source]
        source: HubError,
    },
    /// `listen` is no address.
    #[error("`{0}` is not an address to listen on; give an IP address such as 127.0.0.1 or 0.0.0.0")]
    Address(String),
    /// A port is taken, or may not be opened.
    #[error("cannot listen on {address} for {purpose}; is another hub running, or is the port reserved?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        purpose: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The listeners' certificate cannot be made.
    #[error("the listeners' certificate cannot be made")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The broker does not start.
    #[error("the broker does not start")]
    Broker(#[source] BrokerError),
    /// A file cannot be written.
    #[error("the hub's files fail")]
    File(#[from] FileError),
}

/// Where a running hub is, for the commands beside it: `<data>/running.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// REST and pages, as this machine reaches them: others may know the hub by a name that leads nowhere from here.
    pub http: String,
    /// The process.
    pub pid: u32,
}

impl Running {
    /// The file in a hub's folder.
    #[must_use]
    pub fn path(data: &Path) -> PathBuf {
        data.join("running.json")
    }

    /// Where the hub in a folder runs, if it does.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(data: &Path) -> Result<Option<Self>, FileError> {
        Ok(file::read_if_there(&Self::path(data))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

/// The admin's access token in a hub's folder, made at the first start.
#[must_use]
pub fn admin_token_path(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// A hub that serves.
#[derive(Debug)]
pub struct Serving {
    /// The hub.
    pub hub: Arc<Hub>,
    broker: Arc<EmbeddedBroker>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    workers: JoinSet<()>,
}

/// Opens a hub and its listeners. When this returns, devices and people can connect.
///
/// # Errors
/// [`ServeError`].
pub async fn start(config: HubConfig) -> Result<Serving, ServeError> {
    let data = PathBuf::from(&config.data);
    let opened = |source| ServeError::Open { data: config.data.clone(), source };
    let listen_on = address::bare(&config.listen);
    let ip: IpAddr = listen_on.parse().map_err(|_| ServeError::Address(config.listen.clone()))?;
    let public = address::bare(&config.public_address);
    let host = if public.is_empty() { listen_on.to_owned() } else { public.to_owned() };
    let here = local(ip).to_string();
    let names = if here == host { vec![here.clone()] } else { vec![host.clone(), here.clone()] };
    let ports = config.ports.clone();
    let (hub, waiting) = Hub::open(config.clone(), SystemClock::shared()).await.map_err(opened)?;
    make_admin(&hub, &data).await.map_err(opened)?;
    // Devices at work have had nobody to tell that they live.
    let until_ms = hub.now_ms() + u64::from(hub.config.times.lease_ms);
    hub.store
        .write(move |tx| Box::pin(async move { tx.extend_leases(until_ms).await.map_err(HubError::from) }))
        .await
        .map_err(opened)?;

    let (identity, trust) = certificates(&hub, &names).await?;
    let (stop, stopping) = watch::channel(false);
    let mut listeners = JoinSet::new();

    let (content_tls, content_now) = watch::channel(content::config(&identity, &trust).map_err(opened)?);
    let content_listener = listen(SocketAddr::new(ip, ports.content), "content").await?;
    let content_port = port_of(&content_listener);
    listeners.spawn(content::serve(hub.clone(), content_listener, content_now, stopping.clone()));

    let http_listener = listen(SocketAddr::new(ip, ports.http), "people").await?;
    let http_port = port_of(&http_listener);
    let router = api::router(hub.clone(), stopping.clone());
    // What leaves this machine is encrypted; on loopback a browser need not know the hub's authority.
    let is_open = ip.to_canonical().is_loopback() && !config.https;
    let scheme = if is_open { "http" } else { "https" };
    let (people_tls, people_now) = watch::channel(people(&identity)?);
    let bounds = listener::Bounds {
        connections: config.limits.connections,
        per_address: config.limits.connections_per_address,
        request: Duration::from_millis(u64::from(config.times.request_ms)),
    };
    let people_now = (!is_open).then_some(people_now);
    listeners.spawn(listener::serve(http_listener, people_now, router, bounds, stopping.clone()));

    let broker_config = BrokerConfig {
        main: SocketAddr::new(ip, ports.main),
        bootstrap: SocketAddr::new(ip, ports.bootstrap),
        ..BrokerConfig::default()
    };
    let broker = EmbeddedBroker::start(broker_config, &identity, &trust, Arc::new(Intake(hub.clone())))
        .await
        .map_err(ServeError::Broker)?;
    let broker = Arc::new(broker);
    let addresses = Addresses {
        host: host.clone(),
        http: format!("{scheme}://{}", address::join(&host, http_port)),
        main: address::join(&host, broker.main_addr().port()),
        bootstrap: broker.bootstrap_addr().port(),
        content: format!("https://{}/content", address::join(&host, content_port)),
    };
    let running =
        Running { http: format!("{scheme}://{}", address::join(&here, http_port)), pid: std::process::id() };
    // A device that is faster than these two lines is told to try again.
    let _ = hub.addresses.set(addresses);
    let _ = hub.broker.set(broker.clone());
    let running = serde_json::to_vec_pretty(&running).unwrap_or_default();
    file::write(&Running::path(&data), &running, Access::Public)?;

    let mut workers = workers(&hub, waiting);
    workers.spawn(renew(hub.clone(), names, identity, broker.clone(), (content_tls, people_tls)));
    Ok(Serving { hub, broker, stop, listeners, workers })
}

/// What a hub does by itself, whoever listens: sends, schedules, keeps deadlines. It ends when the set is dropped.
pub fn workers(hub: &Arc<Hub>, waiting: mpsc::Receiver<Outbound>) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    workers.spawn(outbound::run(hub.clone(), waiting));
    workers.spawn(schedule::run(hub.clone()));
    workers.spawn(tick::run(hub.clone()));
    workers.spawn(heap::give_back());
    workers.spawn(ledger::chain::run(hub.clone()));
    workers
}

impl Serving {
    /// Stops in order: nothing new is taken, what is in hand is finished, sessions are told.
    pub async fn stop(mut self) {
        use sosna_broker::Broker as _;
        // Nobody listening for it means that nothing is left to stop.
        let _ = self.stop.send(true);
        self.broker.shutdown().await;
        let finished = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, finished).await.is_err() {
            tracing::warn!("some connections were cut off");
        }
        self.workers.shutdown().await;
        // A file that stays points to a process that is gone, which commands notice.
        let _ = std::fs::remove_file(Running::path(Path::new(&self.hub.config.data)));
    }
}

fn port_of(listener: &TcpListener) -> u16 {
    // A listener that is bound has an address.
    listener.local_addr().map(|address| address.port()).unwrap_or_default()
}

async fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, purpose, source })
}

/// What new connections are shown.
type Presented = watch::Sender<Arc<rustls::ServerConfig>>;

fn people(identity: &ServerIdentity) -> Result<Arc<rustls::ServerConfig>, ServeError> {
    listener::tls(identity).map_err(|source| ServeError::Certificate(Box::new(source)))
}

/// The address at which this machine reaches a listener of its own.
fn local(listener: IpAddr) -> IpAddr {
    match listener {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

async fn certificates(hub: &Hub, names: &[String]) -> Result<(ServerIdentity, TrustBundle), ServeError> {
    let authority = hub.authority.read().await;
    let now = std::time::UNIX_EPOCH + Duration::from_millis(hub.now_ms());
    let identity = authority
        .issue_server(names, now, Duration::from_millis(hub.config.times.listener_certificate_ms))
        .map_err(|error| ServeError::Certificate(Box::new(error)))?;
    Ok((identity, authority.trust()))
}

/// Replaces the listeners' certificate before it ends.
async fn renew(
    hub: Arc<Hub>,
    names: Vec<String>,
    mut identity: ServerIdentity,
    broker: Arc<EmbeddedBroker>,
    (content_tls, people_tls): (Presented, Presented),
) {
    use sosna_broker::Broker as _;
    let clock = SystemClock::default();
    loop {
        let due = identity.replace_at().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wait = due.saturating_sub(Duration::from_millis(clock.now_ms()));
        // Never long: a clock that is set forward must not leave an old certificate in use.
        tokio::time::sleep(wait.clamp(Duration::from_secs(1), Duration::from_secs(3600))).await;
        if wait > Duration::from_secs(1) {
            continue;
        }
        let renewed = async {
            let (next, trust) = certificates(&hub, &names).await?;
            broker.reload_certificates(&next, &trust).await.map_err(ServeError::Broker)?;
            let config = content::config(&next, &trust)
                .map_err(|source| ServeError::Open { data: hub.config.data.clone(), source })?;
            let pages = people(&next)?;
            // Listeners that would take them are gone only when the hub stops, or speak without TLS.
            content_tls.send_replace(config);
            people_tls.send_replace(pages);
            tracing::info!("the listeners have a new certificate");
            Ok::<_, ServeError>(next)
        };
        match renewed.await {
            Ok(next) => identity = next,
            Err(error) => {
                tracing::error!(
                    "the listeners' certificate was not renewed: {}",
                    sosna_host::report::line(&error)
                );
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

/// At the first start: an admin, and the admin's token in a private file.
async fn make_admin(hub: &Hub, data: &Path) -> Result<(), HubError> {
    let path = admin_token_path(data);
    let users =
        hub.store.read(|tx| Box::pin(async move { tx.users().await.map_err(HubError::from) })).await?;
    let token = if users.is_empty() {
        admin::add_user(&hub.store, "admin", Role::Admin, hub.now_ms()).await?.token
    } else if !path.exists() && users.iter().any(|user| user.name == "admin") {
        // The start that made the admin was cut off before the token was on disk.
        admin::renew_token(&hub.store, "admin").await?.token
    } else {
        return Ok(());
    };
    Ok(file::write(&path, format!("{token}\n").as_bytes(), Access::Private)?)
}
