//! Sources that fail, lie, break off: what is tried next, what is said, what is kept.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sosna_layers::{
    Digest, ImageError, ImageRequest, Platform, Progress, RunConfig, Source, SourceError, StoreOptions,
};
use tokio::net::TcpListener;

use crate::{
    Ran, Test, block_on,
    layers::{LIMIT, Scene, ensure, request},
    make::{Built, Layer, Recipe, noise},
    server::{Fault, Server},
};

pub(crate) const TESTS: &[Test] = &[
    ("pulls::configuration_and_progress", configuration_and_progress),
    ("pulls::the_second_pull_needs_nobody", the_second_pull_needs_nobody),
    ("pulls::resumes_where_it_broke_off", resumes_where_it_broke_off),
    ("pulls::resumes_in_the_next_call", resumes_in_the_next_call),
    ("pulls::a_server_without_ranges", a_server_without_ranges),
    ("pulls::a_spoilt_part_is_not_believed", a_spoilt_part_is_not_believed),
    ("pulls::every_source_says_what_went_wrong", every_source_says_what_went_wrong),
    ("pulls::goes_on_to_the_next_source", goes_on_to_the_next_source),
    ("pulls::wrong_content_is_refused", wrong_content_is_refused),
    ("pulls::wrong_sizes_are_refused", wrong_sizes_are_refused),
    ("pulls::another_platform_is_named", another_platform_is_named),
    ("pulls::an_index_is_not_a_manifest", an_index_is_not_a_manifest),
    ("pulls::documents_are_bounded", documents_are_bounded),
    ("pulls::without_sources", without_sources),
    ("pulls::no_more_than_may_be_is_fetched", no_more_than_may_be_is_fetched),
];

/// Two layers, the second of 300 kB that do not compress.
fn sample() -> Built {
    let first = Layer::new().dir("etc").file("etc/passwd", b"app:x:7:8::/srv:\n").tar();
    let second = Layer::new().file("data", &noise(300_000, 7)).tar();
    let mut recipe = Recipe::of([first, second]);
    recipe.run = serde_json::json!({
        "Entrypoint": ["/init"], "Cmd": ["-v"], "Env": ["A=1"], "WorkingDir": "/srv", "User": "app",
        "Labels": {"by": "test"},
    });
    recipe.build()
}

fn impatient() -> Scene {
    let patience = Duration::from_millis(800);
    Scene::with(LIMIT, StoreOptions { patience, ..StoreOptions::default() })
}

fn configuration_and_progress() -> Ran {
    let (scene, built) = (Scene::new(), sample());
    let heard: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let image = block_on(async {
        let server = Server::start(&built.blobs).await;
        let hears = Arc::clone(&heard);
        let mut request = request(built.manifest, vec![server.source()]);
        request.progress = Some(Arc::new(move |progress| hears.lock().unwrap().push(progress)));
        scene.store.ensure(&request).await.unwrap()
    });
    let expected = RunConfig {
        entrypoint: vec!["/init".into()],
        cmd: vec!["-v".into()],
        env: vec!["A=1".into()],
        working_dir: Some("/srv".into()),
        user: Some("app".into()),
        labels: [("by".to_owned(), "test".to_owned())].into(),
    };
    assert_eq!(image.config, expected);
    assert_eq!(image.manifest_digest, built.manifest);
    assert_eq!(image.layers.len(), 2);
    assert!(image.layers[0].join("etc/passwd").exists(), "bottom first");
    let total: usize = built.layers.iter().map(|digest| built.blobs[digest].len()).sum();
    let heard = heard.lock().unwrap();
    assert!(heard.is_sorted_by_key(|progress| progress.done), "{heard:?}");
    assert_eq!(heard.last(), Some(&Progress { done: total as u64, total: total as u64 }));
    let user = sosna_layers::resolve_user(&image.layers, image.config.user.as_deref().unwrap()).unwrap();
    assert_eq!((user.uid, user.gid), (7, 8));
    // Compressed layers are gone, the two documents stay.
    assert_eq!(fs::read_dir(scene.root().join("blobs/sha256")).unwrap().count(), 2);
    Ran::Passed
}

fn the_second_pull_needs_nobody() -> Ran {
    let (scene, built) = (Scene::new(), sample());
    block_on(async {
        let server = Server::start(&built.blobs).await;
        let request = request(built.manifest, vec![server.source()]);
        let first = scene.store.ensure(&request).await.unwrap();
        let second = scene.store.ensure(&request).await.unwrap();
        assert_eq!(first.layers, second.layers);
        for digest in built.blobs.keys() {
            assert_eq!(server.asked(*digest), [0], "{digest}");
        }
        drop(server);
        scene.store.ensure(&crate::layers::request(built.manifest, vec![])).await.unwrap();
    });
    Ran::Passed
}

fn resumes_where_it_broke_off() -> Ran {
    let (scene, built) = (Scene::new(), sample());
    block_on(async {
        let server = Server::start(&built.blobs).await;
        let layer = built.layers[1];
        server.fault(layer, Fault::CutOnce(100_000));
        scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap();
        assert_eq!(server.asked(layer), [0, 100_000]);
    });
    Ran::Passed
}

