//! Devices on probation: their single results are checked at the operator's expense, within a budget.

use sosna_hub::{Hub, admin};
use sosna_protocol::{Amount, message::result::Judgement};
use sosna_store::{Account, AssignmentState, DeviceState, JobState};

use crate::{
    device::{Device, Offer, Told, offers},
    world::World,
};

const DAY_MS: u64 = 86_400_000;

fn snm(text: &str) -> Amount {
    text.parse().unwrap()
}

async fn world(budget: &str) -> World {
    let budget = snm(budget);
    World::with(|config| {
        config.probation.check_budget = budget.into();
        config.probation.results = 3;
    })
    .await
}

/// A device that the operator knows, and that asks twice as much: a new one is chosen before it.
async fn established(world: &World) -> Device {
    let mut device = world.device().await;
    admin::approve(&world.hub, device.address()).await.unwrap();
    device.ask.minimum = snm("0.02");
    device.hello(world).await;
    device
}

/// What the operator has spent or set aside today.
async fn expense(world: &World) -> Amount {
    let day = Account::Verification(world.hub.now_ms() / DAY_MS);
    world.read(move |tx| Box::pin(async move { Ok(tx.debt(&day).await?) })).await
}

async fn spent(hub: &World, job: sosna_protocol::identity::JobId) -> Amount {
    hub.job(job).await.spent
}

