//! rumqttc in both versions behind one face: what it saw, in order, until its connection ended.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rumqttc::{TlsConfiguration, Transport, v5};
use rustls::ClientConfig;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::hub::{Device, Hub, PATIENCE, QUIET};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Version {
    Three,
    Five,
}

#[derive(Debug, PartialEq)]
pub enum Seen {
    Connected {
        session_present: bool,
        limits: Option<Box<v5::mqttbytes::v5::ConnAckProperties>>,
    },
    /// A publish was acknowledged; with success or, in version 5, not.
    Acknowledged(bool),
    /// A subscription was answered.
    Subscribed(bool),
    Message {
        topic: String,
        payload: Vec<u8>,
    },
    Ended(String),
}

#[derive(Clone)]
pub struct Options {
    pub version: Version,
    pub id: String,
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub will: Option<String>,
    pub clean: bool,
    pub expiry: Option<u32>,
    /// Goes on after the connection ended, as rumqttc does.
    pub reconnect: bool,
    pub credentials: Option<(String, String)>,
}

impl Options {
    /// As an honest device on the main listener.
    pub fn device(hub: &Hub, device: &Device, version: Version) -> Self {
        Self {
            version,
            id: device.address.to_string(),
            address: hub.broker.main_addr(),
            tls: Arc::new(device.tls(&hub.ca)),
            will: None,
            clean: true,
            expiry: None,
            reconnect: false,
            credentials: None,
        }
    }
}

enum Sender {
    Three(rumqttc::AsyncClient),
    Five(v5::AsyncClient),
}

pub struct Client {
    sender: Sender,
    seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub fn open(options: Options) -> Self {
        let (report, seen) = mpsc::unbounded_channel();
        let transport = Transport::tls_with_config(TlsConfiguration::Rustls(options.tls.clone()));
        let (host, port) = (options.address.ip().to_string(), options.address.port());
        let keep_alive = Duration::from_secs(30);
        match options.version {
            Version::Three => {
                let mut set = rumqttc::MqttOptions::new(options.id, host, port);
                set.set_transport(transport).set_keep_alive(keep_alive).set_clean_session(options.clean);
                set.set_max_packet_size(1 << 20, 1 << 20);
                if let Some((name, password)) = options.credentials {
                    set.set_credentials(name, password);
                }
                if let Some(topic) = options.will {
                    set.set_last_will(rumqttc::LastWill::new(
                        topic,
                        "will",
                        rumqttc::QoS::AtLeastOnce,
                        false,
                    ));
                }
                let (sender, mut events) = rumqttc::AsyncClient::new(set, 100);
                let task = tokio::spawn(async move {
                    loop {
                        let seen = match events.poll().await {
                            Ok(rumqttc::Event::Incoming(packet)) => three(packet),
                            Ok(_) => None,
                            Err(e) => Some(Seen::Ended(format!("{e:?}"))),
                        };
                        if !tell(&report, seen, options.reconnect).await {
                            break;
                        }
                    }
                });
                Self { sender: Sender::Three(sender), seen, task }
            }
            Version::Five => {
                let mut set = v5::MqttOptions::new(options.id, host, port);
                set.set_transport(transport).set_keep_alive(keep_alive).set_clean_start(options.clean);
                set.set_session_expiry_interval(options.expiry);
                set.set_max_packet_size(Some(1 << 20));
                if let Some((name, password)) = options.credentials {
                    set.set_credentials(name, password);
                }
                if let Some(topic) = options.will {
                    let qos = v5::mqttbytes::QoS::AtLeastOnce;
                    set.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, "will", qos, false, None));
                }
                let (sender, mut events) = v5::AsyncClient::new(set, 100);
                let task = tokio::spawn(async move {
                    loop {
                        let seen = match events.poll().await {
                            Ok(v5::Event::Incoming(packet)) => five(packet),
                            Ok(_) => None,
                            Err(e) => Some(Seen::Ended(format!("{e:?}"))),
                        };
                        if !tell(&report, seen, options.reconnect).await {
                            break;
                        }
                    }
                });
                Self { sender: Sender::Five(sender), seen, task }
            }
        }
    }

    /// Connects, or says why not.
    pub async fn connect(options: Options) -> Result<Self, String> {
        let mut client = Self::open(options);
        match client.next().await {
            Seen::Connected { .. } => Ok(client),
            Seen::Ended(why) => Err(why),
            other => panic!("neither connected nor refused: {other:?}"),
        }
    }

    pub async fn device(hub: &Hub, device: &Device, version: Version) -> Self {
        Self::connect(Options::device(hub, device, version)).await.unwrap()
    }

    pub async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.expect("the client should have seen something").unwrap()
    }

    pub async fn sees_nothing(&mut self) {
        let seen = timeout(QUIET, self.seen.recv()).await;
        assert!(seen.is_err(), "the client should have seen nothing: {seen:?}");
    }

    /// The reason for which the connection ended, whatever was seen before.
    pub async fn ended(&mut self) -> String {
        loop {
            match self.next().await {
                Seen::Ended(why) => return why,
                Seen::Acknowledged(true) => panic!("a publish was acknowledged before the connection ended"),
                _ => {}
            }
        }
    }

    /// Sends a message, unless the connection has ended, which the next look at the client shows.
    pub async fn publish(&self, topic: &str, payload: &[u8], qos: u8, retain: bool) {
        let payload = payload.to_vec();
        match &self.sender {
            Sender::Three(client) => {
                let _ = client.publish(topic, rumqttc::qos(qos).unwrap(), retain, payload).await;
            }
            Sender::Five(client) => {
                let _ = client.publish(topic, v5::mqttbytes::qos(qos).unwrap(), retain, payload).await;
            }
        }
    }

    /// Subscribes at quality 1. Returns whether it was granted.
    pub async fn subscribe(&mut self, filter: &str) -> bool {
        match &self.sender {
            Sender::Three(client) => client.subscribe(filter, rumqttc::QoS::AtLeastOnce).await.unwrap(),
            Sender::Five(client) => {
                client.subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).await.unwrap();
            }
        }
        match self.next().await {
            Seen::Subscribed(granted) => granted,
            other => panic!("an answer to the subscription was expected, not {other:?}"),
        }
    }

    /// Says farewell and hangs up. The engine waits for both.
    pub async fn disconnect(mut self) {
        match &self.sender {
            Sender::Three(client) => client.disconnect().await.unwrap(),
            Sender::Five(client) => client.disconnect().await.unwrap(),
        }
        self.sees_nothing().await;
    }
}

