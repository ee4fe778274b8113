//! One layer at a time: what is kept, what is refused, what is bounded.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use sosna_layers::{
    Digest, Image, ImageError, ImageRequest, ImageStore, OverlayMode, Platform, Prepared, Reach,
    StoreOptions,
    unpack::{Limits, Refusal, UnpackError},
};
use sosna_privsep::{Helper, Monitor};
use tar::EntryType;
use tempfile::TempDir;

use crate::{
    Ran, Test, block_on, is_root,
    make::{Layer, Meta, Recipe, gzip, meta, zstd},
    server::Server,
    tree::{list, xattr},
};

pub(crate) const TESTS: &[Test] = &[
    ("layers::everything_that_a_layer_may_hold", everything_that_a_layer_may_hold),
    ("layers::file_capabilities_survive", file_capabilities_survive),
    ("layers::later_entries_win", later_entries_win),
    ("layers::whiteouts_and_opaque_folders", whiteouts_and_opaque_folders),
    ("layers::hostile_entries_are_refused", hostile_entries_are_refused),
    ("layers::bounds_hold", bounds_hold),
    ("layers::bombs_are_refused", bombs_are_refused),
    ("layers::damaged_layers_are_refused", damaged_layers_are_refused),
    ("layers::wrong_diff_id_is_refused", wrong_diff_id_is_refused),
    ("layers::all_compressions", all_compressions),
    ("layers::what_gnu_tar_writes", what_gnu_tar_writes),
];

pub(crate) const LIMIT: u64 = 256 << 20;

