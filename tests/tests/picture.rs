//! The demonstration's picture, while programs are killed: a device gone for good, the hub and an agent killed at work
//! and started again. The picture is complete and right, nobody is paid twice, nothing is left.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sosna_tests::books::{assignments, items, text};
use sosna_tests::world::{Person, World, can_run};
use xtask::demo::{SIZE, TILES};
use xtask::paths::Tree;
use xtask::{picture, povray};

/// Submits the rendering with this policy of verification.
fn render(world: &World, who: &Person, image: &str, verify: &str) -> String {
    let tiles = TILES.to_string();
    let limits = ["--cpu", "1", "--memory", "256M", "--disk", "64M", "--timeout", "5m"];
    let what = ["--tasks", &tiles, "--verify", verify, "--output", "/work/out/tile.bmp"];
    world.submit(who, &[&what[..], &limits, &[image]].concat())
}

fn tiles(world: &World, who: &Person, id: &str) -> Vec<PathBuf> {
    let out = world.dir().join(format!("results-{id}"));
    let _ = world.cli(who, &["results", id, "-o", out.to_str().unwrap()]).ok();
    (0..TILES).map(|tile| out.join(tile.to_string()).join("work/out/tile.bmp")).collect()
}

fn succeeded(job: &Value) -> usize {
    items(&job["tasks"]).iter().filter(|task| task["state"] == "succeeded").count()
}

#[test]
fn the_picture_is_right_whoever_is_killed() {
    let test = "the_picture_is_right_whoever_is_killed";
    if !can_run(test) {
        return;
    }
    let image = match povray::compose(&Tree::find().unwrap()) {
        Ok(image) => format!("oci:{}", image.dir.display()),
        Err(reason) => return eprintln!("SKIPPED {test}: {reason}"),
    };
    let mut world = World::new(Duration::from_secs(300));
    world.start_hub();
    let alice = world.buyer("alice", "100");
    let tokens = [("one", 2), ("two", 1), ("three", 1)].map(|(owner, uses)| world.owner_token(owner, uses));
    for token in [&tokens[0], &tokens[0], &tokens[1], &tokens[2]] {
        world.add_agent(token, &[]);
    }
    world.until_online(4);

    let id = render(&world, &alice, &image, "replicate:2");
    // One of the two devices of the first owner.
    let (gone, _) = world.until_at_work(&[0, 1]);
    world.bury_agent(gone);
    world.until("two tiles", || succeeded(&world.job(&id)) >= 2);
    let _ = world.until_at_work(&[2, 3]);
    world.kill_hub();
    // Long enough that containers end while there is no hub to be told.
    std::thread::sleep(Duration::from_secs(3));
    world.start_hub();
    world.until("five tiles", || succeeded(&world.job(&id)) >= 5);
    let (hurt, _) = world.until_at_work(&[2, 3]);
    world.kill_agent(hurt);
    std::thread::sleep(Duration::from_secs(1));
    world.start_agent(hurt, None);
    let job = world.until_over(&id);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert!(succeeded(&job) == TILES, "{job:#}");
    assert!(
        assignments(&job).any(|one| one["state"] == "lost"),
        "what the lost device had is given up: {job:#}"
    );
    for task in items(&job["tasks"]) {
        let paid: Vec<&Value> =
            items(&task["assignments"]).iter().filter(|one| one["verdict"] == "accepted").collect();
        assert_eq!(paid.len(), 2, "{task:#}");
        assert_ne!(text(&paid[0]["owner"]), text(&paid[1]["owner"]), "{task:#}");
    }
    world.assert_books();

    // Rendered once more, undisturbed: the same to the last bit.
    let again = render(&world, &alice, &image, "none");
    let job = world.until_over(&again);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let (disturbed, undisturbed) = (tiles(&world, &alice, &id), tiles(&world, &alice, &again));
    for (one, other) in disturbed.iter().zip(&undisturbed) {
        assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{} differs", one.display());
    }
    let png = world.dir().join("pines.png");
    picture::join(&disturbed, SIZE, &png).unwrap();
    assert!(std::fs::metadata(&png).unwrap().len() > 100_000, "a picture, not a surface of one colour");
    world.assert_books();
    world.finish();
}
