//! Devices that do not answer, refuse, fail, or come back late.

use sosna_protocol::{
    Amount,
    message::{beat::Phase, result::Judgement, work::Reason},
    resources::{Arch, Class},
    result::Cause,
};
use sosna_store::{AssignmentState, JobState};

use crate::{
    device::{Device, Told, offers},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_goes_to_another_and_the_late_result_counts_if_it_is_first() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 1).await;
    let (slow, offer) = offers(&world, &mut devices, 1).await[0];
    devices[slow].accept(&world, &offer).await;
    world.pass(61_000);
    let (other, again) = offers(&world, &mut devices, 1).await[0];
    assert_ne!(slow, other);
    devices[other].accept(&world, &again).await;
    // The hub says nothing about it: it may still count.
    devices[slow].beat(&world, &[offer.id]).await;
    let shown = devices[slow].outcome(&world, &offer, "late, but first").await;
    devices[slow].reveal(&world, &shown).await;
    assert_eq!(devices[slow].verdict(&world, &offer).await, (Judgement::Accepted, offer.price));
    devices[other].told(&world, |told| (*told == Told::Cancel(again.id)).then_some(())).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    let shown = devices[other].outcome(&world, &again, "late, but first").await;
    devices[other].reveal(&world, &shown).await;
    assert_eq!(world.earned(&devices[other]).await, Amount::ZERO);
    world.check_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_result_after_another_was_faster_is_late() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 1).await;
    let (slow, offer) = offers(&world, &mut devices, 1).await[0];
    devices[slow].accept(&world, &offer).await;
    world.pass(61_000);
    let (other, again) = offers(&world, &mut devices, 1).await[0];
    devices[other].accept(&world, &again).await;
    let shown = devices[other].outcome(&world, &again, "x").await;
    devices[other].reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    let shown = devices[slow].outcome(&world, &offer, "x").await;
    devices[slow].reveal(&world, &shown).await;
    assert_eq!(devices[slow].verdict(&world, &offer).await, (Judgement::Late, Amount::ZERO));
    assert_eq!(world.stored(&devices[slow]).await.invalid, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_keep_a_lease_and_tell_what_is_lost() {
    let world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    for _ in 0..3 {
        world.pass(40_000);
        let unknown = sosna_protocol::identity::AssignmentId([77; 16]);
        device.beat(&world, &[offer.id, unknown]).await;
        let (leases, lost) = device
            .told(&world, |told| match told {
                Told::Renewed { leases, lost } => Some((leases.clone(), lost.clone())),
                _ => None,
            })
            .await;
        assert_eq!((leases, lost), (vec![offer.id], vec![unknown]));
    }
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(world.assignments(job).await[0].state, AssignmentState::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_says_that_it_goes_on_loses_the_task() {
    // The task has a minute, and there may be another beside it.
    let world = World::with(|config| config.times.beside_ms = 60_000).await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 1).await;
    let (idle, offer) = offers(&world, &mut devices, 1).await[0];
    devices[idle].accept(&world, &offer).await;
    for _ in 0..3 {
        world.pass(39_000);
        devices[idle].beat(&world, &[offer.id]).await;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        assert_eq!(world.assignments(job).await[0].state, AssignmentState::Accepted);
    }
    world.pass(4_000);
    let (other, again) = offers(&world, &mut devices, 1).await[0];
    assert_ne!(idle, other);
    let lapsed = &world.assignments(job).await[0];
    assert_eq!(lapsed.state, AssignmentState::Expired);
    assert!(lapsed.explanation.contains("in the task's time"), "{}", lapsed.explanation);
    assert_eq!(world.stored(&devices[idle]).await.failed, 1);
    // More of the same changes nothing, and nobody tells it to drop what may still count.
    devices[idle].beat(&world, &[offer.id]).await;
    devices[other].accept(&world, &again).await;
    let shown = devices[idle].outcome(&world, &offer, "late, but first").await;
    devices[idle].reveal(&world, &shown).await;
    assert_eq!(devices[idle].verdict(&world, &offer).await, (Judgement::Accepted, offer.price));
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    world.check_books().await;
}

/// Nor does it help never to have said yes.
#[tokio::test(flavor = "multi_thread")]
async fn who_neither_accepts_nor_refuses_and_says_that_it_goes_on_loses_the_task() {
    let world = World::with(|config| config.times.beside_ms = 60_000).await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 1).await;
    let (idle, offer) = offers(&world, &mut devices, 1).await[0];
    let (other, mut rounds) = (1 - idle, 0);
    while devices[other].offer_already(&world).is_none() {
        rounds += 1;
        assert!(rounds <= 10, "it holds the task for longer than the task may take");
        world.pass(15_000);
        devices[idle].beat(&world, &[offer.id]).await;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    }
    let lapsed = world.assignments(job).await;
    assert!(
        lapsed.iter().any(|one| one.id == offer.id && one.state == AssignmentState::Expired),
        "{lapsed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_offer_is_taken_back_and_made_again() {
    let world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.offer(&world).await;
    world.pass(21_000);
    device.told(&world, |told| (*told == Told::Cancel(offer.id)).then_some(())).await;
    // Too late to accept; but nobody else is here, so it is asked again.
    device.begin_anew();
    let again = loop {
        let next = device.offer(&world).await;
        if next.id != offer.id {
            break next;
        }
    };
    device.accept(&world, &offer).await;
    device.accept(&world, &again).await;
    let shown = device.outcome(&world, &again, "x").await;
    device.reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    assert_eq!(world.tasks(job).await[0].attempts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_is_asked_again_later_and_never_fails_the_task() {
    let world = World::with(|config| config.limits.attempts = 2).await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    for _ in 0..4 {
        let offer = device.offer(&world).await;
        device.refuse(&world, &offer, Reason::NoRoom).await;
    }
    let offer = device.take(&world).await;
    assert_eq!(world.tasks(job).await[0].attempts, 0);
    let shown = device.outcome(&world, &offer, "x").await;
    device.reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_waits_before_the_device_is_asked_again() {
    let world = World::with(|config| config.times.ask_again_ms = 30_000).await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.offer(&world).await;
    device.refuse(&world, &offer, Reason::Exposure).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(device.offer_already(&world).is_none());
    assert!(world.tasks(job).await[0].reason.contains("tried"));
    world.pass(31_000);
    device.take(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_can_never_do_it_is_not_asked_again() {
    let world = World::new().await;
    let mut devices = world.devices(1).await;
    let job = world.submit(1, 1).await;
    let (_, offer) = offers(&world, &mut devices, 1).await[0];
    devices[0].refuse(&world, &offer, Reason::Unsupported).await;
    world.pass(100_000);
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert!(devices[0].offer_already(&world).is_none());
    assert!(world.tasks(job).await[0].class.is_none(), "the next one may be of another class");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_come_to_nothing_end_the_task() {
    let world = World::with(|config| config.limits.attempts = 3).await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    for _ in 0..3 {
        let offer = device.take(&world).await;
        device.fail(&world, &offer).await;
    }
    assert_eq!(world.ended(job).await, JobState::Failed);
    let task = world.tasks(job).await.remove(0);
    assert!(task.attempts == 3 && task.reason.contains("broken"), "{task:?}");
    assert_eq!(world.earned(&device).await, Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_nobody_can_do_takes_nobodys_good_name() {
    let world = World::with(|config| config.limits.attempts = 4).await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    for cause in [Cause::NoImage, Cause::NoInput, Cause::NoImage] {
        let offer = device.take(&world).await;
        device.fail_by(&world, &offer, cause).await;
    }
    // This one is the device's own, whatever becomes of the task.
    let offer = device.take(&world).await;
    device.fail(&world, &offer).await;
    assert_eq!(world.ended(job).await, JobState::Failed);
    assert!(world.tasks(job).await[0].reason.contains("broken"));
    assert_eq!(world.stored(&device).await.failed, 1);
}

/// One of two devices could not have the image, the other does the task; what comes between is for the test to say.
async fn one_cannot_the_other_can(between: impl AsyncFnOnce(&World, &mut Device)) -> (World, Device, Device) {
    let world = World::with(|config| config.times.ask_again_ms = 3_600_000).await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 1).await;
    let (first, offer) = offers(&world, &mut devices, 1).await[0];
    devices[first].accept(&world, &offer).await;
    devices[first].fail_by(&world, &offer, Cause::NoImage).await;
    world.until(job, |all| all.iter().any(|one| one.state == AssignmentState::Failed)).await;
    assert_eq!(world.stored(&devices[first]).await.failed, 0, "nobody knows yet whose fault it is");
    between(&world, &mut devices[first]).await;
    let (second, offer) = offers(&world, &mut devices, 1).await[0];
    assert_ne!(first, second);
    let shown = devices[second].outcome(&world, &offer, "x").await;
    devices[second].reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
    let second = devices.remove(second);
    (world, devices.remove(0), second)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_could_not_have_and_another_could_is_the_ones_fault() {
    let score = |world: &World, device: &Device| {
        world.hub.fleet().get(&device.address()).unwrap().score_in("no such class")
    };
    let mut before = 0;
    let (world, first, second) =
        one_cannot_the_other_can(async |world, device| before = score(world, device)).await;
    assert_eq!((world.stored(&first).await.failed, world.stored(&second).await.failed), (1, 0));
    assert!(score(&world, &first) < before, "the scheduler knows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_kind_of_device_could_have_says_nothing() {
    // For each architecture there is another image.
    let (world, first, _) = one_cannot_the_other_can(async |world, device| {
        device.class = Class { arch: Arch::Aarch64, level: 8 };
        device.hello(world).await;
    })
    .await;
    assert_eq!(world.stored(&first).await.failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_bound_to_a_result_had_all_it_needed() {
    let world = World::new().await;
    let mut devices = world.devices(2).await;
    let job = world.submit(1, 2).await;
    let first = offers(&world, &mut devices, 2).await;
    let (place, offer) = first[0];
    devices[place].accept(&world, &offer).await;
    devices[place].commit(&world, &offer, "x").await;
    devices[place].fail_by(&world, &offer, Cause::NoImage).await;
    world.until(job, |all| all.iter().any(|one| one.state == AssignmentState::Failed)).await;
    assert_eq!(world.stored(&devices[place]).await.failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_comes_too_slowly_takes_nobodys_good_name() {
    let world = World::with(|config| config.times.beside_ms = 60_000).await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    for _ in 0..3 {
        world.pass(39_000);
        device.beat_in(&world, &[offer.id], Phase::Fetching).await;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    }
    world.pass(4_000);
    world.until(job, |all| all[0].state == AssignmentState::Expired).await;
    let lapsed = &world.assignments(job).await[0];
    assert!(lapsed.explanation.contains("all of the image"), "{}", lapsed.explanation);
    assert_eq!(world.stored(&device).await.failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_lost_its_data_begins_anew() {
    let world = World::new().await;
    let mut device = world.device().await;
    let job = world.submit(1, 1).await;
    let offer = device.take(&world).await;
    world.pass(61_000);
    world.until(job, |all| all[0].state == AssignmentState::Expired).await;
    device.held.clear();
    device.hello(&world).await;
    let again = device.take(&world).await;
    assert_ne!(again.id, offer.id);
    let shown = device.outcome(&world, &again, "x").await;
    device.reveal(&world, &shown).await;
    assert_eq!(world.ended(job).await, JobState::Succeeded);
}
