//! The listeners' addresses and limits.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

/// How the broker listens and what it bears. The defaults suit a hub of some ten thousand devices.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where devices with a certificate connect. Port 0 takes a free one.
    pub main: SocketAddr,
    /// Where devices without a certificate enrol. Port 0 takes a free one.
    pub bootstrap: SocketAddr,

    /// Sessions on the main listener; the process needs as many file descriptors.
    pub max_connections: usize,
    /// The largest MQTT packet on the main listener, in bytes, both ways.
    pub max_packet: u32,
    /// Handshakes in hand at a time on the main listener; more of them wait.
    pub max_handshakes: usize,
    /// How long TLS, and then the CONNECT, may take.
    pub handshake_timeout: Duration,
    /// Messages of quality 1 that may be under way to a device, and from it, at a time.
    pub inflight: NonZeroU16,
    /// Messages that wait for a slow device; beyond, the oldest of quality 1 and the newest of quality 0 are dropped.
    pub queue: usize,
    /// Names that one session may subscribe to.
    pub max_subscriptions: usize,
    /// The shortest keep-alive time, in seconds.
    pub min_keep_alive: u16,
    /// The longest keep-alive time, in seconds. None at all is refused.
    pub max_keep_alive: u16,
    /// How long a session outlives its connection. Zero by default: what matters is kept in the hub's store
    /// and sent again, never here.
    pub session_expiry: Duration,

    /// Connections on the bootstrap listener.
    pub max_bootstrap_connections: usize,
    /// Connections on the bootstrap listener from one address (of IPv6: one /64) at a time.
    pub bootstrap_per_address: usize,
    /// Connections on the bootstrap listener from one address in a minute; a quarter of them may come at once.
    pub bootstrap_per_minute: u32,
    /// The largest MQTT packet on the bootstrap listener, in bytes.
    pub bootstrap_packet: u32,
    /// How long a connection on the bootstrap listener may last.
    pub bootstrap_life: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            main: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8883)),
            bootstrap: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8884)),
            max_connections: 20_000,
            max_packet: 256 * 1024,
            max_handshakes: 512,
            handshake_timeout: Duration::from_secs(10),
            inflight: NonZeroU16::new(16).expect("sixteen is not zero"),
            queue: 256,
            max_subscriptions: 16,
            min_keep_alive: 5,
            max_keep_alive: 1800,
            session_expiry: Duration::ZERO,
            max_bootstrap_connections: 256,
            bootstrap_per_address: 64,
            bootstrap_per_minute: 240,
            bootstrap_packet: 16 * 1024,
            bootstrap_life: Duration::from_secs(60),
        }
    }
}
