//! What an operator decides about devices, against devices at work: approve, drain, label, revoke.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use serde_json::Value;
use sosna_tests::books::{assert_balanced, assignments, items, states, text, units};
use sosna_tests::leaks;
use sosna_tests::opening::{Opening, TWICE, open, prepare};
use sosna_tests::world::World;

/// Longer than any of these tests.
const AN_HOUR: &str = "3600000";

/// What a job says that is submitted while no device could run it, and so none names a price.
const PRICED: &[&str] = &["--max-price", "1"];

/// What an operator does to a device; what is said about it.
#[track_caller]
fn decide(world: &World, arguments: &[&str]) -> String {
    let line: Vec<_> = ["device"].iter().chain(arguments).copied().collect();
    world.cli(&world.admin(), &line).ok().to_owned()
}

/// Waits until a job's only task has no device because of this constraint, which excludes so many.
#[track_caller]
fn until_excluded(world: &World, id: &str, constraint: &str, devices: u64) {
    world.until("the reason", || {
        let job = world.job(id);
        let excluded = &job["tasks"][0]["unplaced_reason"]["excluded"];
        let one = excluded.as_array().into_iter().flatten().find(|one| one["constraint"] == constraint);
        one.is_some_and(|one| one["devices"] == devices)
    });
}

fn assignment<'a>(job: &'a Value, id: &str) -> &'a Value {
    assignments(job).find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id} is not in {job:#}"))
}

#[test]
fn a_drained_device_finishes_and_gets_nothing_new_until_it_is_told() {
    const TEST: &str = "a_drained_device_finishes_and_gets_nothing_new_until_it_is_told";
    let Some(opening) = open(TEST, Duration::from_secs(60), &["one"]) else { return };
    let world = &opening.world;
    let address = world.address(0);
    let first = opening.submit(&[], &["sleep", "4"]);
    let _ = world.until_at_work(&[0]);

    assert!(decide(world, &["drain", &address]).contains("draining"));
    let second = opening.submit(PRICED, &["true"]);
    until_excluded(world, &second, "state", 1);
    assert_eq!(world.until_over(&first)["state"], "succeeded", "it finishes what it has");
    let waiting = world.job(&second);
    assert_eq!((text(&waiting["state"]), assignments(&waiting).count()), ("queued", 0), "{waiting:#}");
    assert_eq!(world.device(&address)["state"], "draining");

    assert!(!decide(world, &["drain", &address, "--off"]).contains("draining"));
    assert_eq!(world.until_over(&second)["state"], "succeeded");
    world.assert_books();
    opening.world.finish();
}

#[test]
fn a_label_says_where_a_job_may_run() {
    const TEST: &str = "a_label_says_where_a_job_may_run";
    let Some(opening) = open(TEST, Duration::from_secs(60), &["one", "two"]) else { return };
    let world = &opening.world;
    let address = world.address(1);
    let eu = ["--region", "eu"];
    let first = opening.submit(&[&eu[..], &["--tasks", "3"]].concat(), &["true"]);
    until_excluded(world, &first, "region", 2);

    let said = decide(world, &["label", &address, "region=eu", "room=kitchen"]);
    assert!(said.contains("region=eu") && said.contains("room=kitchen"), "{said}");
    let job = world.until_over(&first);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert!(assignments(&job).all(|one| one["device"] == address.as_str()), "{job:#}");

    decide(world, &["label", &address, "region-"]);
    let labels = &world.device(&address)["labels"];
    assert_eq!((labels["region"].is_null(), &labels["room"]), (true, &"kitchen".into()), "{labels}");
    let second = opening.submit(&eu, &["true"]);
    until_excluded(world, &second, "region", 2);
    let _ = world.cli(&opening.alice, &["cancel", &second]).ok();
    // Who asks for no region is served anywhere.
    assert_eq!(opening.run(&[], &["echo", "hi"]).ok(), "hi");
    world.assert_books();
    opening.world.finish();
}

#[test]
fn an_approved_device_is_trusted_with_more_and_paid_at_once() {
    const TEST: &str = "an_approved_device_is_trusted_with_more_and_paid_at_once";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(90)) else { return };
    world.set_hub("probation.assignments", "1");
    world.set_hub("probation.delay_ms", AN_HOUR);
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let address = world.address(0);
    let id = opening.submit(&["--tasks", "5"], &["sleep", "3"]);

    let mut most = 0;
    world.until("the first result", || {
        let device = world.device(&address);
        most = most.max(device["assignments"].as_u64().unwrap());
        units(&device["earned"]) > 0
    });
    let device = world.device(&address);
    assert_eq!((most, text(&device["state"])), (1, "probation"), "one at a time: {device:#}");
    assert_eq!(units(&device["vouchered"]), 0, "payment waits: {device:#}");

    assert!(decide(world, &["approve", &address]).contains("trusted"));
    world.until("several at a time", || world.device(&address)["assignments"].as_u64().unwrap() > 1);
    assert_eq!(world.until_over(&id)["state"], "succeeded");
    // Vouchers for everything come, though the hour is not over.
    world.assert_books();
    opening.world.finish();
}

