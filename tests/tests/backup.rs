//! A backup taken at work, restored into another folder: devices come back, and what they hold counts.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_tests::books::{all_held, items, text, units};
use sosna_tests::opening::{Opening, TWICE, open};
use sosna_tests::world::World;

#[test]
fn after_a_restore_devices_show_their_vouchers_and_these_win() {
    const TEST: &str = "after_a_restore_devices_show_their_vouchers_and_these_win";
    let Some(mut opening) = open(TEST, Duration::from_secs(90), &["one", "two"]) else { return };
    let hi = |opening: &Opening| assert_eq!(opening.run(TWICE, &["echo", "hi"]).ok(), "hi");
    hi(&opening);
    opening.world.assert_books();

    let file = opening.world.dir().join("backup.file");
    let backup = |world: &World| {
        let mut command = world.hub_command(&opening.world.hub_data());
        opening.world.run(command.arg("backup").arg(&file))
    };
    let done = backup(&opening.world);
    assert_eq!(done.code, Some(0), "{done}");
    // Never over another one.
    let again = backup(&opening.world);
    assert_ne!(again.code, Some(0), "{again}");

    // After it, more is earned, which the backup does not know.
    hi(&opening);
    opening.world.assert_books();
    let devices = opening.world.ask(&opening.world.admin(), &["devices"]);
    let held: Vec<_> = items(&devices["devices"])
        .iter()
        .map(|device| (text(&device["address"]).to_owned(), units(&device["held"])))
        .collect();
    assert!(held.iter().all(|(_, amount)| *amount > 0), "{held:?}");

    opening.world.kill_hub();
    let restored = opening.world.dir().join("restored");
    let mut command = opening.world.hub_command(&restored);
    let done = opening.world.run(command.arg("restore").arg(&file));
    assert_eq!(done.code, Some(0), "{done}");
    // Never over a hub.
    let mut command = opening.world.hub_command(&restored);
    assert_ne!(opening.world.run(command.arg("restore").arg(&file)).code, Some(0));

    opening.world.start_hub_on(&restored);
    opening.world.until_online(2);
    opening.world.until("the devices' vouchers win", || {
        let devices = opening.world.ask(&opening.world.admin(), &["devices"]);
        held.iter().all(|(address, amount)| {
            items(&devices["devices"]).iter().any(|device| {
                device["address"] == address.as_str()
                    && units(&device["vouchered"]) == *amount
                    && units(&device["held"]) == *amount
            })
        })
    });
    // And work goes on from there: nobody loses, nobody gains.
    hi(&opening);
    let mut devices = serde_json::Value::Null;
    opening.world.until("vouchers over the new work", || {
        devices = opening.world.ask(&opening.world.admin(), &["devices"]);
        all_held(&devices)
            && held.iter().all(|(address, amount)| {
                items(&devices["devices"])
                    .iter()
                    .any(|device| device["address"] == address.as_str() && units(&device["held"]) > *amount)
            })
    });
    for (address, amount) in &held {
        let device = items(&devices["devices"]).iter().find(|device| device["address"] == address.as_str());
        // Three jobs of one price each: two were held, the third came on top.
        assert_eq!(units(&device.unwrap()["held"]), amount / 2 * 3, "{devices:#}");
    }
    opening.world.finish();
}
