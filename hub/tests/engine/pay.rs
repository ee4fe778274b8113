//! Vouchers: when they come, for how much, and after a restoration.

use std::time::Duration;

use sosna_hub::admin;
use sosna_protocol::Amount;
use sosna_store::JobState;

use crate::{
    device::{Device, Told},
    world::World,
};

/// A job of one task, done by the only device there is.
async fn work(world: &World, device: &mut Device) -> Amount {
    let job = world.submit(1, 1).await;
    let offer = device.take(world).await;
    let shown = device.outcome(world, &offer, "x").await;
    device.reveal(world, &shown).await;
    device.verdict(world, &offer).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    offer.price
}

async fn no_voucher(world: &World, device: &mut Device) {
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(device.told_already(world, |told| matches!(told, Told::Issue(..)).then_some(())).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_voucher_says_all_that_was_ever_owed() {
    let world = World::new().await;
    let mut device = world.device().await;
    let mut sum = Amount::ZERO;
    for _ in 0..3 {
        sum = sum.checked_add(work(&world, &mut device).await).unwrap();
        assert_eq!(device.voucher(&world).await.cumulative, sum);
    }
    assert_eq!(world.earned(&device).await, sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_probation_pay_comes_late_and_in_quarantine_not_at_all() {
    let world = World::with(|config| config.probation.delay_ms = 600_000).await;
    let mut device = world.device().await;
    let price = work(&world, &mut device).await;
    no_voucher(&world, &mut device).await;
    world.pass(601_000);
    assert_eq!(device.voucher(&world).await.cumulative, price);

    work(&world, &mut device).await;
    let address = device.address();
    world
        .hub
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.set_device_state(&address, sosna_store::DeviceState::Quarantined).await?;
                Ok::<_, sosna_store::StoreError>(())
            })
        })
        .await
        .unwrap();
    admin::drain(&world.hub, address, false).await.unwrap();
    world.pass(601_000);
    no_voucher(&world, &mut device).await;
    admin::approve(&world.hub, address).await.unwrap();
    assert_eq!(device.voucher(&world).await.cumulative, price.checked_mul(2).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_costs_nothing_is_covered_with_the_next_that_does() {
    let world = World::new().await;
    let mut device = world.device().await;
    let price = device.ask.minimum;
    // The buyer's limit needs somebody with a price.
    let mut other = world.device().await;
    admin::drain(&world.hub, other.address(), true).await.unwrap();
    device.ask.minimum = Amount::ZERO;
    device.hello(&world).await;
    assert_eq!(work(&world, &mut device).await, Amount::ZERO);
    no_voucher(&world, &mut device).await;
    device.ask.minimum = price;
    device.hello(&world).await;
    work(&world, &mut device).await;
    assert_eq!(device.voucher(&world).await.cumulative, price);
    assert!(other.offer_already(&world).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_is_owed_after_a_restoration() {
    let mut world = World::new().await;
    let mut device = world.device().await;
    work(&world, &mut device).await;
    device.voucher(&world).await;
    let copy = world.store_copy().await;
    work(&world, &mut device).await;
    let voucher = device.voucher(&world).await;
    world.restore(&copy).await;
    device.begin_anew();
    assert!(world.earned(&device).await < voucher.cumulative, "the books are older");
    device.hello(&world).await;
    assert_eq!(world.earned(&device).await, voucher.cumulative);
    world.check_books().await;
    let price = work(&world, &mut device).await;
    assert_eq!(device.voucher(&world).await.cumulative, voucher.cumulative.checked_add(price).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restoration_pays_nothing_twice() {
    let mut world = World::with(|config| config.probation.delay_ms = 600_000).await;
    let mut device = world.device().await;
    work(&world, &mut device).await;
    // The copy knows that it was earned, not that a voucher covers it.
    let copy = world.store_copy().await;
    world.pass(601_000);
    let voucher = device.voucher(&world).await;
    world.restore(&copy).await;
    device.begin_anew();
    no_voucher(&world, &mut device).await;
    device.hello(&world).await;
    no_voucher(&world, &mut device).await;
    let price = work(&world, &mut device).await;
    world.pass(601_000);
    assert_eq!(device.voucher(&world).await.cumulative, voucher.cumulative.checked_add(price).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_that_this_hub_never_signed_is_worth_nothing() {
    let world = World::new().await;
    let mut device = world.device().await;
    work(&world, &mut device).await;
    let mut voucher = device.voucher(&world).await;
    voucher.cumulative = "999".parse().unwrap();
    device.voucher = Some(voucher);
    let before = world.earned(&device).await;
    device.hello(&world).await;
    assert_eq!(world.earned(&device).await, before);
}