async fn tell(report: &mpsc::UnboundedSender<Seen>, seen: Option<Seen>, reconnect: bool) -> bool {
    let Some(seen) = seen else { return true };
    let ended = matches!(seen, Seen::Ended(_));
    if report.send(seen).is_err() || ended && !reconnect {
        return false;
    }
    if ended {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

fn three(packet: rumqttc::Packet) -> Option<Seen> {
    Some(match packet {
        rumqttc::Packet::ConnAck(ack) => {
            Seen::Connected { session_present: ack.session_present, limits: None }
        }
        rumqttc::Packet::PubAck(_) | rumqttc::Packet::PubRec(_) => Seen::Acknowledged(true),
        rumqttc::Packet::SubAck(ack) => Seen::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, rumqttc::SubscribeReasonCode::Success(_))),
        ),
        rumqttc::Packet::Publish(message) => {
            Seen::Message { topic: message.topic, payload: message.payload.to_vec() }
        }
        _ => return None,
    })
}

fn five(packet: v5::mqttbytes::v5::Packet) -> Option<Seen> {
    use v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason, SubscribeReasonCode};
    Some(match packet {
        Packet::ConnAck(ack) => {
            Seen::Connected { session_present: ack.session_present, limits: ack.properties.map(Box::new) }
        }
        // The engine has no subscriber for what goes up, and says success all the same.
        Packet::PubAck(ack) => Seen::Acknowledged(ack.reason == PubAckReason::Success),
        Packet::PubRec(ack) => Seen::Acknowledged(ack.reason == PubRecReason::Success),
        Packet::SubAck(ack) => Seen::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))),
        ),
        Packet::Publish(message) => Seen::Message {
            topic: String::from_utf8(message.topic.to_vec()).unwrap(),
            payload: message.payload.to_vec(),
        },
        _ => return None,
    })
}
