//! An image from a real registry; and registries and images that are not what they should be.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::net::TcpListener;
use std::time::Duration;

use sosna_tests::books::{items, text};
use sosna_tests::opening::{TWICE, open};
use sosna_tests::registry::{Registry, RegistryError};
use sosna_tests::world::can_run;
use xtask::oci::layer::Layer;
use xtask::oci::layout::{self, Layout, Run};

#[test]
fn replicas_of_a_registry_image_run_the_same_bytes_and_bad_references_are_told() {
    const TEST: &str = "replicas_of_a_registry_image_run_the_same_bytes_and_bad_references_are_told";
    if !can_run(TEST) {
        return;
    }
    let registry = match Registry::start() {
        Ok(registry) => registry,
        Err(RegistryError::Missing(reason)) => {
            eprintln!("SKIPPED {TEST}: {reason}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let Some(opening) = open(TEST, Duration::from_secs(90), &["one", "two"]) else { return };
    let world = &opening.world;
    let place = world.dir().join("image");
    let image = layout::open(&place).unwrap();
    assert_eq!(registry.push(&place, "tools/busybox", "1").unwrap(), image.digest);
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