fn resumes_in_the_next_call() -> Ran {
    let (scene, built) = (impatient(), sample());
    block_on(async {
        let server = Server::start(&built.blobs).await;
        let layer = built.layers[1];
        server.fault(layer, Fault::Stall);
        let request = request(built.manifest, vec![server.source()]);
        let error = scene.store.ensure(&request).await.unwrap_err();
        assert!(error.to_string().contains("silent"), "{error}");
        let half = built.blobs[&layer].len() as u64 / 2;
        server.heal();
        scene.store.ensure(&request).await.unwrap();
        assert_eq!(server.asked(layer), [0, half]);
    });
    Ran::Passed
}

fn a_server_without_ranges() -> Ran {
    let (scene, built) = (impatient(), sample());
    block_on(async {
        let server = Server::start(&built.blobs).await;
        let layer = built.layers[1];
        server.fault(layer, Fault::Stall);
        let request = request(built.manifest, vec![server.source()]);
        scene.store.ensure(&request).await.unwrap_err();
        server.fault(layer, Fault::NoRange);
        scene.store.ensure(&request).await.unwrap();
    });
    Ran::Passed
}

fn a_spoilt_part_is_not_believed() -> Ran {
    let (scene, built) = (Scene::new(), sample());
    let layer = built.layers[1];
    let part = scene.root().join(format!("blobs/sha256/{}.part", layer.hex()));
    for spoilt in [vec![b'?'; 1000], vec![b'?'; built.blobs[&layer].len()], vec![b'?'; 1 << 20]] {
        fs::write(&part, &spoilt).unwrap();
        let image = block_on(async {
            let server = Server::start(&built.blobs).await;
            scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap()
        });
        drop(image);
        block_on(scene.store.remove_unused()).unwrap();
    }
    Ran::Passed
}

