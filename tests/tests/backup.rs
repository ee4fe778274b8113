//! A backup taken at work, restored into another folder: devices come back, and what they hold counts.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_tests::books::{all_held, items, text, units};
use sosna_tests::image::busybox;
use sosna_tests::world::{World, can_run};

#[test]
fn after_a_restore_devices_show_their_vouchers_and_these_win() {
    const TEST: &str = "after_a_restore_devices_show_their_vouchers_and_these_win";
    if !can_run(TEST) {
        return;
    }
    let mut world = World::new(Duration::from_secs(90));
    let place = world.dir().join("image");
    if let Err(reason) = busybox(&place) {
        eprintln!("SKIPPED {TEST}: {reason}");
        return;
    }
    let image = format!("oci:{}", place.display());
    world.start_hub();
    let alice = world.buyer("alice", "10");
    for owner in ["one", "two"] {
        let token = world.owner_token(owner, 1);
        world.add_agent(&token, &[]);
    }
    world.until_online(2);
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
    world.until("the devices' vouchers win", || {
        let devices = world.ask(&world.admin(), &["devices"]);
        held.iter().all(|(address, amount)| {
            items(&devices["devices"]).iter().any(|device| {
                device["address"] == address.as_str()
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
    world.finish();
}