/// Both devices take their offers and say the same.
async fn agree(world: &World, devices: &mut [Device], both: &[(usize, Offer)]) {
    let mut shown = Vec::new();
    for (place, offer) in both {
        assert!(offer.commits, "results are compared");
        devices[*place].accept(world, offer).await;
        shown.push(devices[*place].commit(world, offer, "the same").await);
    }
    for ((place, offer), shown) in both.iter().zip(&shown) {
        devices[*place].held.push(offer.id);
        devices[*place].reveal_when_closed(world, shown).await;
    }
    for (place, offer) in both {
        assert_eq!(devices[*place].verdict(world, offer).await, (Judgement::Accepted, offer.price));
        devices[*place].held.retain(|held| *held != offer.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_checked_and_the_operator_pays_for_it() {
    let world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await];
    for round in 1..=3_u64 {
        let job = world.submit(1, 1).await;
        let both = offers(&world, &mut devices, 2).await;
        assert_eq!(world.tasks(job).await[0].check.unwrap().day, world.hub.now_ms() / DAY_MS);
        assert_eq!(
            expense(&world).await,
            snm("0.01").checked_mul(u128::from(round) - 1).unwrap().checked_add(snm("0.02")).unwrap(),
            "the dearer replica is set aside"
        );
        agree(&world, &mut devices, &both).await;
        assert_eq!(world.ended(job).await, JobState::Succeeded);
        assert_eq!(spent(&world, job).await, snm("0.02"), "the buyer pays one result, the established one's");
        assert_eq!(expense(&world).await, snm("0.01").checked_mul(u128::from(round)).unwrap());
        let stored = world.stored(&devices[0]).await;
        assert_eq!((stored.valid, stored.consecutive), (round, round));
        let lifted = round == 3;
        assert_eq!(stored.state == DeviceState::Trusted, lifted, "{stored:?}");
    }
    assert_eq!(world.earned(&devices[0]).await, snm("0.03"));
    assert_eq!(world.earned(&devices[1]).await, snm("0.06"));
    // It is believed now.
    let job = world.submit(1, 1).await;
    let (place, offer) = offers(&world, &mut devices, 1).await[0];
    assert!(!offer.commits);
    devices[place].accept(&world, &offer).await;
    let shown = devices[place].outcome(&world, &offer, "alone").await;
    devices[place].reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(expense(&world).await, snm("0.03"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_paid_twice_whatever_comes_again_and_a_crash_changes_nothing() {
    let mut world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await];
    let job = world.submit(1, 1).await;
    let both = offers(&world, &mut devices, 2).await;
    let mut frames = Vec::new();
    let mut shown = Vec::new();
    for (place, offer) in &both {
        let device = &mut devices[*place];
        device.accept(&world, offer).await;
        let reveal = device.outcome(&world, offer, "x").await;
        let commit = device.commitment(&world, &reveal);
        frames.push((*place, device.say(&world, &commit).await));
        shown.push(reveal);
    }
    world.restart().await;
    for ((place, _), shown) in both.iter().zip(&shown) {
        let device = &mut devices[*place];
        device.begin_anew();
        device.hello(&world).await;
        frames.push((*place, device.say(&world, shown).await));
    }
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    for (place, frame) in frames.iter().chain(&frames) {
        devices[*place].give(&world, sosna_protocol::topic::Kind::Result, frame).await.unwrap();
    }
    world.restart().await;
    assert_eq!(world.earned(&devices[0]).await, snm("0.01"));
    assert_eq!(world.earned(&devices[1]).await, snm("0.02"));
    assert_eq!((expense(&world).await, spent(&world, job).await), (snm("0.01"), snm("0.02")));
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_budget_a_task_runs_as_its_buyer_asked_and_does_not_count() {
    // Enough for one check at a time, and after its end for none.
    let world = world("0.025").await;
    let mut devices = vec![world.device().await, established(&world).await];
    let first = world.submit(1, 1).await;
    let both = offers(&world, &mut devices, 2).await;
    let second = world.submit(1, 1).await;
    let (place, alone) = offers(&world, &mut devices, 1).await[0];
    assert!(place == 0 && !alone.commits, "the budget is set aside for the first");
    assert!(expense(&world).await <= snm("0.025"));
    devices[0].accept(&world, &alone).await;
    let shown = devices[0].outcome(&world, &alone, "alone").await;
    devices[0].reveal(&world, &shown).await;
    assert_eq!(world.ended(second).await, JobState::Succeeded);
    let stored = world.stored(&devices[0]).await;
    assert_eq!((stored.valid, stored.consecutive), (1, 0), "nobody confirmed it");
    agree(&world, &mut devices, &both).await;
    assert_eq!(world.ended(first).await, JobState::Succeeded);
    assert_eq!(expense(&world).await, snm("0.01"));

    let third = world.submit(1, 1).await;
    let (_, offer) = offers(&world, &mut devices, 1).await[0];
    assert!(!offer.commits, "the established one costs more than is left");
    world.hub.cancel(third).await.unwrap();
    assert_eq!(world.ended(third).await, JobState::Cancelled);
    // The next day there is a new budget.
    world.pass(DAY_MS);
    for device in &mut devices {
        device.forget(&world);
        device.held.clear();
        device.hello(&world).await;
    }
    let fourth = world.submit(1, 1).await;
    assert!(offers(&world, &mut devices, 2).await.iter().all(|(_, offer)| offer.commits));
    world.hub.cancel(fourth).await.unwrap();
    assert_eq!(world.ended(fourth).await, JobState::Cancelled);
    assert_eq!(expense(&world).await, Amount::ZERO, "what a cancelled task had set aside is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_finds_out_who_lies() {
    let world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await, established(&world).await];
    let job = world.submit(1, 1).await;
    let both = offers(&world, &mut devices, 2).await;
    let mut shown = Vec::new();
    for (place, offer) in &both {
        devices[*place].accept(&world, offer).await;
        let said = if *place == 0 { "a lie" } else { "the truth" };
        shown.push(devices[*place].commit(&world, offer, said).await);
    }
    for ((place, _), shown) in both.iter().zip(&shown) {
        devices[*place].reveal_when_closed(&world, shown).await;
    }
    let (third, offer) = offers(&world, &mut devices, 1).await[0];
    devices[third].accept(&world, &offer).await;
    let last = devices[third].commit(&world, &offer, "the truth").await;
    devices[third].reveal_when_closed(&world, &last).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.earned(&devices[0]).await, Amount::ZERO);
    assert_eq!(world.earned(&devices[1]).await, snm("0.02"));
    assert_eq!(world.earned(&devices[2]).await, snm("0.02"));
    assert_eq!((spent(&world, job).await, expense(&world).await), (snm("0.02"), snm("0.02")));
    let liar = world.stored(&devices[0]).await;
    assert_eq!((liar.invalid, liar.valid, liar.state), (1, 0, DeviceState::Probation));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_third_the_established_ones_result_counts() {
    let world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await];
    let job = world.submit(1, 1).await;
    let both = offers(&world, &mut devices, 2).await;
    let mut shown = Vec::new();
    for (place, offer) in &both {
        devices[*place].accept(&world, offer).await;
        shown.push(devices[*place].commit(&world, offer, &format!("{place}")).await);
    }
    for ((place, _), shown) in both.iter().zip(&shown) {
        devices[*place].reveal_when_closed(&world, shown).await;
    }
    world.until(job, |all| all.iter().all(|one| one.state == AssignmentState::Revealed)).await;
    world.pass(21_000);
    assert_eq!(world.ended(job).await, JobState::Succeeded, "the buyer asked for one result");
    let by_established =
        world.assignments(job).await.into_iter().find(|one| one.judgement == Some(Judgement::Accepted));
    assert_eq!(by_established.unwrap().device, devices[1].address());
    assert_eq!(world.earned(&devices[0]).await, Amount::ZERO);
    assert_eq!(world.stored(&devices[0]).await.invalid, 0, "nobody knows who was right");
    assert_eq!(world.stored(&devices[1]).await.consecutive, 0);
    assert_eq!((spent(&world, job).await, expense(&world).await), (snm("0.02"), Amount::ZERO));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checker_that_is_gone_holds_nobody_up() {
    let world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await];
    let job = world.submit(1, 1).await;
    let both = offers(&world, &mut devices, 2).await;
    let mine = both.iter().find(|(place, _)| *place == 0).unwrap().1;
    devices[0].accept(&world, &mine).await;
    let shown = devices[0].commit(&world, &mine, "x").await;
    // Never answered, and not asked again for long.
    admin::drain(&world.hub, devices[1].address(), true).await.unwrap();
    world.pass(21_000);
    devices[0].reveal_when_closed(&world, &shown).await;
    assert_eq!(devices[0].verdict(&world, &mine).await, (Judgement::Accepted, mine.price));
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!((spent(&world, job).await, expense(&world).await), (snm("0.01"), Amount::ZERO));
    let stored = world.stored(&devices[0]).await;
    assert_eq!((stored.valid, stored.consecutive), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_hub_works_with_one_new_device_and_strangers_check_nobody() {
    let world = world("1").await;
    let mut devices = Vec::new();
    for _ in 0..2 {
        devices.push(world.stranger(&sosna_host::identity::IdentityKey::generate()).await);
    }
    for _ in 0..4 {
        let job = world.submit(1, 1).await;
        let (place, offer) = offers(&world, &mut devices, 1).await[0];
        assert!(!offer.commits);
        devices[place].accept(&world, &offer).await;
        let shown = devices[place].outcome(&world, &offer, "x").await;
        devices[place].reveal(&world, &shown).await;
        assert_eq!(world.ended(job).await, JobState::Succeeded);
        devices[place]
            .told(&world, |told| matches!(told, Told::Verdict(id, ..) if *id == offer.id).then_some(()))
            .await;
    }
    for device in &devices {
        let stored = world.stored(device).await;
        assert_eq!((stored.state, stored.consecutive), (DeviceState::Probation, 0));
    }
    assert_eq!(expense(&world).await, Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_wrong_with_an_image_is_checked_with_that_image_only() {
    let world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await];
    admin::approve(&world.hub, devices[0].address()).await.unwrap();
    let class = {
        let job = world.submit(1, 1).await;
        let class = world.job(job).await.image_class;
        world.hub.cancel(job).await.unwrap();
        class
    };
    assert!(class.starts_with("sha256:"), "{class}");
    count_wrong(&world.hub, &devices[0], &class).await;
    admin::approve(&world.hub, devices[0].address()).await.unwrap();
    let live = world.hub.fleet().get(&devices[0].address()).unwrap().clone();
    assert!(live.wants_check(&class, 3) && !live.wants_check("registry.test/other", 3));
    assert!(live.score_in(&class) < live.score_in("registry.test/other"));
    devices.iter_mut().for_each(|device| device.forget(&world));
    devices[0].ask.minimum = snm("0.001");
    devices[0].hello(&world).await;
    let job = world.submit(1, 1).await;
    assert_eq!(offers(&world, &mut devices, 2).await.len(), 2);
    world.hub.cancel(job).await.unwrap();
    assert_eq!(world.ended(job).await, JobState::Cancelled);
}

async fn count_wrong(hub: &std::sync::Arc<Hub>, device: &Device, class: &str) {
    let (address, class) = (device.address(), class.to_owned());
    let record = hub
        .store
        .write({
            let class = class.clone();
            move |tx| {
                Box::pin(async move {
                    tx.count_invalid(&address, &class).await?;
                    Ok::<_, sosna_store::StoreError>(tx.record(&address, &class).await?.unwrap())
                })
            }
        })
        .await
        .unwrap();
    hub.perform(vec![sosna_hub::hub::Effect::Record(address, class, record)]).await;
}

/// Two of three found the same, but no check was open any more: nobody else is paid for what one was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn who_found_the_same_after_the_check_was_given_up_is_surplus() {
    let world = world("1").await;
    let mut devices = vec![world.device().await, established(&world).await, established(&world).await];
    let job = world.submit(1, 1).await;
    let both = offers(&world, &mut devices, 2).await;
    let (mut shown, mut liar) = (Vec::new(), 0);
    for (place, offer) in &both {
        devices[*place].accept(&world, offer).await;
        // The established one, of which the operator finds out more.
        let said = if *place == 0 { "the truth" } else { "a lie" };
        liar = liar.max(*place);
        shown.push(devices[*place].commit(&world, offer, said).await);
    }
    for ((place, _), shown) in both.iter().zip(&shown) {
        devices[*place].reveal_when_closed(&world, shown).await;
    }
    let (third, offer) = offers(&world, &mut devices, 1).await[0];
    devices[third].accept(&world, &offer).await;
    admin::revoke(&world.hub, devices[liar].address(), None).await.unwrap();
    let last = devices[third].commit(&world, &offer, "the truth").await;
    // There is nobody for another one.
    world.pass(21_000);
    devices[third].reveal_when_closed(&world, &last).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    let assignments = world.assignments(job).await;
    let of = |place: usize| {
        let device: &Device = &devices[place];
        assignments.iter().find(|one| one.device == device.address()).unwrap().judgement
    };
    assert_eq!((of(third), of(0)), (Some(Judgement::Accepted), Some(Judgement::Surplus)));
    assert_eq!(world.earned(&devices[0]).await, Amount::ZERO);
    assert_eq!(world.earned(&devices[third]).await, snm("0.02"));
    assert_eq!((spent(&world, job).await, expense(&world).await), (snm("0.02"), Amount::ZERO));
}
