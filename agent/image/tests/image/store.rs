//! The store over time: pins and garbage, shared work, crashes, full disks, restarts.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use sosna_layers::{
    Digest, Image, ImageError, ImageStore, StoreOptions,
    unpack::{UnpackError, sandbox::Wall},
};
use sosna_privsep::Helper;

use crate::{
    Ran, Test, block_on, is_root,
    layers::{LIMIT, Scene, ensure, request},
    make::{Built, Layer, Recipe, gzip, noise},
    server::{Fault, Server},
};

pub(crate) const TESTS: &[Test] = &[
    ("store::pinned_layers_stay_and_the_oldest_go", pinned_layers_stay_and_the_oldest_go),
    ("store::room_is_made_by_a_pull", room_is_made_by_a_pull),
    ("store::too_large_for_the_limit", too_large_for_the_limit),
    ("store::concurrent_calls_share_the_work", concurrent_calls_share_the_work),
    ("store::different_images_at_once_under_a_tight_limit", different_images_at_once_under_a_tight_limit),
    ("store::a_killed_unpacker_leaves_nothing", a_killed_unpacker_leaves_nothing),
    ("store::a_dropped_call_leaves_nothing", a_dropped_call_leaves_nothing),
    ("store::a_killed_agent_leaves_nothing", a_killed_agent_leaves_nothing),
    ("store::an_unpacker_that_is_none", an_unpacker_that_is_none),
    ("store::survives_a_restart", survives_a_restart),
    ("store::clears_up_after_a_crash", clears_up_after_a_crash),
    ("store::one_owner_at_a_time", one_owner_at_a_time),
    ("store::spoilt_documents_are_fetched_again", spoilt_documents_are_fetched_again),
    ("store::a_full_disk_is_named", a_full_disk_is_named),
];

const MIB: u64 = 1 << 20;

/// A shared first layer and a second of so many bytes.
fn image(own: usize, seed: u64) -> Built {
    let shared = Layer::new().file("shared", &noise(1 << 20, 1)).tar();
    let own = Layer::new().file("own", &noise(own, seed)).tar();
    Recipe::of([shared, own]).build()
}

async fn serve(images: &[&Built]) -> Server {
    let server = Server::start(&HashMap::new()).await;
    for built in images {
        server.add(&built.blobs);
    }
    server
}

fn layers_on_disk(scene: &Scene) -> usize {
    fs::read_dir(scene.root().join("layers")).unwrap().count()
}

/// Bytes below a folder, as the disk counts them.
fn disk_usage(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::read_dir(folder).unwrap().fold(0, |sum, entry| {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        sum + meta.blocks() * 512 + if meta.is_dir() { disk_usage(&entry.path()) } else { 0 }
    })
}

fn pinned_layers_stay_and_the_oldest_go() -> Ran {
    let scene = Scene::new();
    let builts = [image(1 << 20, 11), image(1 << 20, 12), image(1 << 20, 13)];
    block_on(async {
        let server = serve(&builts.iter().collect::<Vec<_>>()).await;
        let mut images: Vec<Arc<Image>> = Vec::new();
        for built in &builts {
            images.push(scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap());
        }
        assert_eq!(layers_on_disk(&scene), 4, "the shared layer is there once");
        assert_eq!(images[0].layers[0], images[2].layers[0]);
        assert_eq!(server.asked(builts[0].layers[0]).len(), 1);

        // Everything is pinned: nothing goes.
        let nothing = scene.store.remove_unused().await.unwrap();
        assert_eq!((nothing.layers, layers_on_disk(&scene)), (0, 4));

        // The first is dropped twice-pinned, then for good.
        let again = scene.store.ensure(&request(builts[0].manifest, vec![])).await.unwrap();
        drop(images.remove(0));
        assert_eq!(scene.store.remove_unused().await.unwrap().layers, 0);
        let own = again.layers[1].clone();
        drop(again);
        let one = scene.store.remove_unused().await.unwrap();
        assert_eq!((one.layers, own.exists(), layers_on_disk(&scene)), (1, false, 3));
        assert!(one.bytes >= MIB);
        for image in &images {
            assert!(
                image.layers.iter().all(|layer| layer.join("own").exists() || layer.join("shared").exists())
            );
        }
        drop(images);
        scene.store.remove_unused().await.unwrap();
        assert_eq!(scene.store.used_bytes(), 0);
        assert!(scene.store.images().is_empty());
    });
    scene.assert_clean();
    assert_eq!(fs::read_dir(scene.root().join("blobs/sha256")).unwrap().count(), 0);
    Ran::Passed
}

