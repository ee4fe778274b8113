//! A device and what its network lacks: it says what that is, and needs nobody when it is there.

use sosna_image::personal::Personal;
use sosna_image::run::Network;
use sosna_tests::guest::{Guest, Setting};
use sosna_tests::world::World;

use crate::scene::{CONNECTED, ENROLLED, PATIENCE, Scene};

/// The hub is turned on after the device.
pub(crate) fn meets_its_hub_later(test: &str, board: &str) {
    let Some(mut scene) = Scene::set(test, board) else { return };
    scene.opening.world.stop_hub();
    if !scene.guest.start() {
        return;
    }
    let world = &scene.opening.world;
    scene.guest.until_says(world, "; not enrolled: the hub's bootstrap listener cannot be used: ");
    assert!(!scene.guest.console().contains(ENROLLED));
    assert!(!scene.guest.console().contains("the agent ended"), "it waits, and does not begin again");
    scene.opening.world.start_hub();
    scene.guest.until_says(&scene.opening.world, ENROLLED);
    scene.opening.world.until_online(1);
    assert_eq!(scene.work("echo here"), "here");

    // And once more, as a device that knows its hub.
    let said = scene.guest.console().len();
    scene.opening.world.stop_hub();
    scene.guest.until_says_after(&scene.opening.world, said, " not connected, 0 tasks: ");
    scene.opening.world.start_hub();
    scene.opening.world.until_online(1);
    scene.guest.until_says_after(&scene.opening.world, said, CONNECTED);
    scene.end();
}

fn alone(test: &str, board: &str, setting: Setting) -> Option<(World, Guest)> {
    let world = World::new(PATIENCE);
    let mut guest = Guest::make(test, &world, board, "lamp", &Personal::default())?;
    guest.setting = setting;
    guest.start().then_some((world, guest))
}

pub(crate) fn has_no_card(test: &str, board: &str) {
    let setting = Setting { network: Network::Absent, ..Setting::default() };
    let Some((world, mut guest)) = alone(test, board, setting) else { return };
    guest.until_says(&world, ": no network, there is no card for it; ");
    // Without a token there is nothing to do either, and that is told, too.
    guest.until_says(&world, "its last words: ");
    guest.until_says(&world, "this device is not enrolled");
    guest.cut_power();
}

pub(crate) fn hears_nothing(test: &str, board: &str) {
    let setting = Setting { network: Network::Silent, ..Setting::default() };
    let Some((world, mut guest)) = alone(test, board, setting) else { return };
    guest.until_says(&world, ": no network, nobody answers DHCP on ");
    guest.cut_power();
}

pub(crate) fn has_no_cable(test: &str, board: &str) {
    let Some((world, mut guest)) = alone(test, board, Setting::default()) else { return };
    guest.plug_cable(false);
    guest.until_says(&world, ": no network, no cable in eth0; ");
    guest.plug_cable(true);
    guest.until_says(&world, ": 10.0.2.15/24 on eth0");
    guest.cut_power();
}
