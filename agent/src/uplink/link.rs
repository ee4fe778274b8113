//! One MQTT connection, from handshake to its end. Every connection is a new client: what the library would keep
//! across reconnects (pending packets, collisions of packet ids) is exactly what goes wrong in it, and the outbox
//! knows better.

use std::{io, sync::Arc, time::Duration};

use rumqttc::{
    TlsConfiguration, Transport,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError,
        mqttbytes::{
            self, QoS,
            v5::{ConnectProperties, ConnectReturnCode, Filter, Packet, SubscribeReasonCode},
        },
    },
};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use sosna_host::address;
use sosna_protocol::{
    Address,
    frame::MAX_FRAME,
    topic::{Kind, Topic},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Publishes in flight on one connection. The library's own limit costs 13 MB.
pub(crate) const IN_FLIGHT: u16 = 16;
/// Requests that wait inside the client, and events that wait for us.
const QUEUE: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const CONNECT_SECONDS: u64 = 15;

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) client_id: String,
    pub(crate) tls: Arc<ClientConfig>,
}

/// What happens on a connection.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The broker has let us in.
    Up,
    /// All our subscriptions hold.
    Subscribed,
    /// Something came.
    Message { topic: String, payload: Vec<u8> },
    /// A publish of ours was taken by the broker.
    Taken,
    /// It is over.
    Down(LinkError),
}

/// Why a connection failed or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server is not the hub.
    #[error("{address} is not the hub that this device was told to trust (its key is another one)")]
    OtherHub {
        /// Where.
        address: String,
    },
    /// The server's certificate is out of date.
    #[error("the certificate of {address} is out of date; is the hub's clock or this device's wrong?")]
    ServerExpired {
        /// Where.
        address: String,
    },
    /// The server refuses our certificate.
    #[error("{address} refuses this device's certificate ({alert})")]
    CertificateRefused {
        /// Where.
        address: String,
        /// The TLS alert's name.
        alert: String,
        /// Whether it is because of its age.
        is_expired: bool,
    },
    /// The broker says no.
    #[error("{address} refuses this device ({code})")]
    Refused {
        /// Where.
        address: String,
        /// MQTT's reason.
        code: String,
        /// Whether it means this device and this certificate, and not the moment.
        is_barred: bool,
    },
    /// The broker says not now.
    #[error(
        "{address} cannot take this device at the moment ({code}); its operator may have to look after it"
    )]
    Later {
        /// Where.
        address: String,
        /// MQTT's reason.
        code: &'static str,
    },
    /// Nobody is there, or the line broke.
    #[error("no connection to {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} does not answer")]
    Silent {
        /// Where.
        address: String,
    },
    /// What a person configured is no address.
    #[error("{text:?} is not host:port")]
    Address {
        /// What stands there.
        text: String,
    },
}

/// A connection. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<LinkEvent>,
    pump: JoinHandle<()>,
}

/// The client's queue is full for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

// === impl Link ===

