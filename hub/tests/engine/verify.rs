//! From offer to verdict: who is paid, who is not, and who is told what.

use sosna_protocol::{Amount, Hash, message::result::Judgement};
use sosna_store::{AssignmentState, JobState, TaskState};

use crate::{
    device::{Told, offers},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_device_alone_is_offered_shows_is_paid_and_holds_its_voucher() {
    let world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    assert!(!offer.commits);
    assert!(world.balance(sosna_store::Account::Job(job)).await > Amount::ZERO);
    let shown = device.outcome(&world, &offer, "done").await;
    device.reveal(&world, &shown).await;
    assert_eq!(device.verdict(&world, &offer).await, (Judgement::Accepted, offer.price));
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.earned(&device).await, offer.price);
    let voucher = device.voucher(&world).await;
    assert_eq!(voucher.cumulative, offer.price);
    let address = device.address();
    let unheld = world.read(move |tx| Box::pin(async move { Ok(tx.unheld_vouchers(&address).await?) })).await;
    assert!(unheld.is_empty(), "the hub knows that the device has it");
    assert_eq!(world.stored(&device).await.valid, 1);
    assert_eq!(world.hub.fleet().get(&address).unwrap().open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_liar_is_outvoted_unpaid_and_remembered() {
    let world = World::new().await;
    let mut devices = world.devices(3).await;
    let job = world.submit(1, 2).await;
    let first = offers(&world, &mut devices, 2).await;
    let mut shown = Vec::new();
    for (turn, (place, offer)) in first.iter().enumerate() {
        let device = &mut devices[*place];
        device.accept(&world, offer).await;
        shown.push(device.commit(&world, offer, if turn == 0 { "a lie" } else { "the truth" }).await);
    }
    for ((place, _), shown) in first.iter().zip(&shown) {
        devices[*place].reveal_when_closed(&world, shown).await;
    }
    let (third, offer) = offers(&world, &mut devices, 1).await[0];
    assert!(first.iter().all(|(place, _)| *place != third));
    devices[third].accept(&world, &offer).await;
    let last = devices[third].commit(&world, &offer, "the truth").await;
    devices[third].reveal_when_closed(&world, &last).await;

    let (liar, honest) = (first[0].0, first[1].0);
    assert_eq!(devices[liar].verdict(&world, &first[0].1).await, (Judgement::Wrong, Amount::ZERO));
    assert_eq!(devices[honest].verdict(&world, &first[1].1).await, (Judgement::Accepted, offer.price));
    assert_eq!(devices[third].verdict(&world, &offer).await, (Judgement::Accepted, offer.price));
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.earned(&devices[liar]).await, Amount::ZERO);
    assert_eq!(world.earned(&devices[third]).await, offer.price);
    let (bad, good) = (world.stored(&devices[liar]).await, world.stored(&devices[honest]).await);
    assert_eq!((bad.invalid, bad.valid, good.invalid, good.valid), (1, 0, 0, 1));
    let fleet = world.hub.fleet();
    let score = |place: usize| fleet.get(&devices[place].address()).unwrap().score();
    assert!(score(liar) < score(honest));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_that_never_agree_end_the_task_and_nobody_is_paid() {
    let world = World::new().await;
    let mut devices = world.devices(5).await;
    let job = world.submit(1, 2).await;
    let mut all = Vec::new();
    for count in [2, 1, 2] {
        let round = offers(&world, &mut devices, count).await;
        let mut shown = Vec::new();
        for (place, offer) in &round {
            devices[*place].accept(&world, offer).await;
            shown.push(devices[*place].commit(&world, offer, &format!("answer {place}")).await);
        }
        for ((place, _), shown) in round.iter().zip(&shown) {
            devices[*place].reveal_when_closed(&world, shown).await;
        }
        all.extend(round);
    }
    assert_eq!(world.ended(job).await, JobState::Failed);
    for (place, offer) in all {
        assert_eq!(devices[place].verdict(&world, &offer).await, (Judgement::Void, Amount::ZERO));
        assert_eq!(world.earned(&devices[place]).await, Amount::ZERO);
        assert_eq!(world.stored(&devices[place]).await.invalid, 0, "nobody knows who was right");
    }
    assert_eq!(world.tasks(job).await[0].state, TaskState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn showing_before_the_close_ends_the_assignment_unpaid() {
    let world = World::new().await;
    let mut devices = world.devices(3).await;
    let job = world.submit(1, 2).await;
    let first = offers(&world, &mut devices, 2).await;
    let (hasty, other) = (first[0].0, first[1].0);
    for (place, offer) in &first {
        devices[*place].accept(&world, offer).await;
    }
    let shown = devices[hasty].commit(&world, &first[0].1, "x").await;
    devices[hasty].reveal(&world, &shown).await;
    world.until(job, |all| all.iter().any(|one| one.state == AssignmentState::Failed)).await;
    assert_eq!(devices[hasty].verdict(&world, &first[0].1).await, (Judgement::Void, Amount::ZERO));
    // It is over for that one: the third takes its place.
    let (third, offer) = offers(&world, &mut devices, 1).await[0];
    assert!(third != hasty && third != other);
    devices[third].accept(&world, &offer).await;
    let (a, b) = (
        devices[other].commit(&world, &first[1].1, "x").await,
        devices[third].commit(&world, &offer, "x").await,
    );
    devices[other].reveal_when_closed(&world, &a).await;
    devices[third].reveal_when_closed(&world, &b).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.earned(&devices[hasty]).await, Amount::ZERO);
    assert_eq!(world.earned(&devices[third]).await, offer.price);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_to_or_is_not_there_is_no_result() {
    let world = World::new().await;
    let mut devices = world.devices(4).await;
    let job = world.submit(1, 2).await;
    let first = offers(&world, &mut devices, 2).await;
    let mut shown = Vec::new();
    for (place, offer) in &first {
        devices[*place].accept(&world, offer).await;
        shown.push(devices[*place].commit(&world, offer, "agreed").await);
    }
    // One shows something else than it had committed to, the other a manifest that it never uploaded.
    let other = devices[first[0].0].outcome(&world, &first[0].1, "changed my mind").await;
    devices[first[0].0].reveal_when_closed(&world, &other).await;
    assert_eq!(devices[first[0].0].verdict(&world, &first[0].1).await, (Judgement::Void, Amount::ZERO));
    let mut missing = shown[1];
    missing.manifest = Hash([99; 32]);
    devices[first[1].0].reveal_when_closed(&world, &missing).await;
    devices[first[1].0].asked_again(&world, &first[1].1).await;
    let explanations: Vec<_> = world.assignments(job).await.into_iter().map(|one| one.explanation).collect();
    assert!(explanations.iter().any(|why| why.contains("committed to")), "{explanations:?}");
    // It has its time to bring it, and no more.
    world.pass(301_000);
    let verdict = devices[first[1].0].verdict(&world, &first[1].1).await;
    assert_eq!(verdict, (Judgement::NotRevealed, Amount::ZERO));

    let second = offers(&world, &mut devices, 2).await;
    assert!(second.iter().all(|(place, _)| first.iter().all(|(before, _)| before != place)));
    for (place, offer) in &second {
        devices[*place].accept(&world, offer).await;
        shown.push(devices[*place].commit(&world, offer, "agreed").await);
    }
    for ((place, _), shown) in second.iter().zip(&shown[2..]) {
        devices[*place].reveal_when_closed(&world, shown).await;
    }
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.earned(&devices[first[0].0]).await, Amount::ZERO);
}

/// A hash is no key for devices either: with a buyer on its side, a device could else read whatever it has the name of.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_a_device_has_not_sent_is_no_result_of_its() {
    let world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    // All of it is in the hub's store, from others.
    let (shown, sent) = device.outcome_unsent(&world, &offer, "somebody's secret");
    device.reveal(&world, &shown).await;
    device.asked_again(&world, &offer).await;
    let secret = sosna_protocol::hash::sha256(b"somebody's secret");
    assert!(
        !world.read(move |tx| Box::pin(async move { Ok(tx.buyer_may_read("buyer", &secret).await?) })).await
    );
    device.bring(&world, &offer, &sent[..2]).await;
    device.reveal(&world, &shown).await;
    device.asked_again(&world, &offer).await;
    assert_eq!(world.tasks(job).await[0].state, TaskState::Running);
}

/// Acknowledged content may be lost: by a disk, or because a backup was restored that is older. The device still has it.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_the_hub_has_lost_is_asked_for_and_then_paid() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 2).await;
    let both = offers(&world, &mut devices, 2).await;
    let mut shown = Vec::new();
    for (place, offer) in &both {
        devices[*place].accept(&world, offer).await;
        shown.push(devices[*place].commit(&world, offer, "lost and found").await);
    }
    let said = sosna_protocol::hash::sha256(b"lost and found");
    std::fs::remove_file(world.hub.content.path(&said)).unwrap();
    for ((place, offer), shown) in both.iter().zip(&shown) {
        devices[*place].reveal_when_closed(&world, shown).await;
        devices[*place].asked_again(&world, offer).await;
    }
    assert_eq!(world.tasks(job).await[0].state, TaskState::Revealing);
    // One that has not heard it shows the same when it comes back, and is asked again.
    devices[both[0].0].reveal(&world, &shown[0]).await;
    devices[both[0].0].asked_again(&world, &both[0].1).await;
    assert_eq!(world.hub.content.put(b"lost and found").unwrap(), said);
    for ((place, _), shown) in both.iter().zip(&shown) {
        devices[*place].reveal(&world, shown).await;
    }
    for (place, offer) in &both {
        assert_eq!(devices[*place].verdict(&world, offer).await, (Judgement::Accepted, offer.price));
    }
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_somebody_else_signed_is_no_result() {
    let world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    let mut shown = device.outcome(&world, &offer, "done").await;
    shown.receipt.0[5] ^= 1;
    device.reveal(&world, &shown).await;
    world.until(job, |all| all.iter().any(|one| one.explanation.contains("receipt"))).await;
    assert_eq!(world.earned(&device).await, Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_late_is_told_so_and_suffers_nothing() {
    let world = World::new().await;
    let mut devices = world.devices(3).await;
    let job = world.submit(1, 2).await;
    let first = offers(&world, &mut devices, 2).await;
    for (place, offer) in &first {
        devices[*place].accept(&world, offer).await;
    }
    let slow = first[0].0;
    // The lease of one runs out, the other's is renewed.
    world.pass(50_000);
    devices[first[1].0].beat(&world, &[first[1].1.id]).await;
    world.pass(20_000);
    let (third, offer) = offers(&world, &mut devices, 1).await[0];
    devices[third].accept(&world, &offer).await;
    let a = devices[first[1].0].commit(&world, &first[1].1, "x").await;
    let b = devices[third].commit(&world, &offer, "x").await;
    world
        .until(job, |all| all.iter().filter(|one| one.state == AssignmentState::Committed).count() == 2)
        .await;
    devices[slow].commit(&world, &first[0].1, "x").await;
    assert_eq!(devices[slow].verdict(&world, &first[0].1).await, (Judgement::Late, Amount::ZERO));
    devices[first[1].0].reveal_when_closed(&world, &a).await;
    devices[third].reveal_when_closed(&world, &b).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    let stored = world.stored(&devices[slow]).await;
    assert_eq!((stored.invalid, stored.valid), (0, 0));
    assert_eq!(world.earned(&devices[slow]).await, Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_commits_and_does_not_show_fails_and_the_second_time_counts_as_wrong() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    for round in 1..=2_u64 {
        let job = world.submit(1, 2).await;
        let mut both = offers(&world, &mut devices, 2).await;
        both.sort_by_key(|(place, _)| *place);
        let mut shown = Vec::new();
        for (place, offer) in &both {
            devices[*place].accept(&world, offer).await;
            shown.push(devices[*place].commit(&world, offer, "x").await);
        }
        devices[1].reveal_when_closed(&world, &shown[1]).await;
        world.pass(301_000);
        assert_eq!(devices[0].verdict(&world, &both[0].1).await, (Judgement::NotRevealed, Amount::ZERO));
        let stored = world.stored(&devices[0]).await;
        assert_eq!((stored.failed, stored.invalid), (round, round - 1));
        world.hub.cancel(job).await.unwrap();
        assert_eq!(world.ended(job).await, JobState::Cancelled);
        for device in &mut devices {
            device.forget(&world);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_midway_tells_the_devices_and_gives_everything_back() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let before = world.balance(sosna_store::Account::Buyer("buyer".to_owned())).await;
    let job = world.submit(1, 2).await;
    let first = offers(&world, &mut devices, 2).await;
    let mut shown = Vec::new();
    for (place, offer) in &first {
        devices[*place].accept(&world, offer).await;
        shown.push(devices[*place].commit(&world, offer, "x").await);
    }
    // While results are being shown.
    devices[first[0].0].reveal_when_closed(&world, &shown[0]).await;
    world.hub.cancel(job).await.unwrap();
    for (place, offer) in &first {
        devices[*place].told(&world, |told| (*told == Told::Cancel(offer.id)).then_some(())).await;
    }
    devices[first[1].0].reveal(&world, &shown[1]).await;
    world.pass(400_000);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(world.ended(job).await, JobState::Cancelled);
    assert_eq!(world.balance(sosna_store::Account::Buyer("buyer".to_owned())).await, before);
    assert!(world.assignments(job).await.iter().all(|one| one.state == AssignmentState::Cancelled));
    assert!(world.hub.fleet().devices().iter().all(|live| live.open == 0 && live.taken.cpu_millis == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_who_are_not_admitted_count_as_one() {
    let world = World::new().await;
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(world.stranger(&sosna_host::identity::IdentityKey::generate()).await);
    }
    let job = world.submit(1, 2).await;
    let (place, offer) = offers(&world, &mut devices, 1).await[0];
    devices[place].accept(&world, &offer).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(
        devices.iter_mut().all(|device| device.offer_already(&world).is_none()),
        "a second of the same owner"
    );
    let waiting = async {
        while !world.tasks(job).await[0].reason.contains("owner") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::world::SOON, waiting).await.expect("it is said why");

    // Its lease runs out and another stranger gets it; the first may not take part beside that one.
    world.pass(61_000);
    let (second, again) = offers(&world, &mut devices, 1).await[0];
    assert_ne!(second, place);
    devices[second].accept(&world, &again).await;
    devices[place].commit(&world, &offer, "x").await;
    assert_eq!(devices[place].verdict(&world, &offer).await, (Judgement::Late, Amount::ZERO));

    let mut admitted = vec![world.device().await];
    let (_, offer) = offers(&world, &mut admitted, 1).await[0];
    admitted[0].accept(&world, &offer).await;
    let a = devices[second].commit(&world, &again, "x").await;
    let b = admitted[0].commit(&world, &offer, "x").await;
    devices[second].reveal_when_closed(&world, &a).await;
    admitted[0].reveal_when_closed(&world, &b).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
}
