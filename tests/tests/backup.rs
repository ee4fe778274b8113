//! A backup taken at work, restored into another folder: devices come back, and what they hold counts.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_tests::books::{all_held, items, text, units};
use sosna_tests::opening::{Opening, open};
use sosna_tests::world::World;

#[test]
fn after_a_restore_what_devices_can_prove_is_owed() {
    const TEST: &str = "after_a_restore_what_devices_can_prove_is_owed";
    let Some(opening) = open(TEST, Duration::from_secs(90), &["one", "two"]) else { return };
    let Opening { mut world, alice, image } = opening;
    let line =
        ["run", "--verify", "replicate:2", "--memory", "64M", "--disk", "8M", &image, "--", "echo", "hi"];
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    world.assert_books();

    let file = world.dir().join("backup.file");
    let backup = |world: &World| {
        let mut command = world.hub_command(&world.hub_data());
        world.run(command.arg("backup").arg(&file))
    };
    let done = backup(&world);
    assert_eq!(done.code, Some(0), "{done}");
    // Never over another one.
    let again = backup(&world);
    assert_ne!(again.code, Some(0), "{again}");

    // After it, more is earned, which the backup does not know.
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    world.assert_books();
    let devices = world.ask(&world.admin(), &["devices"]);
    let held: Vec<_> = items(&devices["devices"])
        .iter()
        .map(|device| (text(&device["address"]).to_owned(), units(&device["held"])))
        .collect();
    assert!(held.iter().all(|(_, amount)| *amount > 0), "{held:?}");

    // And a third time, just before the end: that may be in no voucher yet.
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    let devices = world.ask(&world.admin(), &["devices"]);
    let owed: Vec<_> = items(&devices["devices"])
        .iter()
        .map(|device| (text(&device["address"]).to_owned(), units(&device["earned"])))
        .collect();
    assert!(
        owed.iter().zip(&held).all(|(owed, held)| owed.0 == held.0 && owed.1 == held.1 / 2 * 3),
        "{owed:?}"
    );

    world.kill_hub();
    let restored = world.dir().join("restored");
    let mut command = world.hub_command(&restored);
    let done = world.run(command.arg("restore").arg(&file));
    assert_eq!(done.code, Some(0), "{done}");
    // Never over a hub.
    let mut command = world.hub_command(&restored);
    assert_ne!(world.run(command.arg("restore").arg(&file)).code, Some(0));

    world.start_hub_on(&restored);
    world.until_online(2);
    world.until("what the devices prove by vouchers and verdicts wins, and comes into vouchers", || {
        let devices = world.ask(&world.admin(), &["devices"]);
        owed.iter().all(|(address, amount)| {
            items(&devices["devices"]).iter().any(|device| {
                device["address"] == address.as_str()
                    && units(&device["earned"]) == *amount
                    && units(&device["vouchered"]) == *amount
                    && units(&device["held"]) == *amount
            })
        })
    });
    // And work goes on from there: nobody loses, nobody gains.
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    let mut devices = serde_json::Value::Null;
    world.until("vouchers over the new work", || {
        devices = world.ask(&world.admin(), &["devices"]);
        all_held(&devices)
            && owed.iter().all(|(address, amount)| {
                items(&devices["devices"])
                    .iter()
                    .any(|device| device["address"] == address.as_str() && units(&device["held"]) > *amount)
            })
    });
    for (address, amount) in &owed {
        let device = items(&devices["devices"]).iter().find(|device| device["address"] == address.as_str());
        // Four jobs of one price each: three were owed, the fourth came on top.
        assert_eq!(units(&device.unwrap()["held"]), amount / 3 * 4, "{devices:#}");
    }
    world.finish();
}