fn every_source_says_what_went_wrong() -> Ran {
    let (scene, built) = (impatient(), sample());
    block_on(async {
        let unreachable = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let nothing = Server::start(&[].into()).await;
        let servers = [
            Fault::Status(401),
            Fault::Status(429),
            Fault::Status(503),
            Fault::Instead(b"other".to_vec()),
            Fault::CutAlways(0),
            Fault::Late(Duration::from_secs(5)),
        ];
        let mut keep = Vec::new();
        let mut sources = vec![
            Source::registry("Not/A/Name"),
            Source::registry(format!("{unreachable}/x")),
            Source::registry(format!("{unreachable}/x@{}", Digest::of(b"other"))),
            Source::Content { base_url: format!("http://{unreachable}"), client: reqwest::Client::new() },
            nothing.source(),
        ];
        for fault in servers {
            let server = Server::start(&built.blobs).await;
            server.fault(built.manifest, fault);
            sources.push(server.source());
            keep.push(server);
        }
        let error = scene.store.ensure(&request(built.manifest, sources)).await.unwrap_err();
        let text = error.to_string();
        let ImageError::Sources { failures, digest, .. } = error else { panic!("{text}") };
        assert_eq!(digest, built.manifest);
        let errors: Vec<&SourceError> = failures.0.iter().map(|failure| &failure.error).collect();
        assert!(
            matches!(
                errors[..],
                [
                    SourceError::Reference(_),
                    SourceError::Unreachable(_),
                    SourceError::OtherDigest(_),
                    SourceError::Unreachable(_),
                    SourceError::Unknown,
                    SourceError::Unauthorised(401),
                    SourceError::Throttled,
                    SourceError::Status(503),
                    SourceError::WrongDigest { .. },
                    SourceError::Broken { done: 0, .. },
                    SourceError::Stalled { .. },
                ]
            ),
            "{errors:?}"
        );
        for word in [
            "unreachable",
            "refused",
            "unknown there",
            "not authorised",
            "wrong content",
            "registry Not/A/Name",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    });
    scene.assert_clean();
    Ran::Passed
}

fn goes_on_to_the_next_source() -> Ran {
    let (scene, built) = (impatient(), sample());
    block_on(async {
        // The first has the manifest only, the second everything but one layer, the third all.
        let manifest_only = [(built.manifest, built.blobs[&built.manifest].clone())].into();
        let first = Server::start(&manifest_only).await;
        let second = Server::start(&built.blobs).await;
        second.fault(built.layers[1], Fault::Instead(noise(built.blobs[&built.layers[1]].len(), 99)));
        let third = Server::start(&built.blobs).await;
        let sources = vec![first.source(), second.source(), third.source()];
        scene.store.ensure(&request(built.manifest, sources)).await.unwrap();
        assert_eq!(third.asked(built.layers[0]).len(), 0);
        assert_eq!(third.asked(built.layers[1]), [0]);
        assert_eq!(second.asked(built.manifest).len(), 0);
    });
    // An unreachable source is asked once, not once for each blob.
    let scene = impatient();
    block_on(async {
        let dead = Server::start(&built.blobs).await;
        dead.fault(built.manifest, Fault::Late(Duration::from_secs(20)));
        let good = Server::start(&built.blobs).await;
        let start = Instant::now();
        scene.store.ensure(&request(built.manifest, vec![dead.source(), good.source()])).await.unwrap();
        assert_eq!(dead.asked(built.config).len(), 0);
        assert!(start.elapsed() < Duration::from_secs(10));
    });
    Ran::Passed
}

fn wrong_content_is_refused() -> Ran {
    let built = sample();
    for victim in [built.manifest, built.config, built.layers[0]] {
        let scene = Scene::new();
        let error = block_on(async {
            let server = Server::start(&built.blobs).await;
            let mut other = built.blobs[&victim].clone();
            let last = other.len() - 1;
            other[last] ^= 1;
            server.fault(victim, Fault::Instead(other));
            scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap_err()
        });
        let ImageError::Sources { failures, digest, .. } = error else { panic!("{error}") };
        assert_eq!(digest, victim);
        assert!(matches!(failures.0[0].error, SourceError::WrongDigest { .. }), "{failures}");
        assert!(!scene.root().join(format!("blobs/sha256/{}", victim.hex())).exists());
        assert!(!scene.root().join(format!("blobs/sha256/{}.part", victim.hex())).exists());
    }
    Ran::Passed
}

fn wrong_sizes_are_refused() -> Ran {
    for lie in [-1, 1, 1000] {
        let mut recipe = Recipe::of([Layer::new().file("f", &noise(5000, 3)).tar()]);
        recipe.size_lie = lie;
        let scene = Scene::new();
        let error = ensure(&scene, &recipe).unwrap_err();
        let ImageError::Sources { failures, .. } = error else { panic!("{error}") };
        assert!(matches!(failures.0[0].error, SourceError::WrongSize { .. }), "{lie}: {failures}");
        scene.assert_clean();
    }
    Ran::Passed
}

fn another_platform_is_named() -> Ran {
    let foreign = Platform { os: "linux".into(), architecture: "s390x".into(), variant: None };
    let mut recipe = Recipe::of([Layer::new().file("f", b"x").tar()]);
    recipe.platform = foreign.clone();
    let scene = Scene::new();
    let built = recipe.build();
    let (error, asked) = block_on(async {
        let server = Server::start(&built.blobs).await;
        let error = scene.store.ensure(&request(built.manifest, vec![server.source()])).await.unwrap_err();
        (error, server.asked(built.layers[0]).len())
    });
    let text = error.to_string();
    assert!(text.contains("linux/s390x") && text.contains(&Platform::native().to_string()), "{text}");
    assert!(matches!(error, ImageError::Platform { found, .. } if *found == foreign));
    assert_eq!(asked, 0, "no layer of a foreign image is fetched");
    Ran::Passed
}

fn an_index_is_not_a_manifest() -> Ran {
    let index = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    let digest = Digest::of(&index);
    let scene = Scene::new();
    let error = block_on(async {
        let server = Server::start(&[(digest, index)].into()).await;
        scene.store.ensure(&request(digest, vec![server.source()])).await.unwrap_err()
    });
    let ImageError::Document { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains("index"), "{source}");
    Ran::Passed
}

fn documents_are_bounded() -> Ran {
    let huge = vec![b' '; (4 << 20) + 1];
    let digest = Digest::of(&huge);
    let scene = Scene::new();
    let error = block_on(async {
        let server = Server::start(&[(digest, huge)].into()).await;
        scene.store.ensure(&request(digest, vec![server.source()])).await.unwrap_err()
    });
    let ImageError::Sources { failures, .. } = error else { panic!("{error}") };
    assert!(matches!(failures.0[0].error, SourceError::WrongSize { .. }), "{failures}");
    Ran::Passed
}

fn without_sources() -> Ran {
    let scene = Scene::new();
    let request = ImageRequest {
        manifest_digest: Digest::of(b"unknown"),
        platform: Platform::native(),
        sources: vec![],
        most_bytes: None,
        progress: None,
    };
    let error = block_on(scene.store.ensure(&request)).unwrap_err();
    assert!(matches!(error, ImageError::NoSource { .. }), "{error}");
    Ran::Passed
}

fn no_more_than_may_be_is_fetched() -> Ran {
    let (scene, built) = (Scene::new(), sample());
    block_on(async {
        let server = Server::start(&built.blobs).await;
        let limited = |most_bytes| ImageRequest {
            most_bytes: Some(most_bytes),
            ..request(built.manifest, vec![server.source()])
        };
        let error = scene.store.ensure(&limited(1000)).await.unwrap_err();
        let ImageError::Costly { needed, limit: 1000 } = error else { panic!("{error}") };
        assert!(needed > 300_000, "{needed}");
        scene.store.ensure(&limited(needed)).await.unwrap();
        // What is here costs nothing.
        scene.store.ensure(&limited(0)).await.unwrap();
    });
    Ran::Passed
}
