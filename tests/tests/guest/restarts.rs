//! A task that is under way when the machine restarts, and nobody is there to ask: it runs again by itself, its result
//! waits, is delivered when the hub is back, counts, and is paid once.

use sosna_tests::books::{assignments, text};

use crate::scene::Scene;

const WAITS: &str = " not connected, 1 tasks, 1 result to be delivered";

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The hub is away, and the plug is pulled.
    PowerCut,
    /// The hub is away, and the machine is turned off in order.
    Orderly,
    /// The cable is out until the lease is over, then the plug is pulled.
    LeaseOver,
}

pub(crate) fn power_cut(test: &str, board: &str) {
    resumes(test, board, How::PowerCut);
}

pub(crate) fn orderly(test: &str, board: &str) {
    resumes(test, board, How::Orderly);
}

pub(crate) fn lease_over(test: &str, board: &str) {
    resumes(test, board, How::LeaseOver);
}

fn resumes(test: &str, board: &str, how: How) {
    let Some(mut scene) = Scene::set(test, board) else { return };
    if !scene.enrol() {
        return;
    }
    let address = text(&scene.device()["address"]).to_owned();
    let options = ["--cpu", "0.5", "--timeout", "600s", "--output", "/out"];
    // Longer than it takes to pull the plug, which waits for the lease's end in the one case.
    let seconds = if how == How::LeaseOver { 100 } else { 30 };
    let script = format!("echo begun; sleep {seconds}; echo done > /out/word");
    let job = scene.opening.submit(&options, &["sh", "-c", &script]);
    let world = &scene.opening.world;
    world.until("the task runs", || world.device(&address)["current"][0]["phase"] == "running");
    match how {
        How::PowerCut => {
            scene.opening.world.stop_hub();
            scene.guest.cut_power();
        }
        How::Orderly => {
            scene.opening.world.stop_hub();
            scene.turn_off();
        }
        How::LeaseOver => {
            scene.guest.plug_cable(false);
            let state = || world.job(&job)["tasks"][0]["assignments"][0]["state"].clone();
            world.until("the lease is over", || state() == "lost");
            scene.guest.cut_power();
        }
    }

    assert!(scene.guest.start());
    if how == How::LeaseOver {
        scene.guest.plug_cable(false);
    }
    let took = scene.guest.until_says(&scene.opening.world, WAITS);
    eprintln!("{board}: the result of a task of {seconds} s waits {took:.1?} after power on");
    if how == How::LeaseOver {
        scene.guest.plug_cable(true);
    } else {
        scene.opening.world.start_hub();
    }
    let over = scene.opening.world.until_over(&job);
    assert_eq!(over["state"], "succeeded", "{over}");
    let all: Vec<_> = assignments(&over).collect();
    assert_eq!(all.len(), 1, "nobody else was asked: {over}");
    assert_eq!(all[0]["verdict"], "accepted", "{over}");
    // Paid once: the books would not balance otherwise.
    scene.opening.world.assert_books();
    assert_eq!(scene.opening.world.device(&address)["reputation"]["valid"], 1);
    scene.end();
}
