//! Tasks that want more than they may have are stopped, and people are told why.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use sosna_tests::books::{items, text};
use sosna_tests::opening::{Opening, open};

#[test]
fn memory_logs_time_and_missing_commands_are_told() {
    const TEST: &str = "memory_logs_time_and_missing_commands_are_told";
    let Some(opening) = open(TEST, Duration::from_secs(90), &["one"]) else { return };
    let run = |extra: &[&str], command: &[&str]| opening.run(extra, command);
    let Opening { world, alice, .. } = &opening;
    let last = || {
        let jobs = world.ask(alice, &["jobs"]);
        let list = if jobs.is_array() { &jobs } else { &jobs["jobs"] };
        world.job(text(&items(list)[0]["id"]))
    };
    let task = |job: &serde_json::Value| items(&job["tasks"])[0].clone();

    // Its own exit code becomes the command's.
    run(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"]).fails(7, &["err", "exit code 7"]);

    // A hog: tail keeps all of an endless line.
    let done = run(&[], &["sh", "-c", "tail /dev/zero"]);
    done.fails(137, &["out-of-memory"]);
    assert_eq!(task(&last())["cause"], "out-of-memory");

    // An endless log is cut, and its task goes on to its end.
    let done = run(&["--log", "64K"], &["sh", "-c", "yes sosna | head -c 3000000; echo the end >&2"]);
    assert_eq!(done.code, Some(0), "{done}");
    assert!(done.out.len() <= 64 << 10, "{} bytes were kept", done.out.len());
    assert!(done.out.starts_with("sosna\n"), "{}", &done.out[..20]);
    assert!(done.err.contains("the end"), "{done}");

    // A task that does not end.
    let done = run(&["--timeout", "2s"], &["sleep", "600"]);
    assert_ne!(done.code, Some(0), "{done}");
    assert_eq!(task(&last())["cause"], "timed-out");
    assert!(done.err.contains("timed-out"), "{done}");

    // No such command: as in a shell, 127, and nobody tries it eight times.
    run(&[], &["no-such-command", "x"]).fails(127, &["cannot-start", "127"]);
    let job = last();
    assert_eq!(items(&task(&job)["assignments"]).len(), 1, "every device would find the same: {job:#}");
    // Not a program.
    run(&[], &["/etc/passwd"]).fails(126, &["126"]);

    // More files on disk than it may have.
    let done = run(&["--output", "/out"], &["sh", "-c", "dd if=/dev/zero of=/out/big bs=1M count=64"]);
    assert_ne!(done.code, Some(0), "{done}");
    world.assert_books();
    opening.world.finish();
}
