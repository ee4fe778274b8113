//! Messages up and down, and what an acknowledgement means.

use std::time::Duration;

use sosna_broker::{Broker as _, BrokerConfig, Delivery, Kind, NotTaken, Peer};

use crate::{
    client::{Client, Options, Seen, Version},
    hub::{Device, Event, Hub, loopback},
};

const BOTH: [Version; 2] = [Version::Five, Version::Three];

/// Not text, with what MQTT itself uses as markers.
fn bytes() -> Vec<u8> {
    (0..=255).chain([0, 0x30, 0xc0, 0, 0xff]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handler_has_the_bytes_before_the_device_has_the_acknowledgement() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        let mut client = Client::device(&hub, &device, version).await;
        hub.hold();
        client.publish(&device.up(Kind::Work), &bytes(), 1, false).await;
        assert_eq!(hub.message().await, (Peer::Device(device.address), Kind::Work, bytes()));
        client.sees_nothing().await;
        hub.recorder.gate.add_permits(1);
        assert_eq!(client.next().await, Seen::Acknowledged(true), "{version:?}");
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_hub_could_not_store_is_not_acknowledged() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        let mut client = Client::device(&hub, &device, version).await;
        hub.answer(Err(NotTaken::Retry));
        client.publish(&device.up(Kind::Work), b"receipt", 1, false).await;
        hub.message().await;
        // Panics if an acknowledgement comes first.
        client.ended().await;

        // An outbox sends it again on the next connection.
        let mut client = Client::device(&hub, &device, version).await;
        client.publish(&device.up(Kind::Work), b"receipt", 1, false).await;
        assert_eq!(hub.message().await.2, b"receipt");
        assert_eq!(client.next().await, Seen::Acknowledged(true));
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_session_is_kept_redelivers_by_itself() {
    for version in BOTH {
        let config = BrokerConfig { session_expiry: Duration::from_secs(60), ..loopback() };
        let mut hub = Hub::with(config).await;
        let device = Device::new(&hub.ca, 1);
        let mut options = Options::device(&hub, &device, version);
        (options.clean, options.expiry, options.reconnect) = (false, Some(60), true);
        let mut client = Client::connect(options).await.unwrap();
        hub.answer(Err(NotTaken::Retry));
        client.publish(&device.up(Kind::Pay), b"receipt", 1, false).await;
        assert_eq!(hub.message().await.2, b"receipt");
        client.ended().await;
        // The engine may refuse the first attempt, while the old connection ends.
        let present = loop {
            match client.next().await {
                Seen::Connected { session_present, .. } => break session_present,
                Seen::Ended(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(present);
        assert_eq!(hub.message().await.2, b"receipt", "{version:?}");
        assert_eq!(client.next().await, Seen::Acknowledged(true));
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_hub_will_never_take_is_refused() {
    let mut hub = Hub::start().await;
    let device = Device::new(&hub.ca, 1);

    let mut five = Client::device(&hub, &device, Version::Five).await;
    hub.answer(Err(NotTaken::Refused));
    five.publish(&device.up(Kind::Work), b"nonsense", 1, false).await;
    hub.message().await;
    assert_eq!(five.next().await, Seen::Acknowledged(false));
    five.publish(&device.up(Kind::Work), b"sense", 1, false).await;
    hub.message().await;
    assert_eq!(five.next().await, Seen::Acknowledged(true));
    drop(five);

    let mut three = Client::device(&hub, &device, Version::Three).await;
    hub.answer(Err(NotTaken::Refused));
    three.publish(&device.up(Kind::Work), b"nonsense", 1, false).await;
    hub.message().await;
    three.ended().await;
    hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_sign_of_life_costs_nobody_the_connection() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let device = Device::new(&hub.ca, 1);
        let mut client = Client::device(&hub, &device, version).await;
        hub.answer(Err(NotTaken::Retry));
        hub.answer(Err(NotTaken::Refused));
        for _ in 0..3 {
            client.publish(&device.up(Kind::Beat), b"alive", 0, false).await;
            assert_eq!(hub.message().await.1, Kind::Beat);
        }
        client.sees_nothing().await;
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hub_reaches_exactly_the_device_that_it_names() {
    for version in BOTH {
        let mut hub = Hub::start().await;
        let (one, other) = (Device::new(&hub.ca, 1), Device::new(&hub.ca, 2));
        let mut client = Client::device(&hub, &one, version).await;
        let mut bystander = Client::device(&hub, &other, version).await;
        assert!(client.subscribe(&one.down(Kind::Work)).await);
        assert!(bystander.subscribe(&other.down(Kind::Work)).await);
        for qos1 in [true, false] {
            let sent = hub.broker.publish_to_device(&one.address, Kind::Work, &bytes(), qos1).await.unwrap();
            assert_eq!(sent, Delivery::Sent);
            assert_eq!(client.next().await, Seen::Message { topic: one.down(Kind::Work), payload: bytes() });
        }
        bystander.sees_nothing().await;
        // Nothing of it comes back to the hub.
        hub.no_message().await;
        hub.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_there_gets_nothing_and_the_hub_is_told() {
    let mut hub = Hub::start().await;
    let device = Device::new(&hub.ca, 1);
    assert_eq!(send_task(&hub, &device).await, Delivery::NotConnected);

    let mut client = Client::device(&hub, &device, Version::Five).await;
    hub.arrival().await;
    assert_eq!(send_task(&hub, &device).await, Delivery::NotConnected, "it has not subscribed yet");
    assert!(client.subscribe(&device.down(Kind::Work)).await);
    assert_eq!(send_task(&hub, &device).await, Delivery::Sent);

    assert!(matches!(client.next().await, Seen::Message { .. }));
    client.disconnect().await;
    assert!(matches!(hub.event().await, Event::Went(address, _) if address == device.address));
    assert_eq!(send_task(&hub, &device).await, Delivery::NotConnected);

    // And what was sent in between was not kept for it (the engine's storage is never relied on).
    let mut options = Options::device(&hub, &device, Version::Five);
    (options.clean, options.expiry) = (false, Some(3600));
    let mut client = Client::open(options);
    assert!(matches!(client.next().await, Seen::Connected { session_present: false, .. }));
    assert!(client.subscribe(&device.down(Kind::Work)).await);
    client.sees_nothing().await;
    hub.shutdown().await;
}

async fn send_task(hub: &Hub, device: &Device) -> Delivery {
    hub.broker.publish_to_device(&device.address, Kind::Work, b"task", true).await.unwrap()
}
