//! One MQTT 5 connection over TLS, as thin as it can be: one socket, one buffer each way, no task and no queue of its
//! own, so that a machine can hold as many of them as a hub.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::{
    Error, QoS,
    v5::{
        Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, Packet,
        PingReq, PubAck, PubAckReason, Publish, Subscribe, SubscribeReasonCode,
    },
};
use rustls::{ClientConfig, pki_types::ServerName};
use sosna_host::address;
use sosna_protocol::{
    Address,
    frame::MAX_FRAME,
    topic::{Kind, Topic},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The agent's values: publishes under way at a time, and seconds after which a silent line is asked.
const IN_FLIGHT: u16 = 16;
const KEEP_ALIVE: u16 = 30;
/// A frame, its topic, and MQTT's own bytes around them.
#[allow(clippy::cast_possible_truncation, reason = "a frame has 128 KiB at most")]
const MOST: u32 = (MAX_FRAME + 1024) as u32;
/// How long each step until the broker's welcome may take. Generous: in a herd everybody waits for everybody.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a connection did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No such place.
    #[error("{text:?} is not host:port")]
    Address {
        /// What stands there.
        text: String,
    },
    /// The line.
    #[error("no connection to {address}")]
    Line {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing came in time.
    #[error("{address} does not answer")]
    Silent {
        /// Where to.
        address: String,
    },
    /// Not MQTT.
    #[error("{address} does not speak MQTT as it should")]
    Mqtt {
        /// Where to.
        address: String,
        /// What is wrong with it.
        #[source]
        source: Error,
    },
    /// The broker says no.
    #[error("{address} refuses this device ({code:?})")]
    Refused {
        /// Where to.
        address: String,
        /// MQTT's reason.
        code: ConnectReturnCode,
    },
    /// The broker takes a subscription or a message back.
    #[error("{address} does not take {what}")]
    NotTaken {
        /// Where to.
        address: String,
        /// What.
        what: String,
    },
    /// The other side has hung up.
    #[error("{address} has hung up")]
    Over {
        /// Where to.
        address: String,
    },
}

/// What comes on a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame.
    Frame(bytes::Bytes),
    /// A publish of ours is with the broker.
    Taken,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
    write: BytesMut,
    address: String,
    next_id: u16,
    in_flight: u16,
    window: u16,
    /// Packets beyond what may be under way.
    waiting: VecDeque<Publish>,
}

/// Where a connection goes, and as whom.
pub(crate) struct Target<'a> {
    /// `host:port`.
    pub(crate) place: &'a str,
    pub(crate) client_id: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// On this machine every device has an address of its own, as it would elsewhere.
    pub(crate) index: usize,
}

// === impl Link ===