pub(crate) struct Scene {
    pub(crate) folder: TempDir,
    pub(crate) store: ImageStore,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(LIMIT, StoreOptions::default())
    }

    pub(crate) fn with(limit: u64, mut options: StoreOptions) -> Self {
        // The tests' servers.
        options.reach = Reach::new(["127.0.0.1"]);
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&folder.path().join("store"), limit, options).unwrap();
        Self { folder, store }
    }

    /// With layers that are marked in another way than this machine would.
    pub(crate) fn marked(mode: OverlayMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prepared = Prepared::new(&folder.path().join("store"), None, Some(mode)).unwrap();
        Self::over(folder, &prepared, prepared.helpers())
    }

    /// With other helpers than the store's.
    pub(crate) fn helped(helpers: Vec<Helper>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prepared = Prepared::new(&folder.path().join("store"), None, None).unwrap();
        Self::over(folder, &prepared, helpers)
    }

    fn over(folder: TempDir, prepared: &Prepared, helpers: Vec<Helper>) -> Self {
        let launcher = Monitor::new(helpers).unwrap().beside().unwrap();
        let options = StoreOptions { reach: Reach::new(["127.0.0.1"]), ..StoreOptions::default() };
        let store = ImageStore::new(prepared, launcher, LIMIT, options).unwrap();
        Self { folder, store }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Nothing half-done is to be seen.
    pub(crate) fn assert_clean(&self) {
        for place in ["tmp", "work", "layers", "index/layers"] {
            let left: Vec<_> =
                fs::read_dir(self.root().join(place)).unwrap().map(|e| e.unwrap().path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

pub(crate) fn request(manifest: Digest, sources: Vec<sosna_layers::Source>) -> ImageRequest {
    ImageRequest {
        manifest_digest: manifest,
        platform: Platform::native(),
        sources,
        most_bytes: None,
        progress: None,
    }
}

/// Serves the recipe and asks the store for it.
pub(crate) fn ensure(scene: &Scene, recipe: &Recipe) -> Result<Arc<Image>, ImageError> {
    block_on(async {
        let built = recipe.build();
        let server = Server::start(&built.blobs).await;
        scene.store.ensure(&request(built.manifest, vec![server.source()])).await
    })
}

fn refusal(recipe: &Recipe, limits: Option<Limits>) -> Refusal {
    let scene = Scene::with(LIMIT, StoreOptions { limits, ..StoreOptions::default() });
    let outside = scene.folder.path().join("outside");
    fs::write(&outside, "untouched").unwrap();
    let error = ensure(&scene, recipe).unwrap_err();
    scene.assert_clean();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    let others: Vec<_> = fs::read_dir(scene.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(others.len(), 2, "something was written outside: {others:?}");
    match error {
        ImageError::Unpack { source: UnpackError::Refused(refusal), .. } => refusal,
        other => panic!("not a refusal: {other:?}"),
    }
}

fn modified(path: &Path) -> i64 {
    fs::symlink_metadata(path).unwrap().mtime()
}

fn everything_that_a_layer_may_hold() -> Ran {
    let owned = Meta { mode: 0o640, uid: 1234, gid: 70_000, mtime: 1_234_567_890 };
    let long = format!("deep/{}/{}", "n".repeat(120), "m".repeat(80));
    let layer = Layer::new()
        .dir("./")
        .entry(EntryType::Directory, "tmp/", "", &meta(0o1777), b"")
        .entry(EntryType::Regular, "tmp/owned", "", &owned, b"mine")
        .entry(EntryType::Regular, "su", "", &meta(0o4755), b"#!")
        .hard_link("su2", "./su")
        .symlink("abs", "/etc/shadow")
        .symlink("up", "../../../../etc")
        .entry(EntryType::Fifo, "pipe", "", &meta(0o622), b"")
        .file("/rooted", b"a leading slash is the layer's root")
        .pax(&[("mtime", b"1500000000.25"), ("SCHILY.xattr.user.note", b"line\n2"), ("uid", b"99999")])
        .file("noted", b"x")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"z"),
        ])
        .dir("marked")
        .pax(&[("mtime", b"-1.5")])
        .file("before-1970", b"")
        .pax(&[("mtime", b"9223372036854775807")])
        .file("after-all", b"")
        .file(&long, b"long")
        .file("implied/by/path", b"p")
        .tar();
    let scene = Scene::new();
    let image = ensure(&scene, &Recipe::of([layer])).unwrap();
    let root = &image.layers[0];
    let found = list(root);
    let expected = [
        ("tmp", "dir 1777"),
        ("tmp/owned", "file 640 mine"),
        ("su", "file 4755 #!"),
        ("su2", "file 4755 #!"),
        ("abs", "link /etc/shadow"),
        ("up", "link ../../../../etc"),
        ("pipe", "fifo 622"),
        ("rooted", "file 644 a leading slash is the layer's root"),
        ("noted", "file 644 x"),
        ("marked", "dir 755"),
        ("implied/by/path", "file 644 p"),
        ("implied/by", "dir 755"),
        (&long, "file 644 long"),
    ];
    for (path, text) in expected {
        assert_eq!(found.get(path).map(String::as_str), Some(text), "{path}");
    }
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(stat("su").ino(), stat("su2").ino());
    assert_eq!(modified(&root.join("tmp/owned")), 1_234_567_890);
    assert_eq!(modified(&root.join("tmp")), 1_000_000_000, "a folder's time is not that of its last entry");
    assert_eq!(modified(&root.join("abs")), 1_000_000_000);
    assert_eq!(modified(&root.join("before-1970")), -2);
    assert_eq!((modified(&root.join("noted")), stat("noted").mtime_nsec()), (1_500_000_000, 250_000_000));
    assert_eq!(xattr(&root.join("noted"), "user.note").as_deref(), Some(&b"line\n2"[..]));
    assert_eq!(xattr(&root.join("marked"), "trusted.overlay.opaque"), None);
    assert_eq!(xattr(&root.join("marked"), "user.overlay.opaque"), None);
    assert_eq!(xattr(&root.join("marked"), "security.selinux"), None);
    if is_root() {
        assert_eq!((stat("tmp/owned").uid(), stat("tmp/owned").gid()), (1234, 70_000));
        assert_eq!(stat("noted").uid(), 99_999);
        // Nothing is the unpacker's own, whoever that is.
        for path in ["implied", "implied/by", "implied/by/path", "abs", "pipe", "marked"] {
            assert_eq!((stat(path).uid(), stat(path).gid()), (0, 0), "{path}");
        }
    }
    assert!(image.size_bytes > 4096 * 10 && image.size_bytes < 1 << 20, "{}", image.size_bytes);
    Ran::Passed
}

fn file_capabilities_survive() -> Ran {
    if !is_root() {
        return Ran::Skipped("file capabilities can be set by root only".into());
    }
    // VFS_CAP_REVISION_2 with effective bit; the byte 0x0a is a line feed, at which naive readers cut.
    let value = [1, 0, 0, 2, 0x0a, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Layer::new().pax(&[("SCHILY.xattr.security.capability", &value)]).file("ping", b"x").tar();
    let scene = Scene::new();
    let image = ensure(&scene, &Recipe::of([layer])).unwrap();
    assert_eq!(xattr(&image.layers[0].join("ping"), "security.capability").as_deref(), Some(&value[..]));
    Ran::Passed
}

fn later_entries_win() -> Ran {
    let layer = Layer::new()
        .file("twice", b"one")
        .file("twice", b"two")
        .symlink("was-link", "/etc")
        .dir("was-link")
        .file("was-link/inside", b"i")
        .symlink("was-link-2", "/etc/passwd")
        .file("was-link-2", b"file now")
        .dir("empty")
        .file("empty", b"file now")
        .entry(EntryType::Directory, "d", "", &meta(0o700), b"")
        .entry(EntryType::Directory, "d", "", &meta(0o711), b"")
        .tar();
    let scene = Scene::new();
    let image = ensure(&scene, &Recipe::of([layer])).unwrap();
    let found = list(&image.layers[0]);
    for (path, text) in [
        ("twice", "file 644 two"),
        ("was-link", "dir 755"),
        ("was-link/inside", "file 644 i"),
        ("was-link-2", "file 644 file now"),
        ("empty", "file 644 file now"),
        ("d", "dir 711"),
    ] {
        assert_eq!(found[path], text, "{path}");
    }
    Ran::Passed
}

fn whiteouts_and_opaque_folders() -> Ran {
    let layer = Layer::new()
        .dir("a")
        .file("a/.wh.gone", b"")
        .dir("o")
        .file("o/.wh..wh..opq", b"")
        .file("o/new", b"n")
        .file("o/.wh.needless", b"")
        // Hidden, then made anew: what was below must not shine through.
        .file(".wh.again", b"")
        .dir("again")
        .file("again/x", b"x")
        // The same the other way round, and without an entry for the folder.
        .dir("later")
        .file(".wh.later", b"")
        .file(".wh.bare", b"")
        .file("bare/x", b"x")
        // A file of the same layer is not hidden by its whiteout.
        .file("kept", b"k")
        .file(".wh.kept", b"")
        .file(".wh..wh.plnk", b"")
        .tar();
    let scene = Scene::new();
    let image = ensure(&scene, &Recipe::of([layer])).unwrap();
    let root = &image.layers[0];
    let found = list(root);
    assert_eq!(found["a/gone"], "whiteout");
    assert_eq!(found["kept"], "file 644 k");
    assert!(!found.keys().any(|path| path.contains(".wh.")), "{found:?}");
    assert!(!found.contains_key("o/needless"));
    let mark = scene.store.overlay_mode().opaque_attribute();
    for (path, opaque) in [("o", true), ("again", true), ("later", true), ("bare", true), ("a", false)] {
        assert_eq!(xattr(&root.join(path), mark).is_some(), opaque, "{path}");
        assert!(found[path].starts_with("dir"));
    }
    assert_eq!(modified(&root.join("o")), 1_000_000_000);
    Ran::Passed
}

fn hostile_entries_are_refused() -> Ran {
    type Check = fn(&Refusal) -> bool;
    let new = Layer::new;
    let device = |kind, path| new().entry(kind, path, "", &meta(0o666), b"");
    let cases: Vec<(&str, Layer, Check)> = vec![
        ("dotdot", new().file("../outside", b"x"), |r| matches!(r, Refusal::Climbs { .. })),
        ("dotdot inside", new().dir("a").file("a/../../outside", b"x"), |r| {
            matches!(r, Refusal::Climbs { .. })
        }),
        ("absolute dotdot", new().file("/../outside", b"x"), |r| matches!(r, Refusal::Climbs { .. })),
        ("dotdot folder", new().dir(".."), |r| matches!(r, Refusal::Climbs { .. })),
        ("dotdot whiteout", new().file("../.wh.outside", b""), |r| matches!(r, Refusal::Climbs { .. })),
        ("through absolute link", new().symlink("l", "/tmp").file("l/x", b"x"), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("through relative link", new().symlink("l", "../..").file("l/outside", b"x"), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("through link inside", new().dir("d").symlink("l", "d").file("l/x", b"x"), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("folder through link", new().symlink("l", "/tmp").dir("l/sub"), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("link through link", new().symlink("l", "/tmp").symlink("l/m", "x"), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("whiteout through link", new().symlink("l", "../..").file("l/.wh.outside", b""), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("opaque through link", new().symlink("l", "../..").file("l/.wh..wh..opq", b""), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("hard link out", new().hard_link("h", "../../../outside"), |r| {
            matches!(r, Refusal::HardLinkOutside { .. })
        }),
        ("hard link absolute", new().hard_link("h", "/etc/passwd"), |r| {
            matches!(r, Refusal::HardLinkOutside { .. })
        }),
        ("hard link nowhere", new().hard_link("h", "missing"), |r| {
            matches!(r, Refusal::HardLinkOutside { .. })
        }),
        ("hard link to link", new().symlink("l", "/etc/passwd").hard_link("h", "l"), |r| {
            matches!(r, Refusal::HardLinkToNonFile { .. })
        }),
        ("hard link through link", new().symlink("l", "/etc").hard_link("h", "l/passwd"), |r| {
            matches!(r, Refusal::ThroughSymlink { .. })
        }),
        ("hard link to folder", new().dir("d").hard_link("h", "d"), |r| {
            matches!(r, Refusal::HardLinkToNonFile { .. })
        }),
        ("hard link to whiteout", new().file(".wh.w", b"").hard_link("h", "w"), |r| {
            matches!(r, Refusal::HardLinkToNonFile { .. })
        }),
        ("hard link to root", new().hard_link("h", "."), |r| matches!(r, Refusal::HardLinkToNonFile { .. })),
        ("character device", device(EntryType::Char, "null"), |r| matches!(r, Refusal::Device { .. })),
        ("block device", device(EntryType::Block, "sda"), |r| matches!(r, Refusal::Device { .. })),
        ("empty whiteout", new().file(".wh.", b""), |r| matches!(r, Refusal::Whiteout { .. })),
        ("whiteout of dotdot", new().file(".wh...", b""), |r| matches!(r, Refusal::Whiteout { .. })),
        ("whiteout of dot", new().file("d/.wh..", b""), |r| matches!(r, Refusal::Whiteout { .. })),
        ("file as folder", new().file("f", b"x").file("f/x", b"x"), |r| {
            matches!(r, Refusal::Conflict { .. })
        }),
        ("file over full folder", new().file("d/x", b"x").file("d", b"x"), |r| {
            matches!(r, Refusal::Conflict { .. })
        }),
        ("link as root", new().symlink("/", "/etc"), |r| matches!(r, Refusal::Conflict { .. })),
        ("sparse", device(EntryType::GNUSparse, "s"), |r| matches!(r, Refusal::Kind { .. })),
        ("unknown type", device(EntryType::new(b'V'), "v"), |r| matches!(r, Refusal::Kind { .. })),
        ("zero byte", new().pax(&[("path", b"a\0b")]).file("x", b"x"), |r| {
            matches!(r, Refusal::Damaged { .. })
        }),
        ("owner -1", new().pax(&[("uid", b"4294967295")]).file("x", b"x"), |r| {
            matches!(r, Refusal::Damaged { .. })
        }),
        ("pax climbs", new().pax(&[("path", b"../outside")]).file("innocent", b"x"), |r| {
            matches!(r, Refusal::Climbs { .. })
        }),
    ];
    for (name, layer, check) in cases {
        let found = refusal(&Recipe::of([layer.tar()]), None);
        assert!(check(&found), "{name}: {found:?}");
    }
    Ran::Passed
}

fn bounds_hold() -> Ran {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::for_store(LIMIT);
        change(&mut limits);
        Some(limits)
    };
    let many = (0..20).fold(Layer::new(), |layer, n| layer.file(&format!("f{n}"), b"")).tar();
    let found = refusal(&Recipe::of([many]), limits(|l| l.entries = 10));
    assert_eq!(found, Refusal::Entries { limit: 10 });

    let deep = Layer::new().file(&"d/".repeat(20), b"").tar();
    let found = refusal(&Recipe::of([deep]), limits(|l| l.path_depth = 10));
    assert!(matches!(found, Refusal::PathDepth { limit: 10, .. }), "{found:?}");

    let long = Layer::new().file(&"long/".repeat(1000), b"").tar();
    let found = refusal(&Recipe::of([long]), None);
    assert!(matches!(found, Refusal::PathLength { limit: 4095, .. }), "{found:?}");

    let component = Layer::new().file(&"c".repeat(256), b"").tar();
    let found = refusal(&Recipe::of([component]), None);
    assert!(matches!(found, Refusal::PathLength { limit: 255, .. }), "{found:?}");

    let value = vec![b'v'; 70_000];
    let xattrs = Layer::new().pax(&[("SCHILY.xattr.user.big", &value)]).file("x", b"").tar();
    let found = refusal(&Recipe::of([xattrs]), None);
    assert!(matches!(found, Refusal::Xattrs { limit: 65_536, .. }), "{found:?}");

    let link = Layer::new().symlink("l", &"t/".repeat(3000)).tar();
    let found = refusal(&Recipe::of([link]), None);
    assert!(matches!(found, Refusal::PathLength { .. }), "{found:?}");

    // A file that claims to be as long as can be written: nothing is written of it.
    let claim = Layer::new().pax(&[("size", b"18446744073709551615")]).file("x", b"x").tar();
    let scene = Scene::new();
    let error = ensure(&scene, &Recipe::of([claim])).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error:?}");
    scene.assert_clean();

    // A header that claims gigabytes of pax records: refused by the claim, not by running out of memory.
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(8 << 30);
    header.set_cksum();
    let claim = Layer::new().raw(header.as_bytes()).raw(&[b'1'; 4096]).tar();
    let found = refusal(&Recipe::of([claim]), None);
    assert!(matches!(&found, Refusal::Damaged { detail } if detail.contains("extended header")), "{found:?}");
    Ran::Passed
}

fn bombs_are_refused() -> Ran {
    // Inside a file, and behind the archive's end: both count.
    let zeros = vec![0; 64 << 20];
    for tar in [
        Layer::new().file("zeros", &zeros).tar(),
        Layer::new().tar().into_iter().chain(zeros.clone()).collect(),
    ] {
        let blob = gzip(&tar);
        assert!(blob.len() < 1 << 20);
        let mut limits = Limits::for_store(LIMIT);
        limits.stream_bytes = 16 << 20;
        limits.disk_bytes = 1 << 30;
        let found = refusal(&Recipe::packed([(blob, Digest::of(&tar))]), Some(limits));
        assert_eq!(found, Refusal::Stream { limit: 16 << 20 });
    }
    // A zstd frame whose header asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2: exponent 21).
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[0x03, 0, 0, 0]].concat();
    let found = refusal(&Recipe::packed([(frame, Digest::of(b""))]), None);
    assert!(matches!(found, Refusal::Damaged { .. }), "{found:?}");
    // One within the accepted window, but more memory than the child is given: it must end, one way or another.
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 16 << 3][..], &[0x02, 0xff, 0xff, 0xff]].concat();
    let mut limits = Limits::for_store(LIMIT);
    limits.memory_bytes = 48 << 20;
    let scene = Scene::with(LIMIT, StoreOptions { limits: Some(limits), ..StoreOptions::default() });
    let error = ensure(&scene, &Recipe::packed([(frame, Digest::of(b""))])).unwrap_err();
    assert!(matches!(error, ImageError::Unpack { .. }), "{error:?}");
    scene.assert_clean();
    Ran::Passed
}

fn damaged_layers_are_refused() -> Ran {
    let tar = Layer::new().file("f", &crate::make::noise(100_000, 1)).tar();
    let diff_id = Digest::of(&tar);
    let cut = |blob: Vec<u8>| blob[..blob.len() / 2].to_vec();
    let truncated = |blob| refusal(&Recipe::packed([(blob, diff_id)]), None);
    assert!(matches!(truncated(cut(gzip(&tar))), Refusal::Truncated { .. }));
    let found = truncated(cut(zstd(&tar)));
    assert!(matches!(found, Refusal::Truncated { .. } | Refusal::Damaged { .. }), "{found:?}");
    assert!(matches!(truncated(cut(tar.clone())), Refusal::Truncated { .. }));
    assert!(matches!(truncated(tar[..700].to_vec()), Refusal::Truncated { .. }));
    assert!(matches!(truncated(Vec::new()), Refusal::Truncated { .. }));
    assert!(matches!(truncated(vec![b'?'; 2000]), Refusal::Damaged { .. }));
    let mut flipped = gzip(&tar);
    flipped[5000] ^= 0x55;
    let found = truncated(flipped);
    assert!(
        matches!(found, Refusal::Damaged { .. } | Refusal::DiffId { .. } | Refusal::Truncated { .. }),
        "{found:?}"
    );
    Ran::Passed
}

fn wrong_diff_id_is_refused() -> Ran {
    let tar = Layer::new().file("f", b"x").tar();
    let promised = Digest::of(b"something else");
    let found = refusal(&Recipe::packed([(gzip(&tar), promised)]), None);
    assert_eq!(found, Refusal::DiffId { expected: promised, found: Digest::of(&tar) });
    // The padding behind the archive's end belongs to the diff_id.
    let padded = [&tar[..], &[0; 10_240]].concat();
    let found = refusal(&Recipe::packed([(gzip(&padded), Digest::of(&tar))]), None);
    assert_eq!(found, Refusal::DiffId { expected: Digest::of(&tar), found: Digest::of(&padded) });
    Ran::Passed
}

fn all_compressions() -> Ran {
    let tar = Layer::new().file("text", "again and again ".repeat(20_000).as_bytes()).tar();
    let (front, back) = tar.split_at(100_000);
    // Skippable frame, magic 0x184D2A50 with 4 bytes (RFC 8878, 3.1.2).
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let blobs = [
        tar.clone(),
        gzip(&tar),
        zstd(&tar),
        [gzip(front), gzip(back)].concat(),
        [&skippable[..], &zstd(front), &skippable, &zstd(back), &skippable].concat(),
    ];
    for (i, blob) in blobs.into_iter().enumerate() {
        let scene = Scene::new();
        let image = ensure(&scene, &Recipe::packed([(blob, Digest::of(&tar))])).unwrap();
        let found = fs::read(image.layers[0].join("text")).unwrap();
        assert_eq!(found.len(), 320_000, "compression {i}");
    }
    Ran::Passed
}

/// A tree of this machine, packed by another program in its two formats.
fn what_gnu_tar_writes() -> Ran {
    let source = Path::new("/usr/lib/git-core");
    let source = if source.is_dir() { source } else { Path::new("/etc/alternatives") };
    for format in ["gnu", "pax"] {
        let packed = Command::new("tar")
            .args(["--create", "--numeric-owner", "--format", format, "--directory"])
            .arg(source)
            .arg(".")
            .output();
        let tar = match packed {
            Ok(output) if output.status.success() => output.stdout,
            other => return Ran::Skipped(format!("tar cannot pack {}: {other:?}", source.display())),
        };
        let scene = Scene::new();
        let image = ensure(&scene, &Recipe::packed([(gzip(&tar), Digest::of(&tar))])).unwrap();
        let (found, expected) = (list(&image.layers[0]), list(source));
        assert!(expected.len() > 20);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, text) in &expected {
            assert!(found[path] == *text, "{path} differs");
            assert_eq!(modified(&image.layers[0].join(path)), modified(&source.join(path)), "{path}");
            if is_root() {
                let uid = |root: &Path| fs::symlink_metadata(root.join(path)).unwrap().uid();
                assert_eq!(uid(&image.layers[0]), uid(source), "{path}");
            }
        }
    }
    Ran::Passed
}
