//! A store whose keeper gave up its rights: layers come and go by helpers, and it cannot touch one.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use sosna_layers::{Digest, ImageStore, Prepared, Reach, Source, StoreOptions};
use sosna_privsep::{Charge, Confinement, Monitor, Streams, User, confine};
use tar::EntryType;

use crate::{
    Ran, Test, block_on, is_root,
    layers::{LIMIT, request},
    make::{Layer, Recipe, meta},
    server::Server,
};

pub(crate) const TESTS: &[Test] = &[("confined::a_keeper_without_rights", a_keeper_without_rights)];

/// Followed by the store's folder, a content server's address and a manifest's digest.
pub(crate) const KEEPER: &str = "confined-keeper";
const USER: User = User(1_073_000_002);

fn a_keeper_without_rights() -> Ran {
    if !is_root() {
        return Ran::Skipped("only root has rights to give up".into());
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    // Whoever the image belongs to lets nobody look at its accounts.
    let layer = Layer::new()
        .entry(EntryType::Directory, "etc/", "", &meta(0o700), b"")
        .entry(EntryType::Regular, "etc/passwd", "", &meta(0o600), b"app:x:100:101::/srv:/bin/sh\n")
        .file("file", b"x");
    let built = Recipe::of([layer.tar(), Layer::new().file("upper", b"y").tar()]).build();
    block_on(async {
        let server = Server::start(&built.blobs).await;
        let (root, address) = (folder.path().join("store"), server.address().to_owned());
        let manifest = built.manifest.to_string();
        let run = move || {
            let mut keeper = Command::new("/proc/self/exe");
            keeper.arg(KEEPER).arg(root).args([address, manifest]).output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    });
    Ran::Passed
}

pub(crate) fn keeper(arguments: &[String]) -> ! {
    let root = Path::new(&arguments[0]);
    let prepared = Prepared::new(root, Some(USER), None).unwrap();
    let launcher = Monitor::new(prepared.helpers()).unwrap().separate(Charge::default()).unwrap();
    let walls = confine(&Confinement { user: Some(USER), writes: &[root] });
    assert!(walls.standing.contains(&"a user of its own"), "{walls:?}");
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let options = StoreOptions { reach: Reach::new(["127.0.0.1"]), ..StoreOptions::default() };
    let store = ImageStore::new(&prepared, launcher.clone(), LIMIT, options).unwrap();
    let source = Source::Content { base_url: arguments[1].clone(), client: reqwest::Client::new() };
    let wanted = request(arguments[2].parse().unwrap(), vec![source]);
    block_on(async {
        let image = store.ensure(&wanted).await.unwrap();
        assert!(store.sandbox().unwrap().missing.is_empty(), "the unpacker has its own walls");
        let user = store.user_of(&image, "app").await.unwrap();
        assert_eq!((user.uid, user.home.as_deref()), (100, Some("/srv")));
        assert!(store.user_of(&image, "nobody").await.is_err());

        // It sees that there is a layer, and cannot look into it or do anything to it.
        let layer = &image.layers[0];
        assert_eq!(fs::read_dir(prepared.layers()).unwrap().count(), 2);
        fs::read(layer.join("file")).unwrap_err();
        fs::read_dir(layer).unwrap_err();
        fs::write(layer.join("file"), "z").unwrap_err();
        fs::write(layer.join("new"), "z").unwrap_err();
        fs::rename(layer, root.join("tmp/taken")).unwrap_err();
        fs::rename(root.join("layers"), root.join("tmp/layers")).unwrap_err();
        let other = prepared.layers().join("f".repeat(64));
        symlink("/", &other).unwrap_err();
        fs::create_dir(&other).unwrap_err();
        fs::read_dir(root.join("work")).unwrap_err();

        // What it can ask for, it can ask for what it likes: nothing but layers is concerned.
        let ask = |helper: &str, order: &str, input: &[u8]| {
            let streams = Streams::reading(input).unwrap();
            let patience = std::time::Duration::from_secs(10);
            let (_, said) = launcher.call((helper, order), streams, 1 << 16, patience).unwrap();
            String::from_utf8(said).unwrap()
        };
        for order in ["..", "", "../blobs", "x", &"A".repeat(64)] {
            let said = ask("remove-layer", order, b"");
            assert!(said.starts_with("{\"Err\""), "{order}: {said}");
            let said = ask("accounts", "", order.as_bytes());
            assert!(said.starts_with("{\"Err\""), "{order}: {said}");
            assert_eq!(ask("layer", order, b""), "");
        }
        let limits = sosna_layers::unpack::Limits::for_store(LIMIT);
        let order = serde_json::json!({ "diff_id": Digest::of(b"promised"), "limits": limits }).to_string();
        let said = ask("layer", &order, &Layer::new().file("other", b"o").tar());
        assert!(said.contains("DiffId"), "no layer comes by another's name: {said}");
        assert_eq!(fs::read_dir(prepared.layers()).unwrap().count(), 2);

        drop(image);
        assert_eq!(store.remove_unused().await.unwrap().layers, 2);
        assert_eq!(fs::read_dir(prepared.layers()).unwrap().count(), 0);
        let image = store.ensure(&wanted).await.unwrap();
        assert_eq!(image.layers.len(), 2, "and they come again");
    });
    std::process::exit(0)
}
