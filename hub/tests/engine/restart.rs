//! A hub that is ended between any two steps goes on where it was.

use sosna_protocol::message::result::Judgement;
use sosna_store::{AssignmentState, JobState};

use crate::{
    device::{Device, Told, offers},
    world::World,
};

async fn again(world: &mut World, devices: &mut [Device]) {
    world.restart().await;
    for device in devices {
        device.begin_anew();
        let (unwanted, _) = device.hello(world).await;
        assert!(unwanted.is_empty());
        device.begin_anew();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_any_two_steps_of_a_replicated_task() {
    let mut world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 2).await;
    let before = offers(&world, &mut devices, 2).await;
    // The offers were lost on the way.
    devices.iter_mut().for_each(|device| device.held.clear());
    again(&mut world, &mut devices).await;
    let both = offers(&world, &mut devices, 2).await;
    assert!(both.iter().all(|one| before.contains(one)), "the same offers once more");
    assert!(world.hub.fleet().devices().iter().all(|live| live.open == 1), "their load is known again");
    for (place, offer) in &both {
        devices[*place].accept(&world, offer).await;
    }
    again(&mut world, &mut devices).await;
    let mut shown = Vec::new();
    for (place, offer) in &both {
        shown.push(devices[*place].commit(&world, offer, "x").await);
        again(&mut world, &mut devices).await;
    }
    for ((place, _), shown) in both.iter().zip(&shown) {
        devices[*place].reveal_when_closed(&world, shown).await;
        again_after_reveal(&mut world, &mut devices, *place, shown.assignment).await;
    }
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    for (place, offer) in &both {
        assert_eq!(world.earned(&devices[*place]).await, offer.price);
        // Issued before or after: it is said again until the device says that it has it.
        devices[*place].voucher(&world).await;
    }
    again(&mut world, &mut devices).await;
    for device in &mut devices {
        assert!(device.told_already(&world, |told| matches!(told, Told::Issue(..)).then_some(())).is_none());
    }
}

async fn again_after_reveal(
    world: &mut World,
    devices: &mut [Device],
    place: usize,
    id: sosna_protocol::identity::AssignmentId,
) {
    world.restart().await;
    for device in &mut *devices {
        device.begin_anew();
        device.hello(world).await;
        device.begin_anew();
    }
    devices[place].held.retain(|held| *held != id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_lease_is_remembered() {
    let mut world = World::new().await;
    let mut devices = world.devices(1).await;
    let job = world.submit(1, 1).await;
    let (_, offer) = offers(&world, &mut devices, 1).await[0];
    devices[0].accept(&world, &offer).await;
    world.pass(61_000);
    world.until(job, |all| all[0].state == AssignmentState::Expired).await;
    again(&mut world, &mut devices).await;
    let shown = devices[0].outcome(&world, &offer, "x").await;
    devices[0].reveal(&world, &shown).await;
    assert_eq!(devices[0].verdict(&world, &offer).await, (Judgement::Accepted, offer.price));
}
