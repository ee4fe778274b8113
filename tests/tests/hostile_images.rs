//! Images that are made to hurt the device that unpacks them: the buyer is told what is wrong with each, nothing of it
//! lands outside of its place, and the device goes on. What an image can try in detail is tried on the unpacker itself
//! (`agent/image/tests`).
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sosna_protocol::hash::sha256;
use sosna_tests::books::text;
use sosna_tests::held::disk_kib;
use sosna_tests::opening::{Opening, prepare};

/// One entry of a tar (POSIX ustar): name, kind, link's target, content.
type Entry<'a> = (&'a str, u8, &'a str, &'a [u8]);

/// A hostile image: its name, what its layer holds, what it says of the layer, and what its buyer is told.
type Case<'a> = (&'a str, Vec<Entry<'a>>, Option<&'a str>, &'a [&'a str]);

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, kind, target, content) in entries {
        let mut head = [0_u8; 512];
        let mut put = |at: usize, field: &[u8]| head[at..at + field.len()].copy_from_slice(field);
        put(0, name.as_bytes());
        put(100, b"0004755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000001\0");
        put(337, b"0000003\0");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        all.extend(head);
        all.extend(*content);
        all.resize(all.len().next_multiple_of(512), 0);
    }
    all.resize(all.len() + 1024, 0);
    all
}

/// An image of one layer as an OCI layout. `said` is what its configuration says of the layer, instead of the truth.
fn layout(place: &Path, layer: &[u8], architecture: &str, said: Option<&str>) -> PathBuf {
    let blobs = place.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8], kind: &str| -> Value {
        let name = sha256(bytes).to_string();
        fs::write(blobs.join(&name), bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{name}"), "size": bytes.len() })
    };
    let layer_blob = blob(layer, "layer.v1.tar");
    let truth = text(&layer_blob["digest"]).to_owned();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["/bin/x"] },
        "rootfs": { "type": "layers", "diff_ids": [said.unwrap_or(&truth)] }
    });
    let config = blob(config.to_string().as_bytes(), "config.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer_blob]
    });
    let manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
    fs::write(place.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())
        .unwrap();
    fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    place.to_path_buf()
}

#[test]
fn hostile_images_are_told_and_leave_nothing() {
    const TEST: &str = "hostile_images_are_told_and_leave_nothing";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(90)) else { return };
    // Who is to blame, a device or the image, shows when others have tried; here the first attempt says enough.
    world.set_hub("limits.attempts", "1");
    let opening = Opening::start(world, image, &["one"]);
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
        ("not-a-program", [vec![("bin/x", b'0', "", &b"\0\0\0\0"[..])], deep].concat(), None, &[]),
    ];
    for (name, entries, said, words) in &cases {
        let place = world.dir().join(name);
        let image = layout(&place, &tar(entries), "amd64", *said);
        let image = format!("oci:{}", image.display());
        let done = opening.run_image(&image, &[], &["/bin/x"]);
        assert_ne!(done.code, Some(0), "{name}: {done}");
        for word in *words {
            assert!(done.err.contains(word), "{name} does not say {word:?}: {done}");
        }
    }
    // Another processor's: no device for it, and that is said before anything is fetched.
    let foreign = layout(&world.dir().join("foreign"), &tar(&[("bin/x", b'0', "", b"x")]), "s390x", None);
    let done = opening.run_image(&format!("oci:{}", foreign.display()), &[], &["/bin/x"]);
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
