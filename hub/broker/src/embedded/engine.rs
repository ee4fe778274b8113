//! One rmqtt: its context with our hooks and limits, its listener, and how messages go into it.

use std::{
    fs::File,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::{Arc, atomic::AtomicU16, atomic::Ordering},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rmqtt::{
    codec::types::Publish as Packet,
    context::ServerContext,
    net::{Builder, Listener},
    server::MqttServer,
    types::{From as Sender, Id, Publish, QoS, Reason},
};
use sosna_protocol::{
    Address,
    topic::{Kind, Topic},
};
use tokio::task::JoinHandle;

use super::{
    fitter::Limits,
    hooks::{ANSWERED, Hooks, Registered, close},
    predecessors::Predecessors,
};
use crate::{
    access::Realm,
    ca::{ServerIdentity, TrustBundle},
    config::BrokerConfig,
    service::{BrokerError, Delivery},
};

/// The only node of its cluster.
const NODE: u64 = 1;

pub(super) struct Engine {
    pub(super) hooks: Arc<Hooks>,
    context: ServerContext,
    /// The engine wants a number for each listener that it ever had.
    listeners: AtomicU16,
}

impl Engine {
    pub(super) async fn new(config: &BrokerConfig, hooks: Hooks) -> Self {
        let sessions = match hooks.realm {
            Realm::Main => config.max_connections,
            Realm::Bootstrap => config.max_bootstrap_connections,
        };
        let context = ServerContext::new()
            .node_id(NODE)
            // Busy means a loaded machine to it, and then it refuses devices; ours run tasks beside the hub.
            .busy_check_enable(false)
            .mqtt_max_sessions(isize::try_from(sessions).unwrap_or(isize::MAX))
            .build()
            .await;
        *context.extends.fitter_mgr_mut().await =
            Box::new(Limits { session_expiry: config.session_expiry, postponed: hooks.postponed.clone() });
        let kept = !config.session_expiry.is_zero();
        let predecessors = Predecessors { context: context.clone(), kept };
        // Set once, for these hooks were made for this engine.
        let _ = hooks.engine.set(predecessors);
        let hooks = Arc::new(hooks);
        let register = context.extends.hook_mgr().register();
        for hook in ANSWERED {
            register.add(hook, Box::new(Registered(hooks.clone()))).await;
        }
        register.start().await;
        Self { hooks, context, listeners: AtomicU16::new(1) }
    }

    /// Serves `listener` until the task is aborted; sessions outlive it.
    pub(super) fn serve(&self, listener: Listener) -> JoinHandle<()> {
        let number = self.listeners.fetch_add(1, Ordering::Relaxed);
        // Sessions hold their configuration themselves; the table is for numbers in use.
        self.context.listen_cfgs.remove(&number);
        let server = MqttServer::new(self.context.clone()).listener_by_id(listener, number).build();
        tokio::spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!(%error, "a listener ended");
            }
        })
    }

    pub(super) async fn publish(
        &self,
        device: &Address,
        kind: Kind,
        payload: &[u8],
        qos1: bool,
    ) -> Result<Delivery, BrokerError> {
        if !self.hooks.sessions.contains(device) {
            return Ok(Delivery::NotConnected);
        }
        let packet = Packet {
            dup: false,
            retain: false,
            qos: if qos1 { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            topic: Topic::down(*device, kind).text().as_str().into(),
            packet_id: None,
            payload: payload.to_vec().into(),
            properties: None,
        };
        let from = Sender::from_custom(Id::from(self.context.node.id(), "hub".into()));
        match self.context.extends.shared().await.forwards(None, from, Publish::from(packet)).await {
            Ok(0) => Ok(Delivery::NotConnected),
            Ok(_) => Ok(Delivery::Sent),
            Err((_, failures)) => {
                let why = failures.first().map_or_else(String::new, |(_, _, _, reason)| reason.to_string());
                // A session that ended a moment ago is no failure.
                if self.hooks.sessions.contains(device) {
                    Err(BrokerError::Publish { device: *device, source: why.into() })
                } else {
                    Ok(Delivery::NotConnected)
                }
            }
        }
    }

    /// Ends the device's session. Returns whether it had one.
    pub(super) async fn dismiss(&self, device: &Address) -> bool {
        let had = self.hooks.sessions.dismiss(device);
        // Also one that is not known yet: it is on its way in or out.
        close(&self.context, self.hooks.realm.client_id(device), Reason::ConnectKicked(true)).await;
        had
    }

    /// Ends every session. No reason reaches the devices: the engine closes the connection before it would tell one.
    pub(super) async fn close_all(&self) {
        for device in self.hooks.sessions.devices() {
            close(&self.context, self.hooks.realm.client_id(&device), Reason::ConnectRemoteClose).await;
        }
    }

    /// Connections with a session, ending ones included.
    pub(super) fn open(&self) -> isize {
        self.context.connections.count()
    }
}

