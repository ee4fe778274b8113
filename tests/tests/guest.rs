//! Whole machines: an image with the real agent boots in QEMU from its file, enrols, works, is turned off and comes
//! back as the same device.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use serde_json::Value;
use sosna_image::inspect::Image;
use sosna_image::personal::Personal;
use sosna_tests::books::{items, text};
use sosna_tests::guest::{Guest, HOST};
use sosna_tests::opening::{Opening, prepare};

/// Emulated machines on a busy one.
const PATIENCE: Duration = Duration::from_secs(420);

fn devices(opening: &Opening) -> Value {
    opening.world.ask(&opening.world.admin(), &["devices"])["devices"].take()
}

fn lives_twice(test: &str, board: &str) {
    let Some((mut world, image)) = prepare(test, PATIENCE) else { return };
    world.set_hub("public_address", HOST);
    world.set_hub("times.lease_ms", "30000");
    world.set_hub("times.offer_ms", "30000");
    let opening = Opening::start(world, image, &[]);
    let world = &opening.world;
    let mut personal = Personal { join: Some(world.owner_token("one", 1)), ..Personal::default() };
    personal.settings.hostname = Some("lamp".to_owned());
    personal.settings.labels.insert("room".to_owned(), "cellar".to_owned());
    let Some(mut guest) = Guest::compose(test, world, board, "lamp", &personal) else { return };

    if !guest.start(test) {
        return;
    }
    let enrolled = guest.until_says(world, "enrolled: the join token is removed from the boot partition");
    world.until_online(1);
    let online = guest.until_says(world, " connected, ");
    eprintln!("{test}: enrolled {enrolled:.1?} after power on, first seen connected after {online:.1?}");
    let first = devices(&opening)[0].take();
    assert_eq!(first["hostname"], "lamp");
    assert_eq!(first["system"]["board"], board, "{first}");
    assert_eq!(first["system"]["slot"], "a", "{first}");
    assert_eq!(first["owner_labels"]["room"], "cellar", "{first}");
    assert_eq!(items(&first["missing_limits"]).len(), 0, "every limit holds in the image: {first}");

    let script = "cat /proc/self/cgroup; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; id -u; echo done > /out/word";
    let options = ["--cpu", "0.5", "--timeout", "120s", "--output", "/out"];
    let done = opening.run(&options, &["sh", "-c", script]);
    let said = done.ok();
    for words in ["0::/", "Seccomp:\t2", "NoNewPrivs:\t1", "1000"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }

    guest.press_power(Duration::from_secs(60));
    let console = guest.console();
    assert!(console.contains("turning off: everything is written and unmounted"), "{console}");
    let on_card = Image::open(&guest.disk).unwrap();
    assert!(on_card.boot().unwrap().read("sosna/join").unwrap().is_none(), "the token is still there");
    world.until("the hub misses it", || devices(&opening)[0]["online"] == false);

    assert!(guest.start(test));
    let _ = guest.until_says(world, " connected, ");
    world.until_online(1);
    let second = devices(&opening);
    assert_eq!(items(&second).len(), 1, "the same device: {second}");
    assert_eq!(second[0]["address"], first["address"]);
    let console = guest.console();
    assert!(console.contains("data area: ready"), "{console}");
    let done = opening.run(&options, &["sh", "-c", "echo again > /out/word"]);
    let _ = done.ok();
    world.assert_books();
    let address = text(&first["address"]).to_owned();
    assert_eq!(world.device(&address)["reputation"]["valid"], 2);
    guest.press_power(Duration::from_secs(60));
    opening.world.finish();
}

#[test]
fn a_pc_enrols_works_and_comes_back() {
    lives_twice("a_pc_enrols_works_and_comes_back", "x86_64-uefi");
}
