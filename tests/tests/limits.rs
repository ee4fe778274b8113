//! Tasks that want more than they may have are stopped, and people are told why.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags};
use sosna_tests::books::{items, text};
use sosna_tests::opening::{Opening, open, prepare};

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

/// A file system that is gone when the test is over, however it ends.
struct Mounted(PathBuf);

impl Mounted {
    fn memory(place: PathBuf, options: &str) -> Self {
        std::fs::create_dir(&place).unwrap();
        nix::mount::mount(Some("sosna-test"), &place, Some("tmpfs"), MsFlags::empty(), Some(options))
            .unwrap();
        Self(place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, MntFlags::MNT_DETACH);
        // The world around it is gone but for this.
        let _ = std::fs::remove_dir(&self.0);
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

#[test]
fn a_disk_that_others_fill_lends_nothing_until_there_is_room() {
    const TEST: &str = "a_disk_that_others_fill_lends_nothing_until_there_is_room";
    let Some((world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let data = world.dir().join("a0");
    let disk = Mounted::memory(data.clone(), "size=512m,mode=700");
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let lent = || world.agent_status(0)["lent"]["disk"].as_u64().unwrap();
    let before = lent();
    assert!((300 << 20..512 << 20).contains(&before), "{before}: less than the 1 GiB of its settings");
    assert_eq!(opening.run(&[], &["echo", "first"]).ok(), "first");
    let layers = || std::fs::read_dir(data.join("images/layers")).unwrap().count();
    assert_eq!(layers(), 1);
    assert!(data.join("ballast").exists());

    let filler = data.join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    let free = || {
        let stat = nix::sys::statvfs::statvfs(&data).unwrap();
        stat.blocks_available() * stat.fragment_size()
    };
    let all_but = i64::try_from(free() - (1 << 20)).unwrap();
    nix::fcntl::posix_fallocate(&file, 0, all_but).unwrap();
    drop(file);
    world.until("the ballast given up", || !data.join("ballast").exists());
    world.until("unused images gone", || layers() == 0);
    world.until("nothing lent", || lent() == 0);
    let address = world.address(0);
    world.until("the hub told", || world.device(&address)["total"]["disk"] == 0);
    assert_eq!(world.device(&address)["online"], true);
    opening.run(&[], &["echo", "second"]).fails(4, &["No device has that much"]);

    std::fs::remove_file(filler).unwrap();
    world.until("the hub told of the room", || world.device(&address)["total"]["disk"] != 0);
    assert_eq!(opening.run(&[], &["echo", "third"]).ok(), "third");
    world.until("the ballast again", || data.join("ballast").exists());
    assert!(lent() >= before - before / 4);
    world.assert_books();
    opening.world.finish_but(&[&data]);
    drop(disk);
}
