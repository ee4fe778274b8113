//! What a hub says about jobs, devices and money, and whether it adds up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sosna_protocol::Amount;

/// An amount as JSON has it, in the smallest units.
///
/// # Panics
/// When it is none.
#[must_use]
#[track_caller]
pub fn units(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse::<Amount>().ok()).unwrap_or_else(|| panic!("{value}")).units()
}

/// The items of a list.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// A text.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// All assignments of a job (`sosna job ID --json`).
pub fn assignments(job: &Value) -> impl Iterator<Item = &Value> {
    items(&job["tasks"]).iter().flat_map(|task| items(&task["assignments"]))
}

/// How many assignments of each state a job has.
#[must_use]
pub fn states(job: &Value) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for assignment in assignments(job) {
        *states.entry(text(&assignment["state"]).to_owned()).or_default() += 1;
    }
    states
}

/// Asserts that every accepted assignment of these jobs was paid exactly once and nothing else was, and that every
/// account adds up to the last unit. `ledger` is an admin's. Of a task that checks a device the operator pays one result.
///
/// # Panics
/// When the books do not balance.
pub fn assert_balanced(jobs: &[Value], ledger: &Value, devices: &Value) {
    let mut paid: BTreeMap<&str, u128> = BTreeMap::new();
    let mut by_device: BTreeMap<&str, u128> = BTreeMap::new();
    let mut by_operator: BTreeSet<&str> = BTreeSet::new();
    let is_pay = |entry: &&Value| entry["kind"] == "earn" || entry["kind"] == "verification";
    for entry in items(&ledger["entries"]).iter().filter(is_pay) {
        let (assignment, amount) = (text(&entry["assignment"]), units(&entry["amount"]));
        if entry["kind"] == "verification" {
            assert!(entry["buyer"].is_null(), "{entry}");
            by_operator.insert(assignment);
        }
        assert_eq!(paid.insert(assignment, amount), None, "{assignment} was paid twice");
        *by_device.entry(text(&entry["device"])).or_default() += amount;
    }
    let mut spent = 0;
    let mut accepted = BTreeSet::new();
    for job in jobs {
        let mut owed = 0;
        for assignment in assignments(job).filter(|assignment| assignment["verdict"] == "accepted") {
            let id = text(&assignment["id"]);
            accepted.insert(id);
            let price = units(&assignment["price"]);
            assert_eq!(units(&assignment["owed"]), price, "{assignment}");
            assert_eq!(paid.get(id), Some(&price), "{assignment} was accepted and not paid its price");
            if !by_operator.contains(id) {
                owed += price;
            }
        }
        assert_eq!(units(&job["price"]["spent"]), owed, "job {}", job["id"]);
        assert_eq!(units(&job["price"]["reserved"]), 0, "job {} is over", job["id"]);
        for task in items(&job["tasks"]).iter().filter(|task| task["state"] == "succeeded") {
            let judged =
                |word| items(&task["assignments"]).iter().filter(|one| one["verdict"] == word).count();
            let (right, wrong) = (judged("accepted"), judged("wrong"));
            match text(&job["verification"]).strip_prefix("replicate:") {
                Some(count) => {
                    let (asked, found) = (count.parse().unwrap(), right + judged("surplus"));
                    assert!(
                        right == found.min(asked),
                        "those who found it are paid, up to the asked number: {task:#}"
                    );
                    assert!(
                        found + wrong >= asked,
                        "as many as were asked for have shown a result: {task:#}"
                    );
                    assert!(found >= 2 && found > wrong, "more than half of them agree: {task:#}");
                }
                None => {
                    let wanted = 1 + right.min(2).saturating_sub(1) * usize::from(task["checked"] == true);
                    assert_eq!(right, wanted, "one is paid, and one more that confirms it: {task:#}");
                }
            }
        }
        spent += owed;
    }
    let known: BTreeSet<_> = paid.keys().copied().collect();
    assert_eq!(known, accepted, "only accepted assignments are paid");
    assert_eq!(spent_of(ledger), spent);
    for device in items(&devices["devices"]) {
        let earned = by_device.get(text(&device["address"])).copied().unwrap_or_default();
        assert_eq!(units(&device["earned"]), earned, "{device}");
    }
}

/// Asserts that what buyers have spent is what devices have earned, that nothing is reserved any more, and that every
/// account adds up. For more jobs than can be looked at one by one, where the operator pays for no checks.
///
/// # Panics
/// When it is not so.
pub fn assert_sums(ledger: &Value, devices: &Value) {
    for account in items(&ledger["accounts"]) {
        assert_eq!(units(&account["reserved"]), 0, "{account}");
    }
    let earned: u128 = items(&devices["devices"]).iter().map(|device| units(&device["earned"])).sum();
    assert_eq!(spent_of(ledger), earned, "{ledger:#} {devices:#}");
}

/// What all accounts have spent; each must add up.
fn spent_of(ledger: &Value) -> u128 {
    let mut all = 0;
    for account in items(&ledger["accounts"]) {
        let parts = ["reserved", "spent", "available"].map(|part| units(&account[part]));
        assert_eq!(units(&account["granted"]), parts.iter().sum::<u128>(), "{account}");
        all += parts[1];
    }
    all
}

/// Whether every device holds a voucher for all that it has earned.
#[must_use]
pub fn all_held(devices: &Value) -> bool {
    items(&devices["devices"])
        .iter()
        .all(|device| device["earned"] == device["vouchered"] && device["vouchered"] == device["held"])
}
