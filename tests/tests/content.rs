//! What becomes of content: outputs come back as they were, a full hub is waited for, results expire, a full device
//! goes on.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use sosna_tests::books::{self, items, text};
use sosna_tests::opening::prepare;
use xtask::oci::layer::Layer;
use xtask::oci::layout::{Layout, Run};

fn explained(job: &Value, part: &str) -> bool {
    books::assignments(job).any(|one| one["explanation"].as_str().is_some_and(|why| why.contains(part)))
}

#[test]
fn outputs_come_back_as_they_were() {
    let Some((mut world, image)) = prepare("outputs_come_back_as_they_were", Duration::from_secs(60)) else {
        return;
    };
    world.start_hub();
    let alice = world.buyer("alice", "10");
    for owner in ["one", "two"] {
        let token = world.owner_token(owner, 1);
        world.add_agent(&token, &[]);
    }
    world.until_online(2);
    let script = "umask 022; cd /out; mkdir -p tree/deep empty; echo data > tree/file; busybox chmod 640 tree/file; \
                  busybox chmod 750 tree/deep; echo inner > tree/deep/inner; echo run > tool; busybox chmod 755 tool; \
                  busybox ln -s tree/file link; busybox ln -s ../tree tree/self; busybox ln -s nowhere dangling; \
                  busybox ln -s /etc/passwd outside; busybox ln -s ../../up up; busybox chmod 555 tree/deep";
    let usual = [
        "--verify",
        "replicate:2",
        "--memory",
        "64M",
        "--disk",
        "8M",
        "--output",
        "/out",
        "--output",
        "/none/x",
    ];
    let line: Vec<_> = usual.into_iter().chain([image.as_str(), "--", "sh", "-c", script]).collect();
    let id = world.submit(&alice, &line);
    assert_eq!(world.until_over(&id)["state"], "succeeded", "{:#}", world.job(&id));
    let got = world.dir().join("got");
    let done = world.cli(&alice, &["results", &id, "-o", got.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{done}");
    let out = got.join("out");
    let mode = |path: &str| fs::symlink_metadata(out.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(fs::read_to_string(out.join("tree/file")).unwrap(), "data\n");
    assert_eq!(
        (mode("tree/file"), mode("tree/deep"), mode("tool"), mode("empty")),
        (0o640, 0o555, 0o755, 0o755)
    );
    assert_eq!(fs::read_to_string(out.join("tree/deep/inner")).unwrap(), "inner\n");
    assert_eq!(fs::read_dir(out.join("empty")).unwrap().count(), 0);
    let link = |path: &str| fs::read_link(out.join(path)).unwrap();
    assert_eq!(link("link"), Path::new("tree/file"));
    assert_eq!(
        (link("tree/self"), link("dangling")),
        (Path::new("../tree").into(), Path::new("nowhere").into())
    );
    assert_eq!(fs::read_to_string(out.join("link")).unwrap(), "data\n");
    // What leads out of the result is told and left out.
    assert!(!out.join("outside").is_symlink() && !out.join("up").is_symlink());
    assert!(done.err.contains("out/outside") && done.err.contains("/etc/passwd"), "{done}");
    assert!(done.err.contains("left out /none/x: was not made"), "{done}");
    world.assert_books();
    world.finish();
}

#[test]
fn a_full_hub_is_waited_for_and_results_expire() {
    let Some((mut world, image)) =
        prepare("a_full_hub_is_waited_for_and_results_expire", Duration::from_secs(90))
    else {
        return;
    };
    // Room for the image, and not for the result.
    world.set_hub("content.store_bytes", "4194304");
    world.start_hub();
    let alice = world.buyer("alice", "10");
    let token = world.owner_token("one", 1);
    let agent = world.add_agent(&token, &[]);
    world.until_online(1);
    let script = "busybox dd if=/dev/urandom of=/out/big bs=1M count=6";
    let usual = ["--memory", "64M", "--disk", "16M", "--output", "/out"];
    let line: Vec<_> = usual.into_iter().chain([image.as_str(), "--", "sh", "-c", script]).collect();
    let id = world.submit(&alice, &line);
    world.until("the device is told why it must wait", || {
        world.agent_log(agent).contains("content store holds its 4194304 bytes")
    });
    // A person is told, too.
    let mut big = vec![0; 6 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut big).unwrap();
    let place = world.dir().join("big");
    fs::write(&place, &big).unwrap();
    let input = format!("{}:/in", place.display());
    let refused = world
        .cli(&alice, &["run", "--memory", "64M", "--disk", "8M", "--input", &input, &image, "--", "true"]);
    refused.fails(1, &["no room left", "content.store_bytes"]);
    world.stop_hub();
    let soon = [("store_bytes", "0"), ("results_ms", "3000"), ("unused_ms", "1000"), ("collect_ms", "500")];
    for (key, value) in soon {
        world.set_hub(&format!("content.{key}"), value);
    }
    world.start_hub();
    assert_eq!(world.until_over(&id)["state"], "succeeded", "{:#}", world.job(&id));
    let got = world.dir().join("got");
    let _ = world.cli(&alice, &["results", &id, "-o", got.to_str().unwrap()]).ok();
    assert_eq!(got.join("out/big").metadata().unwrap().len(), 6 << 20);
    world.until("the results' end", || world.hub_log().contains("that nothing needs any more was removed"));
    let late = world.dir().join("late");
    world.until("a plain word", || {
        let done = world.cli(&alice, &["results", &id, "-o", late.to_str().unwrap()]);
        let _ = fs::remove_dir_all(&late);
        done.code == Some(3) && done.err.contains("have expired")
    });
    world.assert_books();
    world.finish();
}

#[test]
fn a_device_whose_disk_is_full_says_so_and_goes_on() {
    let Some((mut world, image)) =
        prepare("a_device_whose_disk_is_full_says_so_and_goes_on", Duration::from_secs(120))
    else {
        return;
    };
    let data = world.dir().join("a0");
    fs::create_dir(&data).unwrap();
    mount(Some("sosna-e2e"), &data, Some("tmpfs"), MsFlags::empty(), Some("size=64m,mode=0700")).unwrap();
    world.start_hub();
    let alice = world.buyer("alice", "10");
    let token = world.owner_token("one", 1);
    let small = [("SOSNA_AGENT_LIMITS_DISK_RESERVE", "1MiB"), ("SOSNA_AGENT_LIMITS_DISK", "40MiB")];
    let agent = world.add_agent(&token, &small);
    world.until_online(1);
    let free = || {
        let disk = statvfs(&data).unwrap();
        disk.blocks_available() * disk.fragment_size()
    };
    let works = || {
        let line = ["run", "--memory", "64M", "--disk", "8M", &image, "--", "echo", "hi"];
        assert_eq!(world.cli(&alice, &line).ok(), "hi");
    };
    works();

    // An image that the disk has no room for, whatever the limit for images allows.
    let mut noise = vec![0; 80 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let large = world.dir().join("large");
    let mut layer = Layer::default();
    layer.bytes("noise", noise, 0o644);
    let mut layout = Layout::begin(&large).unwrap();
    layout.add(&layer).unwrap();
    let run =
        Run { user: "0".into(), env: vec![], entrypoint: vec!["/noise".into()], working_dir: "/".into() };
    layout.finish(&run).unwrap();
    let large = format!("oci:{}", large.display());
    let before = free();
    let id = world.submit(&alice, &["--memory", "64M", "--disk", "8M", &large]);
    world.until("the reason", || explained(&world.job(&id), "no space left on the disk"));
    let _ = world.cli(&alice, &["cancel", &id]).ok();
    world.until("an end of it", || world.agent_idle(agent));
    // Nothing half-fetched takes the room; the small image may have gone, too.
    world.until("room again", || free() + (1 << 20) >= before);
    let blobs =
        fs::read_dir(data.join("images/blobs")).map(|files| files.flatten().count()).unwrap_or_default();
    assert!(blobs < 10, "{blobs}");
    works();

    // A result that cannot be stored: the disk fills while the task runs.
    let script = "busybox dd if=/dev/zero of=/out/big bs=1M count=12; echo made; sleep 6";
    let usual = ["--memory", "64M", "--disk", "16M", "--output", "/out"];
    let line: Vec<_> = usual.into_iter().chain([image.as_str(), "--", "sh", "-c", script]).collect();
    let id = world.submit(&alice, &line);
    world.until("the task has begun", || {
        books::assignments(&world.job(&id)).any(|one| one["phase"] == "running")
    });
    std::thread::sleep(Duration::from_secs(2));
    let filler = data.join("filler");
    let room = free().saturating_sub(3 << 20);
    io::copy(&mut io::repeat(1).take(room), &mut File::create(&filler).unwrap()).unwrap();
    world.until("the reason", || explained(&world.job(&id), "could not be stored"));
    let _ = world.cli(&alice, &["cancel", &id]).ok();
    world.until("an end of it", || world.agent_idle(agent));
    fs::remove_file(&filler).unwrap();
    works();
    let job = world.job(&id);
    assert_ne!(job["state"], "succeeded", "{job:#}");
    assert!(items(&job["tasks"]).iter().all(|task| text(&task["state"]) == "cancelled"), "{job:#}");
    world.assert_books();
    world.finish_but(&[&data]);
}

#[test]
fn a_hub_at_an_ipv6_address_is_reached() {
    const TEST: &str = "a_hub_at_an_ipv6_address_is_reached";
    if let Err(error) = std::net::TcpListener::bind("[::1]:0") {
        eprintln!("SKIPPED {TEST}: this machine has no IPv6 loopback: {error}");
        return;
    }
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(60)) else { return };
    // In brackets or without: people write both.
    world.listen_on("[::1]");
    world.start_hub();
    assert!(world.http().starts_with("http://[::1]:"));
    let alice = world.buyer("alice", "10");
    let token = world.owner_token("one", 1);
    let agent = world.add_agent(&token, &[]);
    world.until_online(1);
    let line = ["run", "--memory", "64M", "--disk", "8M", &image, "--", "echo", "hi"];
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    // From its enrolment's file, too.
    world.kill_agent(agent);
    world.start_agent(agent, None);
    world.stop_hub();
    world.listen_on("::1");
    world.start_hub();
    world.until_online(1);
    assert_eq!(world.cli(&alice, &line).ok(), "hi");
    world.assert_books();
    world.finish();
}