#[test]
fn a_cloned_device_gets_nothing_until_it_is_approved() {
    const TEST: &str = "a_cloned_device_gets_nothing_until_it_is_approved";
    let Some(mut opening) = open(TEST, Duration::from_secs(150), &["one"]) else { return };
    let address = opening.world.address(0);
    opening.world.clone_agent(0);
    let world = &opening.world;
    world.until("the hub sees that there are two", || world.device(&address)["state"] == "quarantined");
    let id = opening.submit(PRICED, &["echo", "hi"]);
    until_excluded(world, &id, "state", 1);

    opening.world.bury_agent(1);
    let world = &opening.world;
    // Both may have come to wait a while before they try again.
    world.until("the one that is left", || world.device(&address)["online"] == true);
    assert_eq!(assignments(&world.job(&id)).count(), 0);
    assert!(decide(world, &["approve", &address]).contains("trusted"));
    assert_eq!(world.until_over(&id)["state"], "succeeded");
    world.assert_books();
    opening.world.finish();
}

#[test]
fn a_revoked_device_is_out_at_once_and_knows_it() {
    const TEST: &str = "a_revoked_device_is_out_at_once_and_knows_it";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    // What is accepted is not paid before the device is revoked.
    world.set_hub("probation.delay_ms", AN_HOUR);
    let mut opening = Opening::start(world, image, &["one", "two"]);
    assert_eq!(opening.run(TWICE, &["echo", "hi"]).ok(), "hi");
    let world = &opening.world;
    let id = opening.submit(&[], &["sleep", "6"]);
    let (place, container) = world.until_at_work(&[0, 1]);
    let address = world.address(place);
    let before = world.device(&address);
    assert!(units(&before["earned"]) > 0 && units(&before["vouchered"]) == 0, "{before:#}");

    assert!(decide(world, &["revoke", &address, "--reason", "sold"]).contains("revoked"));
    let revoked = Instant::now();
    world.until("the end of its session", || world.device(&address)["online"] == false);
    assert!(revoked.elapsed() < Duration::from_secs(3), "cut after {:?}", revoked.elapsed());
    let job = world.job(&id);
    let lost = assignment(&job, &container);
    assert_eq!(text(&lost["state"]), "cancelled", "{lost:#}");
    assert!(text(&lost["explanation"]).contains("sold"), "{lost:#}");

    // It asks why it is refused, is told under the hub's signature, stops what it had in hand, and ends.
    assert_eq!(opening.world.agent_ends(place), Some(4), "{}", opening.world.agent_log(place));
    let said = opening.world.agent_log(place);
    assert!(said.contains("the hub has revoked this device for good"), "{said}");
    assert_eq!(leaks::processes(&container).len(), 0, "its container is gone");
    // Neither its certificate nor a new one helps, however often it is started.
    for _ in 0..2 {
        opening.world.start_agent(place, None);
        assert_eq!(opening.world.agent_ends(place), Some(4), "{}", opening.world.agent_log(place));
    }
    let world = &opening.world;
    let done = world.cli(&world.admin(), &["device", "approve", &address]);
    assert_ne!(done.code, Some(0), "{done}");
    assert!(done.err.contains("for good"), "{done}");

    // Somebody else does its work.
    let job = world.until_over(&id);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let by: Vec<_> = assignments(&job).filter(|one| one["verdict"] == "accepted").collect();
    assert_eq!(by.len(), 1, "{job:#}");
    assert_ne!(by[0]["device"], address.as_str());
    assert_eq!(states(&job).get("cancelled"), Some(&1), "{job:#}");

    // What was accepted of it is owed as before, in the books and to the last unit.
    let after = world.device(&address);
    assert_eq!((text(&after["state"]), &after["earned"]), ("revoked", &before["earned"]), "{after:#}");
    let admin = world.admin();
    let (ledger, devices) =
        (world.ask(&admin, &["ledger", "--limit", "1000"]), world.ask(&admin, &["devices"]));
    assert_balanced(&world.jobs(), &ledger, &devices);
    let own = |entry: &&Value| entry["kind"] == "earn" && entry["device"] == address.as_str();
    assert_eq!(items(&ledger["entries"]).iter().filter(own).count(), 1);
    opening.world.finish();
}
