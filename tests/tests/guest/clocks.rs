//! Clocks that are decades off: the device enrols all the same, by the hub's signed time, and is right afterwards.

use std::time::{SystemTime, UNIX_EPOCH};

use sosna_tests::guest::Setting;

use crate::scene::{CONNECTED, Scene};

/// What the machine's own clock may be off once the hub has told the time; the machine is emulated, and slow.
const SECONDS: u64 = 120;

/// The first boot with the first of these dates, the second with the other.
pub(crate) fn are_wrong(test: &str, board: &str, dates: [&'static str; 2]) {
    let Some(mut scene) = Scene::set(test, board) else { return };
    scene.guest.setting = Setting { date: Some(dates[0]), ..Setting::default() };
    if !scene.enrol() {
        return;
    }
    scene.guest.until_says(&scene.opening.world, "the clock was wrong; the hub has told the time");
    is_right(&scene);
    let address = scene.device()["address"].clone();
    scene.turn_off();

    scene.guest.setting = Setting { date: Some(dates[1]), ..Setting::default() };
    assert!(scene.guest.start());
    scene.guest.until_says(&scene.opening.world, CONNECTED);
    scene.opening.world.until_online(1);
    assert_eq!(scene.device()["address"], address);
    is_right(&scene);
    scene.end();
}

/// Containers see the right time, and work over mutual TLS, whose certificates have dates, comes and goes.
fn is_right(scene: &Scene) {
    let told: u64 = scene.work("date +%s").trim().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(told) < SECONDS, "the device is at {told}, and it is {now}");
    // What is judged by the clock now.
    assert_eq!(scene.work("echo judged"), "judged");
}