impl Link {
    /// Begins to connect; what comes of it is told by [`Link::next`].
    pub(crate) fn open(target: &Target) -> Self {
        // The library resolves `host:port` by its last colon and takes the host for the certificate's name: an IPv6
        // address must come without brackets.
        let host = address::bare(&target.host);
        let mut options = MqttOptions::new(&target.client_id, host, target.port);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&target.tls))));
        options.set_clean_start(true);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_connection_timeout(CONNECT_SECONDS);
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
        let mut properties = ConnectProperties::new();
        // A frame, its topic, and MQTT's own bytes around them.
        properties.max_packet_size = u32::try_from(MAX_FRAME + 1024).ok();
        properties.receive_maximum = Some(IN_FLIGHT);
        properties.session_expiry_interval = Some(0);
        options.set_connect_properties(properties);
        let (client, event_loop) = AsyncClient::new(options, QUEUE);
        let (sender, events) = mpsc::channel(QUEUE);
        let address = address::join(host, target.port);
        let pump = tokio::spawn(pump(event_loop, sender, address));
        Self { client, events, pump }
    }

    /// The next event; after [`LinkEvent::Down`] there is none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => LinkEvent::Down(LinkError::Silent { address: "the hub".to_owned() }),
        }
    }

    /// Subscribes to the device's own topics of these kinds.
    pub(crate) fn subscribe(&self, device: Address, kinds: &[Kind]) -> Result<(), Busy> {
        let filters = kinds
            .iter()
            .map(|kind| Filter::new(Topic::down(device, *kind).text().as_str(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).map_err(|_| Busy)
    }

    /// Hands a frame to the broker; with `at_least_once` it answers [`LinkEvent::Taken`].
    pub(crate) fn publish(&self, topic: &Topic, frame: Vec<u8>, at_least_once: bool) -> Result<(), Busy> {
        let qos = if at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        sosna_fault::passed("agent/publish");
        self.client.try_publish(topic.text().as_str(), qos, false, frame).map_err(|_| Busy)
    }

    /// Says goodbye, and waits a moment until it has been sent.
    pub(crate) async fn close(mut self) {
        if self.client.try_disconnect().is_ok() {
            let _ = tokio::time::timeout(Duration::from_millis(500), async {
                while !matches!(self.next().await, LinkEvent::Down(_)) {}
            })
            .await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Polls the library in a task of its own: its futures must not be dropped half-way.
async fn pump(mut event_loop: EventLoop, sender: mpsc::Sender<LinkEvent>, address: String) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => LinkEvent::Up,
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let holds = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                match ack.return_codes.iter().find(|code| !holds(code)) {
                    None => LinkEvent::Subscribed,
                    Some(code) => {
                        let code = format!("subscription: {code:?}");
                        LinkEvent::Down(LinkError::Refused {
                            address: address.clone(),
                            code,
                            is_barred: false,
                        })
                    }
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => LinkEvent::Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
            },
            Ok(Event::Incoming(Packet::PubAck(_))) => LinkEvent::Taken,
            Ok(_) => continue,
            Err(error) => LinkEvent::Down(judge(error, &address)),
        };
        let is_over = matches!(event, LinkEvent::Down(_));
        if sender.send(event).await.is_err() || is_over {
            return;
        }
    }
}

/// Turns the library's error into one that says what to do.
fn judge(error: ConnectionError, address: &str) -> LinkError {
    let address = address.to_owned();
    match error {
        ConnectionError::Timeout(_) => LinkError::Silent { address },
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::ServerUnavailable
            | ConnectReturnCode::ServerBusy
            | ConnectReturnCode::ServiceUnavailable
            | ConnectReturnCode::QuotaExceeded
            | ConnectReturnCode::ConnectionRateExceeded),
        ) => LinkError::Later { address, code: refusal(code) },
        ConnectionError::ConnectionRefused(code) => {
            let is_barred = matches!(code, ConnectReturnCode::NotAuthorized | ConnectReturnCode::Banned);
            LinkError::Refused { address, code: refusal(code).to_owned(), is_barred }
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            let code = format!("it ended the session: {reason_code:?}");
            LinkError::Refused { address, code, is_barred: false }
        }
        other => match find_tls(cause(&other)) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::NotValidYet,
            )) => LinkError::ServerExpired { address },
            Some(rustls::Error::InvalidCertificate(_)) => LinkError::OtherHub { address },
            Some(rustls::Error::AlertReceived(alert)) => LinkError::CertificateRefused {
                address,
                alert: format!("{alert:?}"),
                is_expired: *alert == AlertDescription::CertificateExpired,
            },
            _ => LinkError::Unreachable { address, source: plain(cause(&other)) },
        },
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::NotAuthorized => "not authorized",
        ConnectReturnCode::BadUserNamePassword => "bad user name or password",
        ConnectReturnCode::Banned => "banned",
        ConnectReturnCode::ServerBusy => "server busy",
        ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => "server unavailable",
        ConnectReturnCode::ClientIdentifierNotValid => "client identifier not valid",
        ConnectReturnCode::QuotaExceeded => "quota exceeded",
        ConnectReturnCode::ConnectionRateExceeded => "connection rate exceeded",
        _ => "connection refused",
    }
}

/// The error of the connection inside the library's, which it does not give as a source everywhere.
fn cause(error: &ConnectionError) -> &(dyn std::error::Error + 'static) {
    match error {
        ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
        ) => error,
        other => other,
    }
}

/// What the operating system said, without the layers above it.
fn plain(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<io::Error>().map(|error| (error.kind(), error.raw_os_error())) {
            Some((io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted, None)) => {
                return io::Error::other("it was closed on the other side");
            }
            Some((_, Some(code))) => return io::Error::from_raw_os_error(code),
            _ => next = error.source(),
        }
    }
    io::Error::other(error.to_string())
}

/// The TLS error inside, wherever the layers above have put it.
fn find_tls<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An io::Error's source is what is inside its custom error, not that error itself.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(tls) = find_tls(inner)
        {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// Splits `host:port`; IPv6 addresses stand in brackets.
pub(crate) fn split_address(text: &str) -> Result<(String, u16), LinkError> {
    let split = address::split(text).map(|(host, port)| (host.to_owned(), port));
    split.ok_or_else(|| LinkError::Address { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        assert_eq!(split_address("hub.example:8883").unwrap(), ("hub.example".into(), 8883));
        assert_eq!(split_address("[::1]:8883").unwrap(), ("::1".into(), 8883));
        for wrong in ["", "hub", ":1", "hub:", "hub:99999"] {
            assert!(split_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hub_in_trouble_is_told_from_one_that_turns_a_device_away() {
        use ConnectReturnCode::{Banned, NotAuthorized, ServerBusy, ServerUnavailable};
        for code in [ServerUnavailable, ServerBusy] {
            let error = judge(ConnectionError::ConnectionRefused(code), "hub:1");
            assert!(matches!(error, LinkError::Later { .. }), "{error:?}");
        }
        // Only after these is the hub asked why, and the certificate renewed.
        for code in [NotAuthorized, Banned] {
            let error = judge(ConnectionError::ConnectionRefused(code), "hub:1");
            assert!(matches!(error, LinkError::Refused { is_barred: true, .. }), "{error:?}");
        }
    }

    #[test]
    fn a_wrong_pin_is_told_from_a_broken_line() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = ConnectionError::Io(io::Error::new(io::ErrorKind::InvalidData, inner));
        assert!(matches!(judge(wrapped, "hub:1"), LinkError::OtherHub { .. }));
        // TLS 1.3 tells a client after its handshake, when it reads, that its certificate is refused.
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let read = mqttbytes::Error::Io(io::Error::new(io::ErrorKind::InvalidData, alert));
        let late = ConnectionError::MqttState(StateError::Deserialization(read));
        assert!(matches!(judge(late, "hub:1"), LinkError::CertificateRefused { is_expired: true, .. }));
        let broken = ConnectionError::Io(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(matches!(judge(broken, "hub:1"), LinkError::Unreachable { .. }));
    }
}
