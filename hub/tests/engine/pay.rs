//! Vouchers: when they come, for how much, and after a restoration.

use std::time::Duration;

use sosna_broker::{Departure, Handler as _};
use sosna_hub::admin;
use sosna_protocol::{
    Amount,
    identity::AssignmentId,
    message::pay::{MAX_PRESENTED, MAX_SHOWN},
};
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
async fn work_that_costs_nothing_is_in_no_voucher() {
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
    let (statement, covers) = device
        .told(&world, |told| match told {
            Told::Issue(statement, covers) => Some((*statement, covers.len())),
            _ => None,
        })
        .await;
    assert_eq!((statement.cumulative, covers), (price, 1));
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

/// Work that is accepted, and its verdict as the device keeps it.
async fn judged(world: &World, device: &mut Device) -> (AssignmentId, Amount, Vec<u8>) {
    let job = world.submit(1, 1).await;
    let offer = device.take(world).await;
    let shown = device.outcome(world, &offer, "x").await;
    device.reveal(world, &shown).await;
    device.verdict(world, &offer).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    (offer.id, offer.price, device.verdict_frame(world, offer.id))
}

async fn claims(world: &World, device: &Device) -> Vec<sosna_store::Claim> {
    let address = device.address();
    world.read(move |tx| Box::pin(async move { Ok(tx.claims_of(&address).await?) })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_after_the_backup_is_owed_and_nothing_twice() {
    let mut world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let (_, price, _) = judged(&world, &mut device).await;
    let copy = world.store_copy().await;
    let (second, _, second_verdict) = judged(&world, &mut device).await;
    let (third, _, third_verdict) = judged(&world, &mut device).await;
    let three = price.checked_mul(3).unwrap();
    assert_eq!(world.earned(&device).await, three);

    world.restore(&copy).await;
    device.begin_anew();
    assert_eq!(world.earned(&device).await, price, "the books are older");
    device.earned = Some(third_verdict.clone());
    device.hello(&world).await;
    assert_eq!(world.earned(&device).await, three);
    let shown = [(second, Some(second_verdict.clone())), (third, Some(third_verdict.clone()))];
    for _ in 0..2 {
        device.present(&world, &shown).await;
        device.hello(&world).await;
    }
    assert!(claims(&world, &device).await.iter().all(|claim| claim.proven && claim.owed == price));
    assert_eq!(world.earned(&device).await, three, "however often it is shown");
    world.check_books().await;
    no_voucher(&world, &mut device).await;
    world.pass(301_000);
    // It names all three: the device's receipts make its root.
    assert_eq!(device.voucher(&world).await.cumulative, three);
    no_voucher(&world, &mut device).await;
    device.present(&world, &shown).await;
    world.pass(301_000);
    no_voucher(&world, &mut device).await;
    judged(&world, &mut device).await;
    world.pass(301_000);
    assert_eq!(device.voucher(&world).await.cumulative, price.checked_mul(4).unwrap());
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_voucher_names_already_is_not_paid_again_after_a_restoration() {
    let mut world = World::new().await;
    let mut device = world.device().await;
    let (first, price, verdict) = {
        let copied = judged(&world, &mut device).await;
        device.voucher(&world).await;
        copied
    };
    let copy = world.store_copy().await;
    let (second, _, second_verdict) = judged(&world, &mut device).await;
    let voucher = device.voucher(&world).await;
    world.restore(&copy).await;
    device.begin_anew();
    device.earned = Some(second_verdict.clone());
    device.hello(&world).await;
    assert_eq!(world.earned(&device).await, voucher.cumulative);
    // A device that says that it has no voucher for them.
    device.present(&world, &[(second, Some(second_verdict)), (first, Some(verdict))]).await;
    no_voucher(&world, &mut device).await;
    assert_eq!(world.earned(&device).await, voucher.cumulative);
    judged(&world, &mut device).await;
    assert_eq!(device.voucher(&world).await.cumulative, voucher.cumulative.checked_add(price).unwrap());
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_voucher_did_not_name_is_named_by_the_next() {
    let mut world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let (_, price, _) = judged(&world, &mut device).await;
    world.pass(200_000);
    let (second, _, verdict) = judged(&world, &mut device).await;
    // These books know both, and not that a voucher then names the first.
    let copy = world.store_copy().await;
    world.pass(150_000);
    assert_eq!(device.voucher(&world).await.cumulative, price);
    world.restore(&copy).await;
    device.begin_anew();
    device.earned = Some(verdict);
    device.hello(&world).await;
    // It did not even get the verdict: the books know that it was accepted.
    device.present(&world, &[(second, None)]).await;
    world.pass(301_000);
    // It names the second alone, or its root would be another.
    assert_eq!(device.voucher(&world).await.cumulative, price.checked_mul(2).unwrap());
    assert_eq!(world.earned(&device).await, price.checked_mul(2).unwrap());
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_proves_is_recorded_and_not_paid() {
    let mut world = World::new().await;
    let (mut device, mut other) = (world.device().await, world.device().await);
    admin::drain(&world.hub, other.address(), true).await.unwrap();
    let copy = world.store_copy().await;
    let (id, price, verdict) = judged(&world, &mut device).await;
    device.present(&world, &[(id, None)]).await;
    assert!(claims(&world, &device).await.is_empty(), "a hub that was never restored knows what it owes");
    world.restore(&copy).await;
    for one in [&mut device, &mut other] {
        one.begin_anew();
        // Somebody else's verdict, and one that is none.
        one.hello(&world).await;
    }
    other.earned = Some(verdict.clone());
    other.hello(&world).await;
    assert_eq!(world.earned(&other).await, Amount::ZERO);
    let mut forged = verdict.clone();
    *forged.last_mut().unwrap() ^= 1;
    for frame in [None, Some(forged), Some(b"nothing".to_vec())] {
        device.present(&world, &[(id, frame)]).await;
    }
    let recorded = claims(&world, &device).await;
    assert_eq!(recorded.len(), 1);
    assert_eq!((recorded[0].proven, recorded[0].price, recorded[0].owed), (false, price, Amount::ZERO));
    assert_eq!(world.earned(&device).await, Amount::ZERO);
    // The proof may come later.
    device.earned = Some(verdict.clone());
    device.hello(&world).await;
    device.present(&world, &[(id, Some(verdict))]).await;
    assert!(claims(&world, &device).await[0].proven);
    assert_eq!(device.voucher(&world).await.cumulative, price);
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_at_the_backup_and_may_have_been_paid_since_is_given_out_anew() {
    let mut world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    let copy = world.store_copy().await;
    let shown = device.outcome(&world, &offer, "x").await;
    device.reveal(&world, &shown).await;
    device.verdict(&world, &offer).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    let verdict = device.verdict_frame(&world, offer.id);
    world.restore(&copy).await;
    device.begin_anew();
    // It says that it still has the work, and shows that it was paid.
    device.epoch = 1;
    device.held = vec![offer.id];
    device.earned = Some(verdict);
    let (unwanted, _) = device.hello(&world).await;
    assert_eq!(unwanted, [offer.id]);
    device.reveal(&world, &shown).await;
    assert_eq!(world.earned(&device).await, offer.price, "once");
    device.held.clear();
    let again = device.take(&world).await;
    assert_ne!(again.id, offer.id);
    let shown = device.outcome(&world, &again, "x").await;
    device.reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.earned(&device).await, offer.price.checked_mul(2).unwrap(), "it was done twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_not_offered_what_it_would_refuse_to_be_owed() {
    let world = World::with(|config| config.probation.delay_ms = 600_000).await;
    let mut device = world.device().await;
    device.limit = device.ask.minimum.checked_mul(2);
    device.hello(&world).await;
    work(&world, &mut device).await;
    work(&world, &mut device).await;
    let third = world.submit(1, 1).await;
    let reason = async {
        while !world.tasks(third).await[0].reason.contains("exposure") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::world::SOON, reason).await.expect("it is said why");
    assert!(device.offer_already(&world).is_none());
    // Vouchers make room.
    world.pass(601_000);
    device.voucher(&world).await;
    device.take(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn showing_again_what_a_voucher_names_pays_nothing_early() {
    let mut world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let (first, price, verdict) = judged(&world, &mut device).await;
    world.pass(301_000);
    assert_eq!(device.voucher(&world).await.cumulative, price);
    let copy = world.store_copy().await;
    world.restore(&copy).await;
    device.begin_anew();
    device.hello(&world).await;
    device.present(&world, &[(first, Some(verdict))]).await;
    assert!(claims(&world, &device).await.is_empty(), "the device holds the voucher that names it");
    world.pass(200_000);
    judged(&world, &mut device).await;
    // As old as a claim would be by now; the work is not.
    world.pass(101_000);
    no_voucher(&world, &mut device).await;
    world.pass(200_000);
    assert_eq!(device.voucher(&world).await.cumulative, price.checked_mul(2).unwrap());
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_a_lost_voucher_named_are_not_named_again() {
    let mut world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let copy = world.store_copy().await;
    let (first, price, verdict) = judged(&world, &mut device).await;
    world.restore(&copy).await;
    device.begin_anew();
    device.earned = Some(verdict.clone());
    device.hello(&world).await;
    device.present(&world, &[(first, Some(verdict.clone()))]).await;
    // A second backup, which knows the claim and not the voucher that names it.
    std::fs::remove_file(&copy).unwrap();
    let copy = world.store_copy().await;
    world.pass(301_000);
    assert_eq!(device.voucher(&world).await.cumulative, price);
    world.restore(&copy).await;
    device.begin_anew();
    device.hello(&world).await;
    let (second, ..) = judged(&world, &mut device).await;
    world.pass(301_000);
    let (statement, covers) = device
        .told(&world, |told| match told {
            Told::Issue(statement, covers) => Some((*statement, covers.clone())),
            _ => None,
        })
        .await;
    assert_eq!((statement.cumulative, covers), (price.checked_mul(2).unwrap(), vec![second]));
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_lost_voucher_did_not_name_is_named_once_it_is_shown_again() {
    let mut world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let copy = world.store_copy().await;
    let (first, price, first_verdict) = judged(&world, &mut device).await;
    world.pass(200_000);
    let (second, _, verdict) = judged(&world, &mut device).await;
    world.restore(&copy).await;
    device.begin_anew();
    device.earned = Some(verdict.clone());
    device.hello(&world).await;
    device.present(&world, &[(first, Some(first_verdict))]).await;
    world.pass(200_000);
    device.present(&world, &[(second, Some(verdict.clone()))]).await;
    std::fs::remove_file(&copy).unwrap();
    let copy = world.store_copy().await;
    world.pass(101_000);
    assert_eq!(device.voucher(&world).await.cumulative, price, "the first one only");
    world.restore(&copy).await;
    device.begin_anew();
    device.hello(&world).await;
    device.present(&world, &[(second, Some(verdict))]).await;
    world.pass(301_000);
    // Its root is over the second alone.
    assert_eq!(device.voucher(&world).await.cumulative, price.checked_mul(2).unwrap());
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_books_with_claims() {
    let mut world = World::new().await;
    let mut device = world.device().await;
    let copy = world.store_copy().await;
    let (proven, price, verdict) = judged(&world, &mut device).await;
    world.restore(&copy).await;
    device.begin_anew();
    device.earned = Some(verdict.clone());
    device.hello(&world).await;
    let made: Vec<_> =
        device.sign_receipts(&world, MAX_SHOWN + 20).into_iter().map(|id| (id, None)).collect();
    for some in made.chunks(MAX_PRESENTED) {
        device.present(&world, some).await;
    }
    assert_eq!(claims(&world, &device).await.len(), MAX_SHOWN);
    // What is proven is taken all the same, and what is known already does no harm.
    device.present(&world, &[made[0].clone(), (proven, Some(verdict))]).await;
    assert_eq!(claims(&world, &device).await.len(), MAX_SHOWN + 1);
    assert_eq!(device.voucher(&world).await.cumulative, price);
}

/// The amount of a device's latest voucher, once that is so much.
async fn until_vouchered(world: &World, device: &Device, amount: Amount) {
    let address = device.address();
    let latest = async || {
        let latest =
            world.read(move |tx| Box::pin(async move { Ok(tx.latest_voucher(&address).await?) })).await;
        latest.map(|voucher| voucher.statement.cumulative).unwrap_or_default()
    };
    let made = async {
        while latest().await != amount {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::world::SOON, made).await.expect("a voucher is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_away_is_owed_its_voucher_and_gets_it_when_it_comes() {
    let world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let price = work(&world, &mut device).await;
    world.intake.disconnected(device.address(), Departure::Left).await;
    world.pass(301_000);
    until_vouchered(&world, &device, price).await;
    device.forget(&world);
    device.hello(&world).await;
    device.begin_anew();
    assert_eq!(device.voucher(&world).await.cumulative, price);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_devices_money_comes_into_a_voucher_even_after_a_restoration() {
    let mut world = World::with(|config| config.probation.delay_ms = 300_000).await;
    let mut device = world.device().await;
    let price = work(&world, &mut device).await;
    world.intake.disconnected(device.address(), Departure::Dismissed).await;
    admin::revoke(&world.hub, device.address(), None).await.unwrap();
    let copy = world.store_copy().await;
    world.pass(301_000);
    until_vouchered(&world, &device, price).await;
    // It can never greet again, so nobody waits for that.
    world.restore(&copy).await;
    until_vouchered(&world, &device, price).await;
    world.check_books().await;
}
