//! Images that are made to hurt the device that unpacks them: the buyer is told what is wrong with each, nothing of it
//! lands outside of its place, and the device goes on. What an image can try in detail is tried on the unpacker itself
//! (`agent/image/tests`).
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use sosna_protocol::hash::sha256;
use sosna_tests::held::disk_kib;
use sosna_tests::opening::{Opening, prepare};
use tar::EntryType;
use xtask::oci::layout::{Layout, Run};

/// One entry of a tar (POSIX ustar): name, kind, link's target, content.
type Entry<'a> = (&'a str, u8, &'a str, &'a [u8]);

/// A hostile image: its name, what its layer holds, what it says of the layer, and what its buyer is told.
type Case<'a> = (&'a str, Vec<Entry<'a>>, Option<&'a str>, &'a [&'a str]);

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, target, content) in entries {
        let mut header = tar::Header::new_ustar();
        // Byte by byte: the library would not write such names.
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(EntryType::new(*kind));
        header.set_mode(0o4755);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An image of one layer. `said` is what its configuration says of the layer, instead of the truth.
fn image(place: &Path, entries: &[Entry<'_>], architecture: &str, said: Option<&str>) -> String {
    let mut layout = Layout::begin(place).unwrap();
    layout.add_tar(&tar(entries), said).unwrap();
    let run = Run { user: String::new(), env: vec![], entrypoint: vec![], working_dir: "/".into() };
    layout.finish_for(architecture, &run).unwrap();
    format!("oci:{}", place.display())
}

#[test]
fn hostile_images_are_told_and_leave_nothing() {
    const TEST: &str = "hostile_images_are_told_and_leave_nothing";
    let Some((mut world, good)) = prepare(TEST, Duration::from_secs(90)) else { return };
    // Who is to blame, a device or the image, shows when others have tried; here the first attempt says enough.
    world.set_hub("limits.attempts", "1");
    let opening = Opening::start(world, good, &["one"]);
    let world = &opening.world;
    assert_eq!(opening.run(&[], &["echo", "before"]).ok(), "before");
    world.until("the device idle", || world.agent_idle(0));
    let images = world.agent(0).data.join("images");
    let before_kib = disk_kib(&images);

    let marker = "sosna-hostile-image";
    let outside = |name: &str| format!("{name}{marker}");
    let wrong = format!("sha256:{}", sha256(b"another layer"));
    let up = outside("../../../../../../../../tmp/");
    let through = outside("way/");
    let many: Vec<String> = (0..64).map(|n| format!("{}/f", vec!["d"; n + 1].join("/"))).collect();
    let deep: Vec<Entry<'_>> = many.iter().map(|name| (name.as_str(), b'0', "", &b"x"[..])).collect();
    let cases: Vec<Case<'_>> = vec![
        ("climbs", vec![(&up, b'0', "", b"x")], None, &["..", "climbs out of the layer"]),
        ("through-a-link", vec![("way", b'2', "/tmp", b""), (&through, b'0', "", b"x")], None, &["link"]),
        ("links-to-the-host", vec![("shadow", b'1', "../../../../etc/shadow", b"")], None, &["link"]),
        ("device", vec![("disk", b'4', "", b"")], None, &["device"]),
        ("unknown-kind", vec![("odd", b'V', "", b"")], None, &["odd"]),
        ("lies-about-its-layer", vec![("bin/x", b'0', "", b"x")], Some(&wrong), &["sha256"]),
        ("no-place-for-proc", vec![("proc", b'0', "", b"x")], None, &["/proc is a file", "no-container"]),
        ("not-a-program", [vec![("bin/x", b'0', "", &b"\0\0\0\0"[..])], deep].concat(), None, &[]),
    ];
    for (name, entries, said, words) in &cases {
        let image = image(&world.dir().join(name), entries, "amd64", *said);
        let done = opening.run_image(&image, &[], &["/bin/x"]);
        assert_ne!(done.code, Some(0), "{name}: {done}");
        for word in *words {
            assert!(done.err.contains(word), "{name} does not say {word:?}: {done}");
        }
    }
    // Nobody could do them: no device has a worse name for it.
    let device = world.device(&world.address(0));
    assert_eq!(device["reputation"]["lost"], 0, "{device:#}");

    // Another processor's: no device for it, and that is said before anything is fetched.
    let foreign = image(&world.dir().join("foreign"), &[("bin/x", b'0', "", b"x")], "s390x", None);
    let done = opening.run_image(&foreign, &[], &["/bin/x"]);
    assert_ne!(done.code, Some(0), "{done}");
    assert!(done.err.contains("s390x"), "{done}");

    assert!(!Path::new("/tmp").join(marker).exists(), "something was written outside of the image's place");
    world.until("the device idle", || world.agent_idle(0));
    let after_kib = disk_kib(&images);
    assert!(
        after_kib <= before_kib + 2048,
        "what was refused takes room: {before_kib} KiB became {after_kib}"
    );
    assert_eq!(opening.run(&[], &["echo", "after"]).ok(), "after");
    world.assert_books();
    opening.world.finish();
}
