//! From a file to a device that works, and back again as the same one: each board's first boot and its second.

use serde_json::Value;
use sosna_tests::books::{items, text};

use crate::scene::{CONNECTED, Scene};

fn lives_twice(test: &str, board: &str) {
    let Some(mut scene) = Scene::set(test, board) else { return };
    if !scene.enrol() {
        return;
    }
    let first = scene.device();
    assert_eq!(first["hostname"], "lamp");
    assert_eq!(first["system"]["board"], board, "{first}");
    assert_eq!(first["system"]["slot"], "a", "{first}");
    assert_eq!(first["owner_labels"]["room"], "cellar", "{first}");
    assert_eq!(items(&first["missing_limits"]).len(), 0, "every limit holds in the image: {first}");
    let console = scene.guest.console();
    // The image brings an empty one, which is grown to the disk of 8 GiB.
    assert!(console.contains("data area: ready, 7"), "{console}");

    let script = "cat /proc/self/cgroup; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; id -u";
    let said = scene.work(script);
    for words in ["0::/", "Seccomp:\t2", "NoNewPrivs:\t1", "1000"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    scene.turn_off();
    assert!(!scene.guest.disk.has_boot_file("sosna/join"), "the token is still there");
    scene.guest.disk.assert_key_is_on_data_alone();
    scene.opening.world.until("the hub misses it", || scene.device()["online"] == false);

    assert!(scene.guest.start());
    let back = scene.guest.until_says(&scene.opening.world, CONNECTED);
    scene.opening.world.until_online(1);
    eprintln!("{board}: connected {back:.1?} after power on");
    let second: Value = scene.device();
    assert_eq!(second["address"], first["address"], "the same device");
    let console = scene.guest.console();
    assert!(console.contains("data area: ready"), "{console}");
    assert_eq!(scene.work("echo again"), "again");
    scene.opening.world.assert_books();
    let address = text(&first["address"]).to_owned();
    assert_eq!(scene.opening.world.device(&address)["reputation"]["valid"], 2);
    scene.end();
}

fn lives_twice_in_turn(test: &str, board: &str) {
    if xtask::rotation::is_kinds_turn(board, test) {
        lives_twice(test, board);
    }
}

#[test]
fn a_pc_enrols_works_and_comes_back() {
    lives_twice_in_turn("a_pc_enrols_works_and_comes_back", "x86_64-uefi");
}

#[test]
fn an_arm_machine_enrols_works_and_comes_back() {
    lives_twice_in_turn("an_arm_machine_enrols_works_and_comes_back", "arm64-uefi");
}

#[test]
fn a_pi_enrols_works_and_comes_back() {
    lives_twice_in_turn("a_pi_enrols_works_and_comes_back", "rpi");
}
