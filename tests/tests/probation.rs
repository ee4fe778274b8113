//! Devices on probation: one checks the other, and the operator pays for it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_tests::books::{all_held, items, text, units};
use sosna_tests::opening::{Opening, prepare};

#[test]
fn a_job_that_asks_for_no_verification_is_checked_at_the_operators_expense() {
    const TEST: &str = "a_job_that_asks_for_no_verification_is_checked_at_the_operators_expense";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(90)) else { return };
    world.set_hub("probation.check_budget", "1");
    let Opening { mut world, alice, image } = Opening::start(world, image, &["one"]);
    // Alone a new device does what the buyer asked for.
    let line = ["run", "--verify", "none", "--memory", "64M", "--disk", "8M", &image, "--", "echo", "hi"];
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    let token = world.owner_token("two", 1);
    world.add_agent(&token, &[]);
    world.until_online(2);
    assert_eq!(world.cli(&alice, &line).ok(), "hi");

    let jobs = world.ask(&alice, &["jobs"]);
    let checked: Vec<_> = items(&jobs["jobs"])
        .iter()
        .map(|job| world.ask(&alice, &["job", text(&job["id"])]))
        .map(|job| (job["tasks"][0]["checked"] == true, items(&job["tasks"][0]["assignments"]).len()))
        .collect();
    assert_eq!(checked, [(true, 2), (false, 1)], "newest first");
    let ledger = world.ask(&world.admin(), &["ledger"]);
    let paid = |kind: &str| items(&ledger["entries"]).iter().filter(|entry| entry["kind"] == kind).count();
    assert_eq!((paid("earn"), paid("verification")), (2, 1));
    world.assert_books();
    world.until("vouchers for all of it", || all_held(&world.ask(&world.admin(), &["devices"])));
    let devices = world.ask(&world.admin(), &["devices"]);
    for device in items(&devices["devices"]) {
        assert!(units(&device["held"]) > 0);
        assert_eq!(
            device["reputation"]["consecutive_valid"], 1,
            "only what another owner's device confirmed"
        );
        let detail = world.ask(&world.admin(), &["device", text(&device["address"])]);
        let classes = items(&detail["classes"]);
        assert_eq!(classes.len(), 1);
        assert!(text(&classes[0]["class"]).starts_with("sha256:"));
    }
    world.finish();
}
