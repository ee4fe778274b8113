//! Who may come in, who takes over from whom, who is thrown out.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use rustls_pki_types::ServerName;
use sosna_broker::{
    Address, Broker as _, BrokerConfig, CertificateAuthority, Delivery, Departure, Kind, Peer,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    client::{Client, Options, Seen, Version},
    hub::{Device, Event, Hub, PATIENCE, anonymous, loopback, roots},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valid_device_comes_in_and_is_told_the_limits() {
    let mut hub = Hub::start().await;
    let device = Device::new(&hub.ca, 7);
    let mut client = Client::open(Options::device(&hub, &device, Version::Five));
    let Seen::Connected { session_present: false, limits: Some(limits) } = client.next().await else {
        panic!("the limits should be in the CONNACK");
    };
    assert_eq!(limits.receive_max, Some(16));
    assert_eq!(limits.max_packet_size, Some(256 * 1024));
    assert_eq!(limits.max_qos, Some(1));
    assert_eq!(limits.retain_available, Some(0));
    assert_eq!(limits.shared_subscription_available, Some(0));
    assert_eq!(limits.server_keep_alive, Some(30));

    let arrival = hub.arrival().await;
    assert_eq!((arrival.device, arrival.serial, arrival.took_over), (device.address, device.serial, false));
    assert!(arrival.from.unwrap().is_loopback());
    assert_eq!((hub.broker.connections(), hub.broker.connected()), (1, vec![device.address]));
    assert!(hub.broker.is_connected(&device.address));

    client.disconnect().await;
    assert_eq!(hub.event().await, Event::Went(device.address, Departure::Left));
    assert_eq!(hub.broker.connections(), 0);
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_fail_at_tls() {
    let mut hub = Hub::start().await;
    let device = Device::new(&hub.ca, 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let other_ca = CertificateAuthority::create(elsewhere.path().join("ca")).unwrap();
    let foreign = Device::new(&other_ca, 1);
    let long_ago = SystemTime::now() - Duration::from_secs(30 * 86_400);
    let expired = Device::valid_for(&hub.ca, 1, long_ago, Duration::from_secs(86_400));
    // A listener's certificate must not make a device of anybody.
    let server = hub.identity();
    let server_as_client = rustls::ClientConfig::builder()
        .with_root_certificates(roots(&hub.ca))
        .with_client_auth_cert(server.chain().to_vec(), server.key())
        .unwrap();

    for (who, tls) in [
        ("without a certificate", anonymous(&hub.ca)),
        ("certified by another authority", foreign.tls(&hub.ca)),
        ("with an expired certificate", expired.tls(&hub.ca)),
        ("with a listener's certificate", server_as_client),
    ] {
        for version in [Version::Five, Version::Three] {
            let mut options = Options::device(&hub, &device, version);
            options.tls = Arc::new(tls.clone());
            let why = Client::connect(options).await.err().expect(who);
            assert!(
                why.contains("AlertReceived") || why.contains("ConnectionReset") || why.contains("Aborted"),
                "{who}: {why}"
            );
        }
    }
    hub.no_event().await;
    hub.shutdown().await;
}

/// Trap 3: sessions without a user name are shown to the hook too, and one with a name gains nothing by it.
/// Trap 7: client ids are ours to judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_id_is_the_certificates_name_and_nothing_else() {
    let mut hub = Hub::start().await;
    let device = Device::new(&hub.ca, 0xab);
    let other = Address([0xcd; 20]).to_string();
    let own = device.address.to_string();
    for id in [
        other.clone(),
        own.to_uppercase(),
        format!("0x{own}"),
        format!("boot-{own}"),
        format!("{own}/x"),
        format!("{own}+"),
        "+".into(),
        "#".into(),
        "a/b".into(),
        "$SYS".into(),
        "admin".into(),
    ] {
        for version in [Version::Five, Version::Three] {
            for credentials in [None, Some((own.clone(), "secret".to_owned()))] {
                let mut options = Options::device(&hub, &device, version);
                (options.id, options.credentials) = (id.clone(), credentials);
                let why = Client::connect(options).await.err().unwrap_or_else(|| panic!("{id:?} came in"));
                assert!(
                    why.contains("NotAuthorized") || why.contains("ClientIdentifierNotValid"),
                    "{id:?}: {why}"
                );
            }
        }
    }
    hub.no_event().await;
    hub.shutdown().await;
}

/// Trap 1: the engine publishes wills without asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_refused() {
    let mut hub = Hub::start().await;
    let (device, victim) = (Device::new(&hub.ca, 1), Device::new(&hub.ca, 2));
    let mut watcher = Client::device(&hub, &victim, Version::Five).await;
    hub.arrival().await;
    assert!(watcher.subscribe(&victim.down(Kind::Work)).await);
    for version in [Version::Five, Version::Three] {
        for topic in [victim.down(Kind::Work), victim.up(Kind::Work), device.up(Kind::Work)] {
            let mut options = Options::device(&hub, &device, version);
            options.will = Some(topic);
            let why = Client::connect(options).await.err().expect("a will should not come in");
            assert!(why.contains("NotAuthorized"), "{why}");
        }
    }
    watcher.sees_nothing().await;
    hub.no_message().await;
    hub.no_event().await;
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_session_takes_over() {
    for version in [Version::Five, Version::Three] {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        let mut old = Client::device(&hub, &device, version).await;
        assert!(!hub.arrival().await.took_over);
        assert!(old.subscribe(&device.down(Kind::Work)).await);

        let mut new = Client::device(&hub, &device, version).await;
        assert!(hub.arrival().await.took_over);
        old.ended().await;
        assert!(new.subscribe(&device.down(Kind::Work)).await);
        assert_eq!(hub.broker.connections(), 1);
        let sent = hub.broker.publish_to_device(&device.address, Kind::Work, b"task", true).await.unwrap();
        assert_eq!(sent, Delivery::Sent);
        assert!(matches!(new.next().await, Seen::Message { .. }));
        new.publish(&device.up(Kind::Work), b"done", 1, false).await;
        assert_eq!(hub.message().await.0, Peer::Device(device.address));
        assert_eq!(new.next().await, Seen::Acknowledged(true));
        // The device is there: nobody hears that it left.
        hub.no_event().await;
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_is_out_at_once_and_stays_out() {
    for version in [Version::Five, Version::Three] {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        let mut client = Client::device(&hub, &device, version).await;
        hub.arrival().await;
        hub.revoke(device.serial);
        let start = Instant::now();
        assert!(hub.broker.disconnect(&device.address).await);
        assert!(!hub.broker.is_connected(&device.address));
        let sent = hub.broker.publish_to_device(&device.address, Kind::Work, b"task", true).await.unwrap();
        assert_eq!(sent, Delivery::NotConnected);
        client.ended().await;
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(hub.event().await, Event::Went(device.address, Departure::Dismissed));
        assert!(!hub.broker.disconnect(&device.address).await);

        let why = Client::connect(Options::device(&hub, &device, version)).await.err().unwrap();
        assert!(why.contains("NotAuthorized"), "{why}");
        hub.no_event().await;

        // The same device with a new certificate is welcome.
        let renewed = Device::new(&hub.ca, 1);
        Client::device(&hub, &renewed, version).await;
        assert_eq!(hub.arrival().await.serial, renewed.serial);
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_between_the_question_and_the_session_is_not_missed() {
    for version in [Version::Five, Version::Three] {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        // The first question is answered with yes; every later one with no.
        hub.recorder.allowances.store(1, Ordering::SeqCst);
        let mut client = Client::open(Options::device(&hub, &device, version));
        client.publish(&device.up(Kind::Work), b"too late", 1, false).await;
        client.ended().await;
        hub.no_message().await;
        hub.no_event().await;
        assert_eq!(hub.broker.connections(), 0);
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_in_trouble_puts_devices_off_and_does_not_turn_them_away() {
    for version in [Version::Five, Version::Three] {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        for _ in 0..3 {
            hub.recorder.in_trouble.store(true, Ordering::SeqCst);
            let why = Client::connect(Options::device(&hub, &device, version)).await.err().unwrap();
            assert!(why.contains("ServerUnavailable") || why.contains("ServiceUnavailable"), "{why}");
            hub.no_event().await;
            assert_eq!(hub.broker.connections(), 0);
            hub.recorder.in_trouble.store(false, Ordering::SeqCst);
            let client = Client::device(&hub, &device, version).await;
            assert!(!hub.arrival().await.took_over);
            client.disconnect().await;
            assert_eq!(hub.event().await, Event::Went(device.address, Departure::Left));
        }
        hub.shutdown().await;
    }
}

/// Trap 8: how many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_devices_than_configured() {
    let hub = Hub::with(BrokerConfig { max_connections: 3, ..loopback() }).await;
    let devices: Vec<_> = (1..=4).map(|number| Device::new(&hub.ca, number)).collect();
    let mut clients = Vec::new();
    for device in &devices[..3] {
        clients.push(Client::device(&hub, device, Version::Five).await);
    }
    let why = Client::connect(Options::device(&hub, &devices[3], Version::Five)).await.err().unwrap();
    assert!(why.contains("ServerUnavailable"), "{why}");
    // One that is in already may still take over from itself.
    clients.push(Client::device(&hub, &devices[0], Version::Five).await);
    hub.shutdown().await;
}

/// The engine itself would wait for ever for the first packet of whoever has a certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_becomes_a_session_is_closed() {
    let config = BrokerConfig { handshake_timeout: Duration::from_millis(500), ..loopback() };
    let mut hub = Hub::with(config).await;
    let device = Device::new(&hub.ca, 1);
    let mut live = Client::device(&hub, &device, Version::Five).await;
    hub.arrival().await;
    let address = hub.broker.main_addr();
    let start = Instant::now();
    let mut waiting = Vec::new();
    // Silent, in the middle of the protocol's name, and in the middle of the CONNECT.
    let connect = [&[0x10, 52, 0, 4][..], b"MQTT", &[4, 2, 0, 30, 0, 40, b'0']].concat();
    for said in [0, 6, connect.len()] {
        let tls = TlsConnector::from(Arc::new(device.tls(&hub.ca)));
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut stream = tls.connect(ServerName::from(address.ip()), tcp).await.unwrap();
        stream.write_all(&connect[..said]).await.unwrap();
        stream.flush().await.unwrap();
        waiting.push(stream);
    }
    for mut stream in waiting {
        // Nothing, or the refusal of a handshake that took too long; then the end.
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection should have been closed");
    }
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    // The session that there was has not been touched.
    live.publish(&device.up(Kind::Work), b"still here", 1, false).await;
    assert_eq!(live.next().await, Seen::Acknowledged(true));
    hub.no_event().await;
    hub.shutdown().await;
}