fn room_is_made_by_a_pull() -> Ran {
    // Room for about four images of two megabytes and their shared one.
    let scene = Scene::with(10 * MIB, StoreOptions::default());
    let builts: Vec<Built> = (20..30).map(|seed| image(2 << 20, seed)).collect();
    block_on(async {
        let server = serve(&builts.iter().collect::<Vec<_>>()).await;
        let ensure = |n: usize| {
            let request = request(builts[n].manifest, vec![server.source()]);
            let store = &scene.store;
            async move { store.ensure(&request).await.unwrap() }
        };
        let kept = ensure(0).await;
        for n in 1..builts.len() {
            // The first of the others is used again and again, so that it is never the oldest.
            ensure(n).await;
            ensure(1).await;
            assert!(scene.store.used_bytes() <= 10 * MIB, "{}", scene.store.used_bytes());
            assert!(disk_usage(&scene.root()) <= 11 * MIB);
            assert!(kept.layers[1].join("own").exists());
        }
        assert_eq!(server.asked(builts[1].layers[1]).len(), 1, "what is used often is not evicted");
        assert_eq!(server.asked(builts[0].layers[0]).len(), 1, "nor is what is shared");
        ensure(2).await;
        assert_eq!(server.asked(builts[2].layers[1]).len(), 2, "what was used long ago is");
    });
    Ran::Passed
}

fn too_large_for_the_limit() -> Ran {
    let scene = Scene::with(3 * MIB, StoreOptions::default());
    // Compressed already too large: nothing is fetched.
    let built = image(4 << 20, 5);
    block_on(async {
        let server = serve(&[&built]).await;
        let error = scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { limit, .. } if limit == 3 * MIB), "{error}");
        assert!(server.asked(built.layers[0]).is_empty());
    });
    // Small when compressed, too large when unpacked.
    let tar = Layer::new().file("a", &vec![0; 2 << 20]).file("b", &vec![0; 2 << 20]).tar();
    let recipe = Recipe::packed([(gzip(&tar), Digest::of(&tar))]);
    let limits = sosna_layers::unpack::Limits::for_store(LIMIT);
    let scene = Scene::with(3 * MIB, StoreOptions { limits: Some(limits), ..StoreOptions::default() });
    let error = ensure(&scene, &recipe).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error:?}");
    assert!(error.to_string().contains("3145728"), "{error}");
    scene.assert_clean();
    Ran::Passed
}

fn concurrent_calls_share_the_work() -> Ran {
    let scene = Scene::new();
    let (one, other) = (image(1 << 20, 31), image(1 << 20, 32));
    block_on(async {
        let server = serve(&[&one, &other]).await;
        server.fault(one.layers[0], Fault::Late(Duration::from_millis(300)));
        let requests = [&one, &other].map(|built| request(built.manifest, vec![server.source()]));
        let (a, b, c, d) = tokio::join!(
            scene.store.ensure(&requests[0]),
            scene.store.ensure(&requests[0]),
            scene.store.ensure(&requests[1]),
            scene.store.ensure(&requests[0]),
        );
        let images = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
        assert_eq!(images[0].layers, images[1].layers);
        assert_eq!(images[0].layers[0], images[2].layers[0]);
        for built in [&one, &other] {
            for digest in built.blobs.keys() {
                assert_eq!(server.asked(*digest).len(), 1, "{digest}");
            }
        }
    });
    assert_eq!(layers_on_disk(&scene), 3);
    Ran::Passed
}