/// Opens the main listener.
pub(super) fn main_listener(
    config: &BrokerConfig,
    address: SocketAddr,
    identity: &ServerIdentity,
    trust: &TrustBundle,
) -> Result<Listener, BrokerError> {
    // The engine reads certificates from files: from ones that exist in memory only, until this returns.
    let chain = MemoryFile::new(&identity.chain_pem())?;
    let key = MemoryFile::new(identity.key_pem())?;
    let trusted = MemoryFile::new(&trust.pem())?;
    let limits = common(config, "devices", address)
        // More than one may listen, for as long as certificates are exchanged.
        .reuseport(Some(true))
        .max_connections(config.max_connections)
        .max_packet_size(config.max_packet)
        .tls_cross_certificate(true)
        .collect_cert_info(true)
        .tls_cert(Some(chain.path()))
        .tls_key(Some(key.path()))
        .tls_client_ca_certs(Some(trusted.path()));
    limits
        .bind()
        .map_err(|e| BrokerError::Listen { purpose: "devices", address, source: e.into() })?
        .tls()
        .map_err(|e| BrokerError::Certificates(e.into()))
}

/// Opens the listener that stands behind the bootstrap front.
pub(super) fn inner_listener(config: &BrokerConfig) -> Result<Listener, BrokerError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    common(config, "enrolment", address)
        .max_connections(config.max_bootstrap_connections)
        .max_packet_size(config.bootstrap_packet)
        .bind()
        .and_then(Listener::tcp)
        .map_err(|e| BrokerError::Listen { purpose: "enrolment", address, source: e.into() })
}

fn common(config: &BrokerConfig, name: &str, address: SocketAddr) -> Builder {
    Builder::new()
        .name(name)
        .laddr(address)
        .backlog(1024)
        .nodelay(true)
        // Without it a restart can leave the process alive and not listening.
        .reuseaddr(Some(true))
        // Else a session without a user name is never shown to the hooks.
        .allow_anonymous(false)
        .max_handshaking_limit(config.max_handshakes)
        .handshake_timeout(config.handshake_timeout)
        .min_keepalive(config.min_keep_alive)
        .max_keepalive(config.max_keep_alive)
        .allow_zero_keepalive(false)
        .max_inflight(config.inflight)
        .max_mqueue_len(config.queue)
        .max_clientid_len(64)
        .max_qos_allowed(QoS::AtLeastOnce)
        .max_topic_levels(4)
        .max_subscriptions(config.max_subscriptions)
        .max_topic_aliases(0)
        .limit_subscription(false)
        .session_expiry_interval(config.session_expiry)
}

/// A file without a name: keys never come near a disk.
struct MemoryFile(File);

impl MemoryFile {
    fn new(text: &str) -> Result<Self, BrokerError> {
        let unusable = |e: io::Error| BrokerError::Certificates(e.into());
        let fd = memfd_create("sosna-listener", MFdFlags::MFD_CLOEXEC).map_err(|e| unusable(e.into()))?;
        let mut file = File::from(fd);
        file.write_all(text.as_bytes()).map_err(unusable)?;
        Ok(Self(file))
    }

    /// A path that opens it anew, from its beginning, in this process.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}
