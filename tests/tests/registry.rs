//! An image from a real registry; and registries and images that are not what they should be.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::net::TcpListener;
use std::time::Duration;

use sosna_tests::books::{items, text};
use sosna_tests::opening::{Opening, TWICE, prepare};
use sosna_tests::registry::{Registry, RegistryError};
use sosna_tests::world::World;
use xtask::oci::layer::Layer;
use xtask::oci::layout::{self, Layout, Run};

#[test]
fn registries_in_private_networks_are_asked_only_where_they_are_named() {
    const TEST: &str = "registries_in_private_networks_are_asked_only_where_they_are_named";
    let registry = match Registry::start() {
        Ok(registry) => registry,
        Err(RegistryError::Missing(reason)) => {
            eprintln!("SKIPPED {TEST}: {reason}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let Some((mut world, _)) = prepare(TEST, Duration::from_secs(90)) else { return };
    let place = world.dir().join("image");
    registry.push(&place, "tools/busybox", "1").unwrap();
    let reference = registry.reference("tools/busybox", "1");
    world.start_hub();
    let alice = world.buyer("alice", "10");
    let token = world.owner_token("one", 1);
    let agent = world.add_agent(&token, &[]);
    world.until_online(1);
    let line = ["--memory", "64M", "--disk", "8M", reference.as_str(), "--", "echo", "hi"];
    let run = |world: &World| world.cli(&alice, &["run"].iter().chain(&line).copied().collect::<Vec<_>>());
    run(&world).fails(4, &[&registry.address().to_string(), "registry.private"]);
    // By a name, and by an address of the cloud's kind, likewise.
    let port = registry.address().port();
    for host in [format!("localhost:{port}"), "169.254.169.254".to_owned(), "10.255.0.1:80".to_owned()] {
        let image = format!("{host}/tools/busybox:1");
        let told = world.cli(&alice, &["run", "--memory", "64M", "--disk", "8M", &image, "--", "true"]);
        told.fails(4, &[&host, "registry.private"]);
    }
    world.stop_hub();

    // The hub asks; the device does not.
    world.set_hub("registry.private", "127.0.0.1");
    world.start_hub();
    world.until_online(1);
    let id = world.submit(&alice, &line);
    world.until("the device's reason", || {
        let job = world.job(&id);
        let mut all = sosna_tests::books::assignments(&job);
        all.any(|one| one["explanation"].as_str().is_some_and(|why| why.contains("registry.private")))
    });
    let _ = world.cli(&alice, &["cancel", &id]).ok();
    world.until("an end of it", || world.agent_idle(agent));
    let token = world.owner_token("two", 1);
    world.add_agent(&token, &[("SOSNA_AGENT_REGISTRY_PRIVATE", &registry.address().to_string())]);
    world.until_online(2);
    assert_eq!(run(&world).ok(), "hi");
    world.assert_books();
    world.finish();
}

#[test]
fn replicas_of_a_registry_image_run_the_same_bytes_and_bad_references_are_told() {
    const TEST: &str = "replicas_of_a_registry_image_run_the_same_bytes_and_bad_references_are_told";
    let registry = match Registry::start() {
        Ok(registry) => registry,
        Err(RegistryError::Missing(reason)) => {
            eprintln!("SKIPPED {TEST}: {reason}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let Some((mut world, busybox)) = prepare(TEST, Duration::from_secs(90)) else { return };
    let place = world.dir().join("image");
    let image = layout::open(&place).unwrap();
    assert_eq!(registry.push(&place, "tools/busybox", "1").unwrap(), image.digest);
    world.set_hub("registry.private", "127.0.0.1");
    let mut opening = Opening::start(world, busybox, &[]);
    for owner in ["one", "two"] {
        let token = opening.world.owner_token(owner, 1);
        opening.world.add_agent(&token, &[("SOSNA_AGENT_REGISTRY_PRIVATE", "127.0.0.1")]);
    }
    opening.world.until_online(2);
    let world = &opening.world;
    let run = |image: &str| opening.run_image(image, TWICE, &["echo", "hi"]);

    let reference = registry.reference("tools/busybox", "1");
    assert_eq!(run(&reference).ok(), "hi");
    // A name and a digest together.
    assert_eq!(run(&format!("{reference}@{}", image.digest)).ok(), "hi");
    let jobs = world.jobs();
    assert_eq!(jobs.len(), 2);
    for task in jobs.iter().flat_map(|job| items(&job["tasks"])) {
        assert_eq!(format!("sha256:{}", text(&task["image"])), image.digest);
        assert_eq!(items(&task["assignments"]).len(), 2, "{task}");
    }

    // The name means another image from now on; what ran is what was resolved.
    let other = world.dir().join("other");
    let mut layer = Layer::default();
    layer.bytes("etc/other", "x", 0o644);
    let mut layout = Layout::begin(&other).unwrap();
    layout.add(&layer).unwrap();
    let config = Run { user: "0".into(), env: vec![], entrypoint: vec![], working_dir: "/".into() };
    let other = layout.finish(&config).unwrap();
    assert_eq!(registry.push(&other.dir, "tools/busybox", "1").unwrap(), other.digest);
    run(&reference).fails(127, &["cannot-start"]);
    assert_eq!(run(&format!("{}@{}", registry.reference("tools/busybox", "1"), image.digest)).ok(), "hi");

    let address = registry.address();
    // No such name, no such tag, no such digest.
    run(&registry.reference("tools/nothing", "1")).fails(3, &["tools/nothing"]);
    run(&registry.reference("tools/busybox", "9")).fails(3, &["tools/busybox:9"]);
    let nowhere = format!("{address}/tools/busybox@sha256:{}", "5".repeat(64));
    run(&nowhere).fails(3, &["sha256:5555"]);
    // Not a digest at all, not a reference at all.
    run(&format!("{address}/tools/busybox@sha256:12")).fails(2, &["sha256:12"]);
    run("HTTP://What is this").fails(2, &[]);

    // Nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(&format!("{closed}/tools/busybox:1")).fails(5, &[&closed.to_string()]);

    // A layout whose content is not what its name says.
    let damaged = world.dir().join("damaged");
    let blobs = place.join("blobs/sha256");
    std::fs::rename(&place, &damaged).unwrap();
    let blobs = damaged.join(blobs.strip_prefix(&place).unwrap());
    let largest = std::fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut content = std::fs::read(&largest).unwrap();
    content[1000] ^= 1;
    std::fs::write(&largest, content).unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap().to_owned();
    run(&format!("oci:{}", damaged.display())).fails(1, &[&name]);
    world.assert_books();
    opening.world.finish();
}
