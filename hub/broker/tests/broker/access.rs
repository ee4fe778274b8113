//! What devices may not say, and what they may not listen to.

use sosna_broker::{BrokerConfig, Kind};
use sosna_protocol::topic::shard_of;

use crate::{
    client::{Client, Options, Seen, Version},
    hub::{Device, Hub, loopback},
};

const BOTH: [Version; 2] = [Version::Five, Version::Three];

/// Trap 2: what no hook refuses is allowed, and a refusal that only answers is success in version 3.1.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_says_nothing_but_its_own_words_under_its_own_name() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let (device, victim) = (Device::new(&hub.ca, 1), Device::new(&hub.ca, 2));
        let mut watcher = Client::device(&hub, &victim, version).await;
        assert!(watcher.subscribe(&victim.down(Kind::Work)).await);
        let own = device.address;
        let shard = shard_of(&own);
        let wrong_shard = shard.wrapping_add(1);
        for (topic, qos, retain) in [
            (victim.up(Kind::Work), 1, false),
            (victim.down(Kind::Work), 1, false),
            (device.down(Kind::Work), 1, false),
            (format!("u/{wrong_shard}/{own}/work"), 1, false),
            (format!("u/{shard}/{own}/nonsense"), 1, false),
            (format!("u/{shard}/{own}/work/more"), 1, false),
            (format!("u/{shard}/{own}"), 1, false),
            (device.up(Kind::Enrol), 1, false),
            ("$SYS/brokers".into(), 1, false),
            ("sosna/hubs".into(), 1, false),
            (victim.down(Kind::Work), 0, false),
            (device.up(Kind::Work), 1, true),
            (device.up(Kind::Work), 0, true),
            (device.up(Kind::Work), 2, false),
            (victim.down(Kind::Work), 2, false),
        ] {
            let mut client = Client::device(&hub, &device, version).await;
            client.publish(&topic, b"mischief", qos, retain).await;
            let why = client.ended().await;
            assert!(!why.is_empty(), "{topic}");
        }
        watcher.sees_nothing().await;
        hub.no_message().await;
        // The names are right where only the rest was wrong.
        let mut client = Client::device(&hub, &device, version).await;
        client.publish(&device.up(Kind::Work), b"work", 1, false).await;
        assert_eq!(client.next().await, Seen::Acknowledged(true));
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_listens_to_nothing_but_its_own_names() {
    for version in BOTH {
        let hub = Hub::start().await;
        let (device, victim) = (Device::new(&hub.ca, 1), Device::new(&hub.ca, 2));
        let own = device.address;
        for filter in [
            victim.down(Kind::Work),
            victim.up(Kind::Work),
            device.up(Kind::Work),
            device.down(Kind::Enrol),
            "#".into(),
            "+/+/+".into(),
            "c/#".into(),
            "c/+/work".into(),
            format!("c/{own}/#"),
            format!("c/{own}/+"),
            format!("c/{own}/nonsense"),
            "$SYS/#".into(),
            format!("$share/group/c/{own}/work"),
            format!("$share/group/{}", victim.down(Kind::Work)),
            format!("$exclusive/c/{own}/work"),
            format!("$limit/5/c/{own}/work"),
        ] {
            // Each on a session of its own, for the engine may end one over a refused filter.
            let mut client = Client::device(&hub, &device, version).await;
            assert!(!client.subscribe(&filter).await, "{filter:?} was granted");
        }
        let mut client = Client::device(&hub, &device, version).await;
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Enrol) {
            assert!(client.subscribe(&device.down(kind)).await, "{kind:?} was refused");
        }
        hub.shutdown().await;
    }
}

/// Trap 8: how much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_and_subscriptions_have_limits() {
    for version in BOTH {
        let config = BrokerConfig { max_packet: 4096, max_subscriptions: 2, ..loopback() };
        let mut hub = Hub::with(config).await;
        let device = Device::new(&hub.ca, 1);
        let mut client = Client::device(&hub, &device, version).await;
        client.publish(&device.up(Kind::Work), &[7; 3000], 1, false).await;
        assert_eq!(client.next().await, Seen::Acknowledged(true));
        assert_eq!(hub.message().await.2.len(), 3000);
        assert!(client.subscribe(&device.down(Kind::Work)).await);
        assert!(client.subscribe(&device.down(Kind::Pay)).await);
        assert!(!client.subscribe(&device.down(Kind::Ack)).await);
        drop(client);

        let mut client = Client::device(&hub, &device, version).await;
        client.publish(&device.up(Kind::Work), &[7; 5000], 1, false).await;
        client.ended().await;
        hub.no_message().await;
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_a_keep_alive_is_refused_or_given_one() {
    let hub = Hub::with(BrokerConfig { min_keep_alive: 60, ..loopback() }).await;
    let device = Device::new(&hub.ca, 1);
    // The client offers 30 seconds: version 5 is told better, 3.1.1 cannot be.
    let mut client = Client::open(Options::device(&hub, &device, Version::Five));
    let Seen::Connected { limits: Some(limits), .. } = client.next().await else { panic!("refused") };
    assert_eq!(limits.server_keep_alive, Some(60));
    assert!(Client::connect(Options::device(&hub, &device, Version::Three)).await.is_err());
    hub.shutdown().await;
}
