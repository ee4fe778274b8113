//! What the hub sees of MQTT: the [`Broker`] that it speaks through and the [`Handler`] that it listens with.
//!
//! Nothing here may depend on the engine behind it, so that it can be exchanged.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;
use sosna_protocol::{Address, topic::Kind};

use crate::{
    ca::{ServerIdentity, TrustBundle},
    serial::Serial,
};

/// May a device come in?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Allow,
    /// It may not; the reason is for the hub's log and never told to the device.
    Deny(String),
    /// The hub cannot tell now, for this reason: the device is told that the server is unavailable, which says nothing
    /// about the device and its certificate, and comes back.
    Later(String),
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A device that proved its name with its certificate.
    Device(Address),
    /// Somebody on the bootstrap listener who *says* that it is this device. Only the signature in the
    /// message can prove it.
    Bootstrap(Address),
}

impl Peer {
    /// The device that is, or says it is, speaking.
    #[must_use]
    pub const fn address(&self) -> Address {
        match self {
            Self::Device(address) | Self::Bootstrap(address) => *address,
        }
    }
}

/// Why the hub does not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Not now (the store is full or failing): the device is disconnected without an acknowledgement, keeps the
    /// message and sends it again. A message of quality 0 is dropped without disconnecting.
    Retry,
    /// Never: it is answered with a refusal (in version 3.1.1, which has none, by disconnecting), and sending it
    /// again would not help.
    Refused,
}

/// A device's session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who came.
    pub device: Address,
    /// With which certificate.
    pub serial: Serial,
    /// From where.
    pub from: Option<IpAddr>,
    /// Whether an earlier session of the same device was ended by this one. A pair of sessions that keep doing so
    /// to each other is a cloned device.
    pub took_over: bool,
}

/// Why a device's session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The device or the network closed the connection.
    Left,
    /// Nothing was heard for one and a half times the keep-alive time.
    Silent,
    /// A newer session of the same device began and failed before it was ready.
    TakenOver,
    /// The hub ended it: [`Broker::disconnect`].
    Dismissed,
    /// The hub is shutting down.
    Shutdown,
    /// A rule or the protocol was broken, or the hub could not take a message.
    Broken(String),
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "the connection was closed",
            Self::Silent => "nothing was heard of it",
            Self::TakenOver => "a newer session took over",
            Self::Dismissed => "the hub ended the session",
            Self::Shutdown => "the hub is shutting down",
            Self::Broken(why) => why,
        })
    }
}

/// What became of a message to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was given to the session. It may still be lost: only an application's acknowledgement counts.
    Sent,
    /// There is no session that has subscribed to this kind.
    NotConnected,
}

/// Implemented by the hub: everything that the broker asks and tells. Calls for one session come one
/// after the other; those for many sessions, and for an old and a new one of one device, at the same time.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// May `device` come in with the certificate `serial`? Asked twice for each session, before it is accepted
    /// and again once [`Broker::disconnect`] can reach it, so that a revocation between the two is not missed:
    /// record the revocation first, then disconnect.
    async fn authorise(&self, device: Address, serial: Serial) -> Admission;

    /// A message came, permitted by the access rules. It is acknowledged when this returns `Ok`, so return
    /// when it is durable. The session waits: one message of a device is in hand at a time.
    ///
    /// # Errors
    /// [`NotTaken`] says whether the device should send it again.
    async fn message(&self, from: Peer, kind: Kind, payload: &[u8]) -> Result<(), NotTaken>;

    /// A device's session began. Its subscriptions follow.
    async fn connected(&self, arrival: Arrival);

    /// A device's last session ended. Not called for a session that a newer one took over.
    async fn disconnected(&self, device: Address, why: Departure);
}

/// What can go wrong with the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A listener cannot be opened.
    #[error(
        "cannot listen on {address} for {purpose}: check that nothing else uses the port and that it may be opened"
    )]
    Listen {
        /// For what.
        purpose: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificates do not make a TLS configuration.
    #[error("the listeners' certificates cannot be used")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine refused a message.
    #[error("the broker could not pass on a message to {device}")]
    Publish {
        /// For whom.
        device: Address,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker has been shut down.
    #[error("the broker has been shut down")]
    Closed,
}

/// The hub's way to its devices.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug + 'static {
    /// Gives `device` a message, at quality 1 if `qos1`, else at quality 0.
    ///
    /// # Errors
    /// [`BrokerError::Publish`] if the broker could not take it.
    async fn publish_to_device(
        &self,
        device: &Address,
        kind: Kind,
        payload: &[u8],
        qos1: bool,
    ) -> Result<Delivery, BrokerError>;

    /// Answers somebody on the bootstrap listener who says that it is `device`, at quality 1 on [`Kind::Enrol`].
    /// It is heard if the subscription was sent before the message that this answers.
    ///
    /// # Errors
    /// [`BrokerError::Publish`] if the broker could not take it.
    async fn publish_to_bootstrap(&self, device: &Address, payload: &[u8]) -> Result<Delivery, BrokerError>;

    /// Ends `device`'s session: from now on nothing of it is taken, but for a message that the handler
    /// has in hand. Returns whether there was one. Bootstrap
    /// sessions in its name are ended too.
    async fn disconnect(&self, device: &Address) -> bool;

    /// Whether every listener of it is open: devices can connect and enrol.
    fn is_serving(&self) -> bool;

    /// How many devices have a session.
    fn connections(&self) -> usize;

    /// Which devices have a session, in no order.
    fn connected(&self) -> Vec<Address>;

    /// Whether `device` has a session.
    fn is_connected(&self, device: &Address) -> bool;

    /// Serves new connections with `identity` and admits certificates of `trust`. Sessions stay.
    ///
    /// # Errors
    /// Then the old certificates remain in use.
    async fn reload_certificates(
        &self,
        identity: &ServerIdentity,
        trust: &TrustBundle,
    ) -> Result<(), BrokerError>;

    /// Stops listening and ends all sessions. Returns when they are gone, or after a few seconds.
    async fn shutdown(&self);
}
