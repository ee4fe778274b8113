//! Programs are killed at work: jobs come to their end all the same, nobody is paid twice, nothing is left.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_tests::books::{assignments, items, states, text};
use sosna_tests::leaks;
use sosna_tests::opening::{Opening, TWICE, open};
use sosna_tests::world::{Person, World};

/// Four devices of three owners, of which the first two have one owner.
fn four(test: &str, patience: u64) -> Option<Opening> {
    open(test, Duration::from_secs(patience), &["one", "one", "two", "three"])
}

fn submit(opening: &Opening, tasks: &str, seconds: u32) -> String {
    let script = format!("sleep {seconds}; echo done $SOSNA_TASK_INDEX > /out/done");
    let options = [TWICE, &["--tasks", tasks, "--timeout", "60s", "--output", "/out"]].concat();
    opening.submit(&options, &["sh", "-c", &script])
}

fn assert_done(world: &World, who: &Person, id: &str) {
    let job = world.until_over(id);
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let out = world.dir().join(format!("results-{id}"));
    let _ = world.cli(who, &["results", id, "-o", out.to_str().unwrap()]).ok();
    let tasks = items(&job["tasks"]).len();
    for index in 0..tasks {
        let folder = if tasks == 1 { out.clone() } else { out.join(index.to_string()) };
        let done = std::fs::read_to_string(folder.join("out/done")).unwrap();
        assert_eq!(done, format!("done {index}\n"));
    }
}

#[test]
fn a_hub_killed_at_work_loses_nothing_and_pays_nobody_twice() {
    let Some(opening) = four("a_hub_killed_at_work_loses_nothing_and_pays_nobody_twice", 100) else {
        return;
    };
    // Killed while devices fetch, and once more while containers run.
    let id = submit(&opening, "3", 4);
    let Opening { mut world, alice, .. } = opening;
    world.kill_hub();
    world.start_hub();
    let _ = world.until_at_work(&[0, 1, 2, 3]);
    world.kill_hub();
    // Long enough that some containers end while there is no hub to be told.
    std::thread::sleep(Duration::from_secs(3));
    world.start_hub();
    assert_done(&world, &alice, &id);
    world.assert_books();
    // What is due is known again after one more kill.
    world.kill_hub();
    world.start_hub();
    world.until_online(4);
    world.assert_books();
    world.finish();
}

#[test]
fn an_agent_killed_at_work_takes_its_container_up_again() {
    let Some(opening) = four("an_agent_killed_at_work_takes_its_container_up_again", 90) else {
        return;
    };
    let id = submit(&opening, "1", 6);
    let Opening { mut world, alice, .. } = opening;
    let (place, container) = world.until_at_work(&[0, 1, 2, 3]);
    let before = leaks::processes(&container);
    world.kill_agent(place);
    // It may have started more of them meanwhile.
    assert!(leaks::processes(&container).is_superset(&before), "containers outlive the agent");
    world.start_agent(place, None);
    assert_done(&world, &alice, &id);
    let job = world.job(&id);
    let own = assignments(&job).find(|one| one["id"] == container.as_str()).unwrap();
    assert_eq!(own["verdict"], "accepted", "the same container's result counts: {job:#}");
    assert_eq!(states(&job).values().sum::<usize>(), 2, "nobody else had to be asked: {job:#}");
    world.assert_books();
    world.finish();
}

#[test]
fn an_agent_gone_while_its_container_ended_delivers_after_its_return() {
    let Some(opening) = four("an_agent_gone_while_its_container_ended_delivers_after_its_return", 90) else {
        return;
    };
    let id = submit(&opening, "1", 2);
    let Opening { mut world, alice, .. } = opening;
    let (place, container) = world.until_at_work(&[0, 1, 2, 3]);
    world.kill_agent(place);
    world.until("the container's end", || leaks::processes(&container).is_empty());
    world.start_agent(place, None);
    assert_done(&world, &alice, &id);
    world.assert_books();
    world.finish();
}

#[test]
fn a_device_gone_for_good_is_replaced() {
    let Some(opening) = four("a_device_gone_for_good_is_replaced", 100) else {
        return;
    };
    let id = submit(&opening, "3", 3);
    let Opening { mut world, alice, .. } = opening;
    // One of the two of the first owner.
    let (place, container) = world.until_at_work(&[0, 1]);
    world.bury_agent(place);
    assert_done(&world, &alice, &id);
    let job = world.job(&id);
    let lost = assignments(&job).find(|one| one["id"] == container.as_str()).unwrap();
    assert_eq!(text(&lost["state"]), "lost", "{lost:#}");
    assert!(lost["owed"].is_null() || lost["owed"] == "0", "{lost:#}");
    world.assert_books();
    world.finish();
}
