//! Frames that come twice, from others, for others, or that tell two things at once.

use sosna_broker::{Arrival, Handler as _, Peer, Serial};
use sosna_hub::admin;
use sosna_protocol::{
    Address, Amount, Hash,
    identity::AssignmentId,
    message::{pay::Held, result::Commit, work::Accept},
    topic::Kind,
};
use sosna_store::{AssignmentState, DeviceState, JobState};

use crate::{
    device::{Told, offers},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_frame_given_again_changes_nothing() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 2).await;
    let mut frames: Vec<(usize, Kind, Vec<u8>)> = Vec::new();
    let both = offers(&world, &mut devices, 2).await;
    for (place, offer) in &both {
        let frame = devices[*place].say(&world, &Accept { assignment: offer.id }).await;
        frames.push((*place, Kind::Work, frame));
    }
    let mut shown = Vec::new();
    for (place, offer) in &both {
        let device = &mut devices[*place];
        let reveal = device.outcome(&world, offer, "x").await;
        let commit = device.commitment(&world, &reveal);
        frames.push((*place, Kind::Result, device.say(&world, &commit).await));
        shown.push(reveal);
        for (place, kind, frame) in &frames {
            devices[*place].give(&world, *kind, frame).await.unwrap();
        }
    }
    for ((place, _), reveal) in both.iter().zip(&shown) {
        frames.push((*place, Kind::Result, devices[*place].say(&world, reveal).await));
        for (place, kind, frame) in &frames {
            devices[*place].give(&world, *kind, frame).await.unwrap();
        }
    }
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    for (place, offer) in &both {
        let device = &mut devices[*place];
        let cumulative = device.voucher(&world).await.cumulative;
        assert_eq!(cumulative, offer.price);
        let held = device.say(&world, &Held { cumulative }).await;
        frames.push((*place, Kind::Pay, held));
    }
    for (place, kind, frame) in &frames {
        devices[*place].give(&world, *kind, frame).await.unwrap();
    }
    for (place, offer) in &both {
        assert_eq!(world.earned(&devices[*place]).await, offer.price);
        let stored = world.stored(&devices[*place]).await;
        assert_eq!((stored.valid, stored.state), (1, DeviceState::Probation));
    }
    assert!(world.hub.metrics.messages_replayed.get() > 10);
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_counter_with_two_contents_is_a_clone() {
    let world = World::new().await;
    let mut device = world.device().await;
    let accept = |number: u8| Accept { assignment: AssignmentId([number; 16]) };
    device.say(&world, &accept(1)).await;
    let other = device.seal_as(world.hub.address(), 1, &accept(2));
    device.give(&world, Kind::Work, &other).await.unwrap();
    assert_eq!(world.stored(&device).await.state, DeviceState::Quarantined);
    // It gets nothing new until somebody has looked at it.
    let _job = world.submit_for(1, 1, Some("1")).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(device.offer_already(&world).is_none());
    admin::approve(&world.hub, device.address()).await.unwrap();
    device.take(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_keep_taking_over_are_clones() {
    let world = World::new().await;
    let device = world.device().await;
    let arrive = async |took_over| {
        let serial = Serial([1; 16]);
        world.intake.connected(Arrival { device: device.address(), serial, from: None, took_over }).await;
    };
    for _ in 0..5 {
        arrive(true).await;
    }
    assert_eq!(world.stored(&device).await.state, DeviceState::Probation);
    arrive(true).await;
    assert_eq!(world.stored(&device).await.state, DeviceState::Quarantined);
    admin::approve(&world.hub, device.address()).await.unwrap();
    arrive(false).await;
    arrive(true).await;
    assert_eq!(world.stored(&device).await.state, DeviceState::Trusted, "what was before is forgiven");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_senders_or_not_for_the_hub_has_no_effect() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 1).await;
    let (place, offer) = offers(&world, &mut devices, 1).await[0];
    let mut other = devices.remove(1 - place);
    let mut own = devices.remove(0);
    let state = async || world.assignments(job).await[0].state;

    other.accept(&world, &offer).await;
    assert_eq!(state().await, AssignmentState::Offered, "somebody else's assignment");
    let forged = other.seal_as(world.hub.address(), 9, &Accept { assignment: offer.id });
    world.intake.message(Peer::Device(own.address()), Kind::Work, &forged).await.unwrap();
    assert_eq!(state().await, AssignmentState::Offered, "somebody else's signature");
    let elsewhere = own.seal_as(Address([8; 20]), 1, &Accept { assignment: offer.id });
    own.give(&world, Kind::Work, &elsewhere).await.unwrap();
    assert_eq!(state().await, AssignmentState::Offered, "for another hub");
    let mut broken = own.seal_as(world.hub.address(), 1, &Accept { assignment: offer.id });
    let last = broken.len() - 1;
    broken[last] ^= 1;
    own.give(&world, Kind::Work, &broken).await.unwrap();
    own.give(&world, Kind::Work, b"\x93nonsense").await.unwrap();
    assert_eq!(state().await, AssignmentState::Offered, "not whole");
    // Signed and whole, but given under another exchange: whose counter it must not use up.
    let held = own.seal_as(world.hub.address(), 1, &Held { cumulative: Amount::ZERO });
    own.give(&world, Kind::Work, &held).await.unwrap();
    let commit = Commit { assignment: offer.id, commitment: Hash([1; 32]) };
    let commit = own.seal_as(world.hub.address(), 1, &commit);
    own.give(&world, Kind::Work, &commit).await.unwrap();
    own.accept(&world, &offer).await;
    assert_eq!(state().await, AssignmentState::Accepted);
    assert_eq!(world.stored(&own).await.state, DeviceState::Probation);
    assert!(world.hub.metrics.messages_refused.get() >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_go_up_to_the_first_gap() {
    let world = World::new().await;
    let mut device = world.device().await;
    let say = async |device: &mut crate::device::Device, counter: u64| {
        let id = AssignmentId([counter.to_be_bytes()[7]; 16]);
        let frame = device.seal_as(world.hub.address(), counter, &Accept { assignment: id });
        device.give(&world, Kind::Work, &frame).await.unwrap();
        device
            .told(&world, |told| if let Told::Ack(all) = told { Some(all[0].contiguous) } else { None })
            .await
    };
    assert_eq!(say(&mut device, 1).await, 1);
    assert_eq!(say(&mut device, 3).await, 1);
    assert_eq!(say(&mut device, 4).await, 1);
    assert_eq!(say(&mut device, 2).await, 4);
    // A device that was restored begins again, in a new epoch.
    device.epoch = 1;
    assert_eq!(say(&mut device, 1).await, 1);
    device.epoch = 0;
    assert_eq!(say(&mut device, 5).await, 1, "what is from before is over");
    assert_eq!(world.stored(&device).await.state, DeviceState::Probation);
}
