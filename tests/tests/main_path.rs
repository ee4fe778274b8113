//! The main path: devices of three owners run a replicated job, its results are fetched and verified, everybody is
//! paid exactly once and holds the voucher.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use sosna_tests::books::{self, items, text, units};
use sosna_tests::opening::{Opening, TWICE, open};

#[test]
fn a_replicated_job_is_run_verified_fetched_and_paid() {
    const TEST: &str = "a_replicated_job_is_run_verified_fetched_and_paid";
    let Some(opening) = open(TEST, Duration::from_secs(90), &["one", "one", "two", "three"]) else { return };
    let Opening { world, alice, .. } = &opening;
    let input = world.dir().join("word");
    fs::write(&input, "pine").unwrap();
    let input = format!("{}:/in/word", input.display());
    let script = "echo task $SOSNA_TASK_INDEX of $SOSNA_TASK_COUNT; \
                  mkdir /out/d; cat /in/word > /out/d/word; echo $SOSNA_TASK_INDEX > /out/index; id -u > /out/uid";
    let options = [
        TWICE,
        &["--tasks", "3", "--cpu", "1", "--timeout", "60s", "--name", "words"],
        &["--input", &input, "--output", "/out"],
    ];
    let done = opening.run(&options.concat(), &["sh", "-c", script]);
    assert_eq!(done.code, Some(0), "{done}");
    for index in 0..3 {
        assert!(done.out.contains(&format!("task {index} of 3")), "{done}");
    }

    let jobs = world.ask(alice, &["jobs"]);
    let list = if jobs.is_array() { &jobs } else { &jobs["jobs"] };
    let id = text(&items(list)[0]["id"]).to_owned();
    let job = world.job(&id);
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["buyer"], "alice");
    for task in items(&job["tasks"]) {
        let right: Vec<_> =
            items(&task["assignments"]).iter().filter(|one| one["verdict"] == "accepted").collect();
        assert_eq!(right.len(), 2, "{task}");
        let owners: BTreeSet<_> = right.iter().map(|one| text(&one["owner"])).collect();
        assert_eq!(owners.len(), 2, "replicas are with different owners: {task}");
        for replica in right {
            assert_eq!(replica["root"], task["result_root"], "{task}");
            assert!(replica["commitment"].is_string(), "shown only after it was committed to: {task}");
        }
    }

    let out = world.dir().join("results");
    let _ = world.cli(alice, &["results", &id, "-o", out.to_str().unwrap()]).ok();
    for index in 0..3 {
        let task = out.join(index.to_string());
        let read = |path: &str| fs::read_to_string(task.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(read("out/d/word"), "pine");
        assert_eq!(read("out/index"), format!("{index}\n"));
        assert_eq!(read("out/uid"), "1000\n");
        assert_eq!(read("stdout.log"), format!("task {index} of 3\n"));
    }

    world.assert_books();
    let ledger = world.ask(alice, &["ledger"]);
    let account = &items(&ledger["accounts"])[0];
    assert_eq!(units(&account["granted"]), 10 * 10_u128.pow(18));
    assert!(units(&account["spent"]) > 0, "{account}");
    assert_eq!(units(&account["spent"]), units(&world.job(&id)["price"]["spent"]));
    assert_eq!(books::states(&world.job(&id)).get("judged"), Some(&6));
    opening.world.finish();
}
