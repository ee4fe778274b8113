//! Enrolment and greeting: who is let in, who is not and why.

use sosna_broker::{Admission, Handler as _, Peer, Serial};
use sosna_host::identity::IdentityKey;
use sosna_hub::admin;
use sosna_protocol::{Amount, Hash, identity::Sign as _, message::enrol::Refusal, topic::Kind};
use sosna_store::{Account, DeviceState, Transfer};

use crate::{
    device::{Device, Told},
    world::World,
};

async fn uses(world: &World, secret: Hash) -> u32 {
    let (hub, hash) = (world.hub.address(), sosna_protocol::hash::sha256(&secret.0));
    world.read(move |tx| Box::pin(async move { Ok(tx.join_token(hub, &hash).await?.unwrap().used) })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_costs_no_second_use() {
    let world = World::new().await;
    let owner = IdentityKey::generate();
    let secret = world.token(&owner, 1, 1000).await;
    let mut device = Device::new(owner.address());
    device.enrol(&world, secret).await;
    device.enrol(&world, secret).await;
    assert_eq!(uses(&world, secret).await, 1);
    let stored = world.stored(&device).await;
    assert_eq!((stored.owner, stored.state), (owner.address(), DeviceState::Probation));
    assert_eq!(device.renew(&world).await, Told::Granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_says_what_is_wrong_and_leaves_nothing() {
    let world = World::new().await;
    let owner = IdentityKey::generate();
    let mut known = Device::new(owner.address());
    let secret = world.token(&owner, 1, 1000).await;
    known.enrol(&world, secret).await;

    let mut device = Device::new(owner.address());
    assert_eq!(device.renew(&world).await, Told::Denied(Refusal::NotEnrolled));
    let unknown = device.ask_to_enrol(&world, Hash([1; 32])).await;
    assert_eq!(unknown, Told::Denied(Refusal::UnknownToken));
    assert_eq!(device.ask_to_enrol(&world, secret).await, Told::Denied(Refusal::UsedToken));
    let short = world.token(&owner, 1, 100).await;
    world.pass(101_000);
    assert_eq!(device.ask_to_enrol(&world, short).await, Told::Denied(Refusal::ExpiredToken));
    let fresh = world.token(&owner, 1, 1000).await;
    let bad = device.ask_to_enrol_with(&world, fresh, b"no request").await;
    assert_eq!(bad, Told::Denied(Refusal::BadRequest));
    assert_eq!(uses(&world, fresh).await, 0, "a refused enrolment uses nothing up");
    let foreign = world.token(&IdentityKey::generate(), 1, 1000).await;
    assert_eq!(known.ask_to_enrol(&world, foreign).await, Told::Denied(Refusal::BadDelegation));
    let address = device.address();
    let nobody = world.read(move |tx| Box::pin(async move { Ok(tx.device(&address).await?) })).await;
    assert!(nobody.is_none());

    admin::revoke(&world.hub, known.address(), None).await.unwrap();
    assert_eq!(world.broker.dismissed.lock().unwrap()[..], [known.address()]);
    assert_eq!(known.ask_to_enrol(&world, secret).await, Told::Denied(Refusal::Revoked));
    assert_eq!(known.renew(&world).await, Told::Denied(Refusal::Revoked));
    let admission = world.intake.authorise(known.address(), Serial([0; 16])).await;
    assert!(matches!(admission, Admission::Deny(_)));
    device.enrol(&world, fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_anothers_name_is_dropped() {
    let world = World::new().await;
    let owner = IdentityKey::generate();
    let secret = world.token(&owner, 1, 1000).await;
    let (mut thief, victim) = (Device::new(owner.address()), Device::new(owner.address()));
    let csr = b"x";
    let frame = thief.seal(
        &world,
        &sosna_protocol::message::enrol::Request {
            nonce: sosna_protocol::identity::Nonce([1; 16]),
            secret,
            csr: sosna_protocol::codec::Bounded(csr),
            encryption_key: Hash([1; 32]),
            agent: sosna_protocol::codec::Bounded("x"),
            class: victim.class,
            hostname: sosna_protocol::codec::Bounded("x"),
        },
    );
    world.intake.message(Peer::Bootstrap(victim.address()), Kind::Enrol, &frame).await.unwrap();
    // And not on the main listener either.
    world.intake.message(Peer::Device(thief.address()), Kind::Enrol, &frame).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(world.broker.sent.lock().unwrap().is_empty());
    assert_eq!(world.hub.metrics.messages_refused.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn greetings_are_answered_once_with_where_the_hub_stands() {
    let world = World::new().await;
    let mut device = world.device().await;
    let unknown = sosna_protocol::identity::AssignmentId([5; 16]);
    device.held.push(unknown);
    let (unwanted, positions) = device.hello(&world).await;
    assert_eq!(unwanted, [unknown], "of a hub that was restored, or of none");
    assert!(positions.len() == 3 && positions.iter().all(|position| position.contiguous == 0));
    device.held.clear();
    let _job = world.submit(1, 1).await;
    device.take(&world).await;
    let (_, positions) = device.hello(&world).await;
    let work = positions.iter().find(|position| position.kind == Kind::Work).unwrap();
    assert_eq!(work.contiguous, 1);

    device.greet(&world, (90, 99)).await;
    let why = device
        .told(&world, |told| if let Told::Farewell(why) = told { Some(why.clone()) } else { None })
        .await;
    assert!(why.contains("update the older one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_paid_by_one_address_for_work_here_and_elsewhere() {
    let world = World::new().await;
    let owner = IdentityKey::generate();
    let secret = world.token(&owner, 1, 1000).await;
    let mut device = Device::new(owner.address());
    let payee = device.address();
    let transfer = Transfer {
        key: "boinc:1".to_owned(),
        kind: "boinc",
        from: Account::Boinc("project.example".to_owned()),
        to: Account::Payee(payee),
        amount: Amount::SNM,
        job: None,
        assignment: None,
        at_ms: 1,
    };
    let booked = world.hub.store.write(move |tx| Box::pin(async move { tx.transfer(&transfer).await }));
    assert!(booked.await.unwrap());
    assert_eq!(device.ask_to_enrol(&world, secret).await, Told::Denied(Refusal::BadRequest));
    assert_eq!(uses(&world, secret).await, 0);
    world.check_books().await;
}