fn different_images_at_once_under_a_tight_limit() -> Ran {
    // Room for two of the six at a time; each is dropped as soon as it is ready.
    let scene = Scene::with(8 * MIB, StoreOptions::default());
    let builts: Vec<Built> = (40..46).map(|seed| image(2 << 20, seed)).collect();
    block_on(async {
        let server = serve(&builts.iter().collect::<Vec<_>>()).await;
        for pair in builts.chunks(2) {
            let requests: Vec<_> = pair.iter().map(|b| request(b.manifest, vec![server.source()])).collect();
            let (a, b) = tokio::join!(scene.store.ensure(&requests[0]), scene.store.ensure(&requests[1]));
            for image in [a.unwrap(), b.unwrap()] {
                assert!(image.layers.iter().all(|layer| layer.is_dir()));
            }
            assert!(scene.store.used_bytes() <= 8 * MIB);
        }
    });
    Ran::Passed
}

/// Children of this process's helpers that unpack.
fn unpackers() -> Vec<Pid> {
    let me = std::process::id().to_string();
    let parent = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap_or("").to_owned()
    };
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let numbers = processes.filter_map(|name| name.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with("sosna-unpack\0") && parent(&parent(&pid.to_string())) == me
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// A layer that takes a while: 192 MiB of zeros.
fn slow() -> Recipe {
    let tar = Layer::new().file("first", b"1").file("zeros", &vec![0; 192 << 20]).tar();
    Recipe::packed([(gzip(&tar), Digest::of(&tar))])
}

async fn running_unpacker(scene: &Scene) -> Pid {
    for _ in 0..2000 {
        let started = fs::read_dir(scene.root().join("work"))
            .unwrap()
            .any(|entry| entry.unwrap().path().join("first").exists());
        if started && let Some(pid) = unpackers().first() {
            return *pid;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("no unpacker was seen");
}

fn a_killed_unpacker_leaves_nothing() -> Ran {
    let scene = Scene::with(LIMIT, StoreOptions::default());
    let built = slow().build();
    block_on(async {
        let server = serve(&[&built]).await;
        let request = request(built.manifest, vec![server.source()]);
        let kill = async {
            let pid = running_unpacker(&scene).await;
            let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
            kill_process(pid, Signal::KILL).unwrap();
            (status, environment)
        };
        let (ensured, (status, environment)) = tokio::join!(scene.store.ensure(&request), kill);
        let error = ensured.unwrap_err();
        assert!(matches!(&error, ImageError::Unpack { source: UnpackError::Died { .. }, .. }), "{error:?}");
        scene.assert_clean();
        assert!(unpackers().is_empty());
        scene.store.ensure(&request).await.unwrap();
        assert_eq!(server.asked(built.layers[0]).len(), 1, "the blob was not at fault and is used again");

        // What the kernel says of a real unpacker at work.
        let says =
            |line: &str| status.lines().any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        assert!(says("Threads: 1") && says("NoNewPrivs: 1") && says("CapInh: 0000000000000000"), "{status}");
        let walls = scene.store.sandbox().unwrap();
        assert_eq!(says("Seccomp: 2"), walls.standing.contains(&Wall::Seccomp), "{status}");
        if is_root() {
            // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP, as bits.
            let caps = format!("{:016x}", 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1_u64 << 31);
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                assert!(says(&format!("{set}: {caps}")), "{status}");
            }
        }
        assert!(environment.is_ok_and(|text| text.is_empty()) || !is_root());
    });
    Ran::Passed
}

fn a_dropped_call_leaves_nothing() -> Ran {
    let scene = Scene::with(LIMIT, StoreOptions::default());
    let built = slow().build();
    block_on(async {
        let server = serve(&[&built]).await;
        let request = request(built.manifest, vec![server.source()]);
        let pid = tokio::select! {
            _ = scene.store.ensure(&request) => panic!("too fast"),
            pid = running_unpacker(&scene) => pid,
        };
        for _ in 0..500 {
            if unpackers().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!unpackers().contains(&pid));
        let tmp = scene.root().join("work");
        for _ in 0..500 {
            if fs::read_dir(&tmp).unwrap().count() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        scene.assert_clean();
        scene.store.ensure(&request).await.unwrap();
        assert_eq!(scene.store.used_bytes() / MIB, 192);
    });
    Ran::Passed
}

fn a_killed_agent_leaves_nothing() -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let built = slow().build();
    block_on(async {
        let server = serve(&[&built]).await;
        let mut agent = std::process::Command::new("/proc/self/exe")
            .args([
                crate::probes::AGENT,
                root.to_str().unwrap(),
                server.address(),
                &built.manifest.to_string(),
            ])
            .spawn()
            .unwrap();
        let begun = || {
            fs::read_dir(root.join("work"))
                .is_ok_and(|mut work| work.any(|e| e.unwrap().path().join("first").exists()))
        };
        for _ in 0..5000 {
            if begun() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(begun(), "the other process unpacks nothing");
        agent.kill().unwrap();
        agent.wait().unwrap();
        // At once, while the orphaned unpacker may still be about to notice.
        let store = ImageStore::open(&root, LIMIT, StoreOptions::default()).unwrap();
        let scene = Scene { folder, store };
        scene.assert_clean();
        scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap();
        assert_eq!(server.asked(built.layers[0]).len(), 1, "the verified blob had survived");
    });
    Ran::Passed
}

fn an_unpacker_that_is_none() -> Ran {
    for (what, says) in [("quiet", "Died"), ("missing", "Child"), ("odd", "Protocol")] {
        let helper = Helper {
            name: if what == "missing" { "another" } else { "layer" },
            argv0: crate::probes::ODD,
            arguments: vec![what.into()],
            ends_with_caller: true,
            most: 1,
        };
        let scene = Scene::helped(vec![helper]);
        let error = ensure(&scene, &Recipe::of([Layer::new().file("f", b"x").tar()])).unwrap_err();
        let ImageError::Unpack { source, .. } = &error else { panic!("{error:?}") };
        assert!(format!("{source:?}").starts_with(says), "{what}: {source:?}");
        scene.assert_clean();
    }
    Ran::Passed
}

fn reopen(scene: Scene, limit: u64) -> Scene {
    let Scene { folder, store } = scene;
    drop(store);
    let store = ImageStore::open(&folder.path().join("store"), limit, StoreOptions::default()).unwrap();
    Scene { folder, store }
}

fn survives_a_restart() -> Ran {
    let scene = Scene::new();
    let (one, two) = (image(1 << 20, 51), image(1 << 20, 52));
    block_on(async {
        let server = serve(&[&one, &two]).await;
        for built in [&one, &two, &one] {
            scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap();
        }
    });
    let used = scene.store.used_bytes();
    let scene = reopen(scene, LIMIT);
    assert_eq!(scene.store.used_bytes(), used);
    assert_eq!(scene.store.images().len(), 2);
    let mode = fs::metadata(scene.root()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "strangers' set-uid programs are nobody else's business");
    block_on(scene.store.ensure(&request(one.manifest, vec![]))).unwrap();
    // A lower limit at the next start: the one that was used last stays.
    let scene = reopen(scene, used - MIB / 2);
    let collected = block_on(scene.store.collect_garbage()).unwrap();
    assert_eq!(collected.layers, 1);
    assert!(scene.store.used_bytes() <= scene.store.limit_bytes());
    block_on(scene.store.ensure(&request(one.manifest, vec![]))).unwrap();
    let error = block_on(scene.store.ensure(&request(two.manifest, vec![]))).unwrap_err();
    assert!(matches!(error, ImageError::NoSource { .. }), "{error}");
    Ran::Passed
}

fn clears_up_after_a_crash() -> Ran {
    let scene = Scene::new();
    ensure(&scene, &Recipe::of([Layer::new().file("f", b"x").tar()])).unwrap();
    let used = scene.store.used_bytes();
    let root = scene.root();
    // Half an unpacking; a layer whose note was never written; a note whose layer was never renamed; a torn note.
    fs::create_dir_all(root.join("tmp/7/deep")).unwrap();
    fs::write(root.join("tmp/7/deep/file"), "x").unwrap();
    let orphan = root.join("layers").join(Digest::of(b"orphan").hex());
    fs::create_dir_all(orphan.join("x")).unwrap();
    let note = root.join("index/layers").join(format!("{}.json", Digest::of(b"note").hex()));
    fs::write(&note, "{}").unwrap();
    let torn = root.join("index/images").join(format!("{}.json", Digest::of(b"torn").hex()));
    fs::write(&torn, "{\"last_").unwrap();
    fs::write(root.join("blobs/sha256/stranger"), "x").unwrap();
    let part = root.join("blobs/sha256").join(format!("{}.part", Digest::of(b"part").hex()));
    fs::write(&part, vec![0; 1000]).unwrap();
    let scene = reopen(scene, LIMIT);
    for gone in [&root.join("tmp/7"), &orphan, &note, &torn, &root.join("blobs/sha256/stranger")] {
        assert!(!gone.exists(), "{}", gone.display());
    }
    assert!(part.exists(), "a partial download is worth keeping");
    assert_eq!(scene.store.used_bytes(), used + 1000);
    Ran::Passed
}

fn one_owner_at_a_time() -> Ran {
    let scene = Scene::new();
    let error = ImageStore::open(&scene.root(), LIMIT, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, ImageError::InUse { .. }), "{error}");
    Ran::Passed
}

fn spoilt_documents_are_fetched_again() -> Ran {
    let (scene, built) = (Scene::new(), image(1000, 61));
    block_on(async {
        let server = serve(&[&built]).await;
        let request = request(built.manifest, vec![server.source()]);
        scene.store.ensure(&request).await.unwrap();
        for digest in [built.manifest, built.config] {
            let path = scene.root().join(format!("blobs/sha256/{}", digest.hex()));
            fs::write(&path, b"{}").unwrap();
            scene.store.ensure(&request).await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), built.blobs[&digest]);
        }
    });
    Ran::Passed
}

