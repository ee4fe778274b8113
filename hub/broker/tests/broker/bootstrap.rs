//! The bootstrap listener: strangers may enrol, and nothing else, and touch nobody.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls_pki_types::ServerName;
use sosna_broker::{Address, Broker as _, BrokerConfig, Delivery, Kind, Peer};
use sosna_protocol::topic::Topic;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    client::{Client, Options, Seen, Version},
    hub::{Device, Hub, PATIENCE, PUBLIC, anonymous, loopback},
};

const BOTH: [Version; 2] = [Version::Five, Version::Three];

fn stranger(hub: &Hub, name: &Address, version: Version) -> Options {
    Options {
        version,
        id: format!("boot-{name}"),
        address: hub.broker.bootstrap_addr(),
        tls: Arc::new(anonymous(&hub.ca)),
        will: None,
        clean: true,
        expiry: None,
        reconnect: false,
        credentials: None,
    }
}

fn up(device: Address, kind: Kind) -> String {
    Topic::up(device, kind).text().to_string()
}

fn down(device: Address, kind: Kind) -> String {
    Topic::down(device, kind).text().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_enrols() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let name = Address([9; 20]);
        assert_eq!(hub.broker.publish_to_bootstrap(&name, b"welcome").await.unwrap(), Delivery::NotConnected);
        let mut client = Client::connect(stranger(&hub, &name, version)).await.unwrap();
        assert!(client.subscribe(&down(name, Kind::Enrol)).await);
        client.publish(&up(name, Kind::Enrol), b"let me in", 1, false).await;
        assert_eq!(hub.message().await, (Peer::Bootstrap(name), Kind::Enrol, b"let me in".to_vec()));
        assert_eq!(client.next().await, Seen::Acknowledged(true));
        assert_eq!(hub.broker.publish_to_bootstrap(&name, b"welcome").await.unwrap(), Delivery::Sent);
        assert_eq!(
            client.next().await,
            Seen::Message { topic: down(name, Kind::Enrol), payload: b"welcome".to_vec() }
        );
        // A stranger is not a connected device.
        hub.no_event().await;
        assert_eq!(hub.broker.connections(), 0);
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_reaches_no_topic_of_a_device() {
    for version in BOTH {
        let mut hub = Hub::with(BrokerConfig { bootstrap_per_minute: 10_000, ..loopback() }).await;
        let device = Device::new(&hub.ca, 1);
        let mut real = Client::device(&hub, &device, version).await;
        hub.arrival().await;
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Enrol) {
            assert!(real.subscribe(&device.down(kind)).await);
        }

        // Not on the main listener at all.
        let mut options = stranger(&hub, &device.address, version);
        options.address = hub.broker.main_addr();
        for id in [options.id.clone(), device.address.to_string()] {
            options.id = id;
            assert!(Client::connect(options.clone()).await.is_err());
        }
        // Not as anybody but a stranger on the bootstrap listener.
        let hers = device.address.to_string();
        for id in [
            hers.clone(),
            format!("boot-{}", hers.to_uppercase().replace("01", "0A")),
            "boot-".into(),
            "boot-+".into(),
            format!("boot-{hers}/#"),
            "boot-$SYS".into(),
            "#".into(),
            "x".into(),
        ] {
            let mut options = stranger(&hub, &device.address, version);
            options.id = id.clone();
            assert!(Client::connect(options).await.is_err(), "{id:?} came in");
        }
        // Not with a will.
        for topic in [device.down(Kind::Work), up(device.address, Kind::Enrol)] {
            let mut options = stranger(&hub, &device.address, version);
            options.will = Some(topic);
            assert!(Client::connect(options).await.is_err());
        }
        // Not by publishing or subscribing, under her name or another.
        let other = Address([3; 20]);
        for name in [device.address, other] {
            for kind in Kind::ALL {
                for topic in [up(device.address, kind), down(device.address, kind)] {
                    if topic == up(name, Kind::Enrol) {
                        continue;
                    }
                    let mut client = Client::connect(stranger(&hub, &name, version)).await.unwrap();
                    client.publish(&topic, b"mischief", 1, false).await;
                    client.ended().await;
                }
            }
            for filter in ["#", "c/#", "c/+/work", "u/#", "$SYS/#", "$share/g/#"]
                .map(String::from)
                .into_iter()
                .chain(Kind::ALL.map(|kind| down(device.address, kind)))
                .chain(Kind::ALL.map(|kind| up(device.address, kind)))
            {
                if filter == down(name, Kind::Enrol) {
                    continue;
                }
                let mut client = Client::connect(stranger(&hub, &name, version)).await.unwrap();
                assert!(!client.subscribe(&filter).await, "{filter:?} was granted");
            }
        }
        // She never noticed, and is still there.
        real.sees_nothing().await;
        hub.no_message().await;
        hub.no_event().await;
        hub.broker.publish_to_device(&device.address, Kind::Work, b"task", true).await.unwrap();
        assert!(matches!(real.next().await, Seen::Message { .. }));
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_sessions_of_one_device_do_not_disturb_each_other() {
    let mut hub = Hub::start().await;
    let device = Device::new(&hub.ca, 1);
    let mut real = Client::device(&hub, &device, Version::Five).await;
    hub.arrival().await;
    let mut boot = Client::connect(stranger(&hub, &device.address, Version::Five)).await.unwrap();
    assert!(real.subscribe(&device.down(Kind::Work)).await);
    assert!(boot.subscribe(&device.down(Kind::Enrol)).await);

    // What is for the one never reaches the other.
    hub.broker.publish_to_bootstrap(&device.address, b"certificate").await.unwrap();
    assert!(matches!(boot.next().await, Seen::Message { .. }));
    hub.broker.publish_to_device(&device.address, Kind::Work, b"task", true).await.unwrap();
    assert!(matches!(real.next().await, Seen::Message { .. }));
    let enrol = hub.broker.publish_to_device(&device.address, Kind::Enrol, b"x", true).await.unwrap();
    assert_eq!(enrol, Delivery::NotConnected);
    boot.sees_nothing().await;
    real.sees_nothing().await;

    boot.disconnect().await;
    hub.no_event().await;
    assert!(hub.broker.is_connected(&device.address));
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_cannot_push_out_who_enrols_but_the_same_can_try_again() {
    let hub = Hub::start().await;
    let name = Address([9; 20]);
    let mut first = Client::connect(stranger(&hub, &name, Version::Five)).await.unwrap();

    // From 127.0.0.2, through a relay that binds there.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = stranger(&hub, &name, Version::Five);
    options.address = relay.local_addr().unwrap();
    let front = hub.broker.bootstrap_addr();
    let relaying = tokio::spawn(async move {
        let (mut inside, _) = relay.accept().await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0))).unwrap();
        let mut outside = socket.connect(front).await.unwrap();
        // Ends as it likes: the client's view is what counts.
        let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
    });
    let why = Client::connect(options).await.err().unwrap();
    assert!(why.contains("NotAuthorized"), "{why}");
    first.sees_nothing().await;
    relaying.abort();

    let _second = Client::connect(stranger(&hub, &name, Version::Five)).await.unwrap();
    first.ended().await;
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_are_small() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let name = Address([9; 20]);
        let mut client = Client::connect(stranger(&hub, &name, version)).await.unwrap();
        client.publish(&up(name, Kind::Enrol), &[1; 16_000], 1, false).await;
        assert_eq!(hub.message().await.2.len(), 16_000);
        assert_eq!(client.next().await, Seen::Acknowledged(true));
        client.publish(&up(name, Kind::Enrol), &[1; 17_000], 1, false).await;
        client.ended().await;
        hub.no_message().await;
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_stays_long_not_even_in_silence() {
    let config = BrokerConfig {
        bootstrap_life: Duration::from_millis(1500),
        handshake_timeout: Duration::from_millis(500),
        ..loopback()
    };
    let hub = Hub::with(config).await;
    let address = hub.broker.bootstrap_addr();
    let start = Instant::now();
    let mut client = Client::connect(stranger(&hub, &Address([9; 20]), Version::Five)).await.unwrap();
    // One that never says anything, not even in TLS.
    let mut mute = TcpStream::connect(address).await.unwrap();
    assert_eq!(timeout(PATIENCE, mute.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0);
    assert!(start.elapsed() < Duration::from_millis(1400), "{:?}", start.elapsed());
    // One that never says anything within TLS; the engine itself would wait for it for ever.
    let tls = TlsConnector::from(Arc::new(anonymous(&hub.ca)));
    let silent = TcpStream::connect(address).await.unwrap();
    let mut silent = tls.connect(ServerName::from(address.ip()), silent).await.unwrap();
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0);

    client.ended().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_counted_and_the_main_listener_has_its_own() {
    let config = BrokerConfig { bootstrap_per_address: 2, bootstrap_per_minute: 40, ..loopback() };
    let mut hub = Hub::with(config).await;
    let device = Device::new(&hub.ca, 1);
    let start = Instant::now();
    let _one = Client::connect(stranger(&hub, &Address([1; 20]), Version::Five)).await.unwrap();
    let two = Client::connect(stranger(&hub, &Address([2; 20]), Version::Five)).await.unwrap();
    assert!(Client::connect(stranger(&hub, &Address([3; 20]), Version::Five)).await.is_err());
    let _real = Client::device(&hub, &device, Version::Five).await;
    hub.arrival().await;

    drop(two);
    // Room again, and credit for ten connections, of which three have been used or refused, and what time brings.
    let mut accepted: u64 = 0;
    let refused = loop {
        match Client::connect(stranger(&hub, &Address([4; 20]), Version::Five)).await {
            Ok(_) => accepted += 1,
            Err(_) if accepted > 0 => break true,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        if start.elapsed() > 3 * PATIENCE {
            break false;
        }
    };
    assert!(refused, "{accepted} connections were let in");
    assert!(accepted <= 8 + start.elapsed().as_secs() * 40 / 60 + 1, "{accepted}");
    hub.shutdown().await;
}

/// Whoever finds the port behind the front, from this machine, is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_way_around_the_front() {
    let mut hub = Hub::start().await;
    let name = Address([9; 20]);
    let mut connect = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 30, 0, 45];
    connect.extend(format!("boot-{name}").bytes());
    connect[1] = u8::try_from(connect.len() - 2).unwrap();
    let ports = listening();
    assert!(ports.contains(&hub.broker.bootstrap_addr().port()));
    assert!(ports.contains(&hub.broker.main_addr().port()));
    // Other tests' hubs are in this process too: knocking at their inner doors does them no harm.
    let public = PUBLIC.lock().unwrap().clone();
    let mut answered = 0;
    for port in ports.into_iter().filter(|port| !public.contains(port)) {
        let Ok(mut plain) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { continue };
        if plain.write_all(&connect).await.is_err() {
            continue;
        }
        let mut answer = [0; 4];
        // A CONNACK with "not authorised".
        let answer = timeout(Duration::from_secs(1), plain.read_exact(&mut answer)).await.map(|_| answer);
        if let Ok(answer @ [0x20, ..]) = answer {
            assert_eq!(answer, [0x20, 2, 0, 5], "port {port}");
            answered += 1;
        }
    }
    assert!(answered > 0, "the port behind the front should have been among them");
    hub.no_message().await;
    hub.shutdown().await;
}

/// The IPv4 ports on which this process listens.
fn listening() -> HashSet<u16> {
    let inodes: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[3] == "0A" && inodes.contains(fields[9]))
        .map(|fields| u16::from_str_radix(fields[1].rsplit(':').next().unwrap(), 16).unwrap())
        .collect()
}
