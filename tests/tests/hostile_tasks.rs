//! A device full of hostile tasks goes on as a device: it answers, works for others, and says of each why it ended.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::{Duration, Instant};

use serde_json::Value;
use sosna_tests::books::{items, text};
use sosna_tests::opening::{Opening, open};

/// A hostile task: options, what it does, and the cause that its buyer is told.
const HOSTILE: &[(&str, &[&str], &str, &str)] = &[
    // A shell that cannot fork says so and ends.
    ("fork bomb", &["--timeout", "8s"], "b() { b | b & b; }; b; while :; do b; done", "exited"),
    ("memory hog", &[], "tail /dev/zero", "out-of-memory"),
    ("memory hog in files", &[], "dd if=/dev/zero of=/dev/shm/x bs=1M & tail /dev/zero", "out-of-memory"),
    ("disk filler", &["--output", "/out"], "dd if=/dev/zero of=/out/x bs=1M", "disk-full"),
    (
        "inode filler",
        &["--output", "/out", "--inodes", "500"],
        "i=0; while : > /out/$i; do i=$((i+1)); done; exit 1",
        "disk-full",
    ),
    ("endless log", &["--timeout", "8s", "--log", "64K"], "yes", "timed-out"),
    ("deaf to SIGTERM", &["--timeout", "6s"], "trap '' TERM INT HUP; while :; do sleep 1; done", "timed-out"),
    (
        "processor hog",
        &["--timeout", "8s"],
        "for i in 1 2 3 4; do (while :; do :; done) & done; wait",
        "timed-out",
    ),
    (
        "names that no result can have",
        &["--output", "/out", "--inodes", "4000"],
        "cd /out; d=$(printf %0200d 0); for i in 1 2 3 4 5 6 7 8 9; do mkdir $d && cd $d || exit 1; done; touch x; exit 7",
        "exited",
    ),
    ("root remover", &[], "rm -rf /bin /etc /usr /lib; exit 9", "exited"),
    (
        "sleepers",
        &["--timeout", "6s"],
        "for i in $(seq 20); do sleep 100 < /dev/zero & done; wait",
        "timed-out",
    ),
];

/// The device answers its owner's question within this time, whatever runs on it. Generous: a debug build, and all of
/// the machine's processors are somebody's.
const ANSWER: Duration = Duration::from_secs(5);

#[test]
fn a_device_full_of_hostile_tasks_stays_a_device() {
    const TEST: &str = "a_device_full_of_hostile_tasks_stays_a_device";
    let Some(opening) = open(TEST, Duration::from_secs(120), &["one"]) else { return };
    let Opening { world, .. } = &opening;
    let limits = ["--cpu", "100m", "--pids", "24"];
    let submit = |(name, options, script, _): &(&str, &[&str], &str, &str)| {
        opening.submit(&[&limits[..], &["--name", *name], options].concat(), &["sh", "-c", script])
    };
    let jobs: Vec<String> = HOSTILE.iter().map(submit).collect();

    // Meanwhile it does honest work, and answers.
    let (mut slowest, mut honest) = (Duration::ZERO, 0);
    let is_over = |id: &String| matches!(text(&world.job(id)["state"]), "succeeded" | "failed" | "cancelled");
    while !jobs.iter().all(is_over) {
        let asked = Instant::now();
        let status = world.agent_status(0);
        slowest = slowest.max(asked.elapsed());
        assert_eq!(status["connected"], true, "{status:#}");
        assert_eq!(opening.run(&["--cpu", "100m"], &["echo", "honest"]).ok(), "honest");
        honest += 1;
        assert!(world.has_time(), "hostile tasks do not end");
    }
    eprintln!("{honest} honest tasks meanwhile; the slowest answer of the device took {slowest:?}");
    assert!(honest > 0);
    assert!(slowest < ANSWER, "the device answered after {slowest:?} only");

    for ((name, _, _, cause), id) in HOSTILE.iter().zip(&jobs) {
        let job = world.job(id);
        let task: &Value = &items(&job["tasks"])[0];
        assert_eq!(task["cause"], *cause, "{name}: {job:#}");
        assert_eq!(
            items(&task["assignments"]).len(),
            1,
            "{name} is the task's doing, and no device's: {job:#}"
        );
    }
    let device = world.device(&world.address(0));
    assert_eq!(device["reputation"]["lost"], 0, "{device:#}");
    // The image is whole, whatever a task has done to its root.
    assert_eq!(opening.run(&[], &["sh", "-c", "ls /bin/sh"]).ok(), "/bin/sh");
    world.until("the device idle", || world.agent_idle(0));
    assert_eq!(world.device(&world.address(0))["online"], true);
    world.assert_books();
    opening.world.finish();
}