impl Link {
    /// Connects and waits until the broker lets the device in.
    pub(crate) async fn open(target: Target<'_>) -> Result<Self, LinkError> {
        let address = target.place.to_owned();
        let step = |source| LinkError::Line { address: address.clone(), source };
        let silent = |_| LinkError::Silent { address: address.clone() };
        let socket = timeout(PATIENCE, dial(target.place, target.index)).await.map_err(silent)??;
        let (host, _) = split(target.place)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| LinkError::Address { text: target.place.to_owned() })?;
        let handshake = TlsConnector::from(target.tls).connect(name, socket);
        let stream = timeout(PATIENCE, handshake).await.map_err(silent)?.map_err(step)?;
        let mut link = Self {
            stream,
            read: BytesMut::new(),
            write: BytesMut::new(),
            address: address.clone(),
            next_id: 0,
            in_flight: 0,
            window: IN_FLIGHT,
            waiting: VecDeque::new(),
        };
        let mut properties = ConnectProperties::new();
        properties.max_packet_size = Some(MOST);
        properties.receive_maximum = Some(IN_FLIGHT);
        properties.session_expiry_interval = Some(0);
        let connect = Connect {
            keep_alive: KEEP_ALIVE,
            client_id: target.client_id,
            clean_start: true,
            properties: Some(properties),
        };
        link.send(&Packet::Connect(connect, None, None)).await?;
        match timeout(PATIENCE, link.packet()).await.map_err(silent)?? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {
                let most = ack.properties.and_then(|properties| properties.receive_max);
                link.window = most.unwrap_or(IN_FLIGHT).clamp(1, IN_FLIGHT);
                Ok(link)
            }
            Packet::ConnAck(ack) => Err(LinkError::Refused { address, code: ack.code }),
            _ => Err(LinkError::Mqtt { address, source: Error::InvalidProtocol }),
        }
    }

    /// Subscribes to the device's own topics of these kinds, and waits until that holds.
    pub(crate) async fn subscribe(&mut self, device: Address, kinds: &[Kind]) -> Result<(), LinkError> {
        let filters = kinds
            .iter()
            .map(|kind| Filter::new(Topic::down(device, *kind).text().as_str(), QoS::AtLeastOnce));
        let mut subscribe = Subscribe::new_many(filters, None);
        subscribe.pkid = self.next_id();
        self.send(&Packet::Subscribe(subscribe)).await?;
        let address = self.address.clone();
        match timeout(PATIENCE, self.packet()).await.map_err(|_| LinkError::Silent { address })?? {
            Packet::SubAck(ack)
                if ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) =>
            {
                Ok(())
            }
            _ => Err(LinkError::NotTaken { address: self.address.clone(), what: "a subscription".into() }),
        }
    }

    /// Hands a frame over, now or when what is under way leaves room. `is_reliable` for what the broker acknowledges.
    pub(crate) async fn publish(
        &mut self,
        topic: &Topic,
        frame: Vec<u8>,
        is_reliable: bool,
    ) -> Result<(), LinkError> {
        let qos = if is_reliable { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let publish = Publish::new(topic.text().as_str(), qos, frame, None);
        if is_reliable && self.in_flight >= self.window {
            self.waiting.push_back(publish);
            return Ok(());
        }
        self.send_publish(publish).await
    }

    async fn send_publish(&mut self, mut publish: Publish) -> Result<(), LinkError> {
        if publish.qos != QoS::AtMostOnce {
            publish.pkid = self.next_id();
            self.in_flight += 1;
        }
        self.send(&Packet::Publish(publish)).await
    }

    /// What comes next. Nothing is lost where this is dropped while it waits for the line.
    pub(crate) async fn next(&mut self) -> Result<Heard, LinkError> {
        loop {
            let packet = self.packet().await?;
            if let Some(heard) = self.heard(packet).await? {
                return Ok(heard);
            }
        }
    }

    /// The next packet. Cancel-safe.
    pub(crate) async fn packet(&mut self) -> Result<Packet, LinkError> {
        loop {
            match Packet::read(&mut self.read, Some(MOST)) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(source) => return Err(LinkError::Mqtt { address: self.address.clone(), source }),
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) => return Err(LinkError::Over { address: self.address.clone() }),
                Ok(_) => {}
                Err(source) => return Err(LinkError::Line { address: self.address.clone(), source }),
            }
        }
    }

    /// Does what a packet asks for, and says what it means for the device.
    pub(crate) async fn heard(&mut self, packet: Packet) -> Result<Option<Heard>, LinkError> {
        match packet {
            Packet::Publish(publish) => {
                if publish.qos != QoS::AtMostOnce {
                    self.send(&Packet::PubAck(PubAck::new(publish.pkid, None))).await?;
                }
                Ok(Some(Heard::Frame(publish.payload)))
            }
            Packet::PubAck(ack) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                // The engine has no subscriber for what goes up; it says so, or success.
                if !matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) {
                    let what = format!("a message ({:?})", ack.reason);
                    return Err(LinkError::NotTaken { address: self.address.clone(), what });
                }
                if let Some(next) = self.waiting.pop_front() {
                    self.send_publish(next).await?;
                }
                Ok(Some(Heard::Taken))
            }
            Packet::Disconnect(_) => Err(LinkError::Over { address: self.address.clone() }),
            _ => Ok(None),
        }
    }

    /// Asks the broker for a sign of life, and gives it one.
    pub(crate) async fn ping(&mut self) -> Result<(), LinkError> {
        self.send(&Packet::PingReq(PingReq)).await
    }

    /// Says farewell and hangs up.
    pub(crate) async fn close(mut self) {
        let farewell = Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection));
        // Who has gone already needs no farewell.
        if self.send(&farewell).await.is_ok() {
            let _ = timeout(Duration::from_secs(2), self.stream.shutdown()).await;
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), LinkError> {
        let line = |address: &str, source| LinkError::Line { address: address.to_owned(), source };
        packet
            .write(&mut self.write, Some(MOST))
            .map_err(|source| LinkError::Mqtt { address: self.address.clone(), source })?;
        self.stream.write_all(&self.write).await.map_err(|source| line(&self.address, source))?;
        self.stream.flush().await.map_err(|source| line(&self.address, source))?;
        self.write.clear();
        Ok(())
    }

    fn next_id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }
}

pub(crate) fn split(place: &str) -> Result<(&str, u16), LinkError> {
    let bad = || LinkError::Address { text: place.to_owned() };
    let (host, port) = place.rsplit_once(':').ok_or_else(bad)?;
    Ok((address::bare(host), port.parse().map_err(|_| bad())?))
}

/// Opens a socket. To this very machine each device comes from an address of its own of 127.0.0.0/8, as devices
/// elsewhere do: what a hub allows one address is meant for one household.
pub(crate) async fn dial(place: &str, index: usize) -> Result<TcpStream, LinkError> {
    let line = |source| LinkError::Line { address: place.to_owned(), source };
    let (host, port) = split(place)?;
    let mut found = lookup_host((host, port)).await.map_err(line)?;
    let to = found.next().ok_or_else(|| LinkError::Address { text: place.to_owned() })?;
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(line)?;
    if to.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        socket.bind(SocketAddr::new(own_address(index), 0)).map_err(line)?;
    }
    let stream = socket.connect(to).await.map_err(line)?;
    stream.set_nodelay(true).map_err(line)?;
    Ok(stream)
}

/// 127.1.0.1 and on, one in each /24 as far as that goes.
fn own_address(index: usize) -> IpAddr {
    let net = u16::try_from(index % 60_000).expect("below 60,000") + 256;
    let host = u8::try_from(1 + index / 60_000 % 254).expect("at most 254");
    let [high, low] = net.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, high, low, host))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_device_has_an_address_of_its_own() {
        let all: HashSet<_> = (0..130_000).map(own_address).collect();
        assert_eq!(all.len(), 130_000);
        assert!(all.iter().all(|address| address.is_loopback()));
        let nets = (0..18_000).map(own_address).map(|address| match address {
            IpAddr::V4(v4) => [v4.octets()[1], v4.octets()[2]],
            IpAddr::V6(_) => unreachable!("they are of version 4"),
        });
        assert_eq!(nets.collect::<HashSet<_>>().len(), 18_000);
    }

    #[test]
    fn places_are_read_with_and_without_brackets() {
        assert_eq!(split("hub.example:8883").ok(), Some(("hub.example", 8883)));
        assert_eq!(split("[::1]:1").ok(), Some(("::1", 1)));
        assert!(split("hub").is_err() && split("hub:x").is_err());
    }
}