fn a_full_disk_is_named() -> Ran {
    if !is_root() {
        return Ran::Skipped("a small disk can be mounted by root only".into());
    }
    let folder = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
        .arg(folder.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return Ran::Skipped("mount is not possible here".into());
    }
    let outcome = std::panic::catch_unwind(|| {
        let store = ImageStore::open(&folder.path().join("store"), LIMIT, StoreOptions::default()).unwrap();
        // While downloading, and while unpacking.
        let big = Recipe::of([Layer::new().file("f", &noise(8 << 20, 3)).tar()]).build();
        let tar = Layer::new().file("zeros", &vec![0; 8 << 20]).tar();
        let wide = Recipe::packed([(gzip(&tar), Digest::of(&tar))]).build();
        block_on(async {
            let server = serve(&[&big, &wide]).await;
            for built in [&big, &wide] {
                let error = store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap_err();
                assert!(matches!(error, ImageError::NoSpace { .. }), "{error:?}");
                assert_eq!(fs::read_dir(folder.path().join("store/work")).unwrap().count(), 0);
                assert_eq!(fs::read_dir(folder.path().join("store/layers")).unwrap().count(), 0);
                // What was downloaded is unused and can go.
                store.remove_unused().await.unwrap();
            }
            let small = Recipe::of([Layer::new().file("f", b"fits").tar()]).build();
            server.add(&small.blobs);
            store.ensure(&request(small.manifest, vec![server.source()])).await.unwrap();
        });
    });
    let status = std::process::Command::new("umount").arg(folder.path()).status().unwrap();
    assert!(outcome.is_ok() && status.success());
    Ran::Passed
}
