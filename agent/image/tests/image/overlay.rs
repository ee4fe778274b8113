//! The judge is the kernel: layers mounted by overlayfs must show what the image's archives say, worked out by a
//! model that knows nothing of folders on disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use sosna_layers::{OverlayMode, resolve_user};

use crate::{
    Ran, Test, is_root,
    layers::{Scene, ensure},
    make::{Layer, Recipe, meta},
    tree::list,
};

pub(crate) const TESTS: &[Test] = &[
    ("overlay::random_images_look_as_their_archives_say", random_images_look_as_their_archives_say),
    ("overlay::an_opaque_root_hides_all_below", an_opaque_root_hides_all_below),
    ("overlay::users_are_read_through_all_layers", users_are_read_through_all_layers),
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Clone)]
enum Step {
    Dir(u32),
    File(String),
    Link(String),
    Hide,
    Opaque,
}

/// One layer over few names, so that layers get in each other's way: parents always listed, no contradictions.
fn random_layer(random: &mut Random, number: usize) -> Vec<(String, Step)> {
    let mut steps: BTreeMap<String, Step> = BTreeMap::new();
    for _ in 0..=random.below(8) {
        let depth = 1 + random.below(3);
        let mut path = String::new();
        for level in 0..depth {
            if level > 0 {
                // A parent must be a folder of this layer, with this layer's mode.
                match steps
                    .entry(path.clone())
                    .or_insert_with(|| Step::Dir(0o750 + u32::try_from(number).unwrap()))
                {
                    Step::Dir(_) => {}
                    _ => break,
                }
                path.push('/');
            }
            path.push(char::from(b'a' + u8::try_from(random.below(3)).unwrap()));
        }
        if steps.contains_key(&path) || path.ends_with('/') {
            continue;
        }
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let step = match random.below(6) {
            0 => Step::Dir(0o700),
            1 => Step::Link(format!("target-{number}")),
            2 => Step::Hide,
            3 if !folder.is_empty() => {
                steps.insert(format!("{folder}\0"), Step::Opaque);
                continue;
            }
            _ => Step::File(format!("by {number}")),
        };
        steps.insert(path, step);
    }
    steps.into_iter().collect()
}

fn archive(steps: &[(String, Step)]) -> Vec<u8> {
    steps
        .iter()
        .fold(Layer::new(), |layer, (path, step)| match step {
            Step::Dir(mode) => layer.entry(tar::EntryType::Directory, path, "", &meta(*mode), b""),
            Step::File(text) => layer.file(path, text.as_bytes()),
            Step::Link(target) => layer.symlink(path, target),
            Step::Hide => {
                let (folder, name) = path.rsplit_once('/').map_or(("", &path[..]), |(f, n)| (f, n));
                let slash = if folder.is_empty() { "" } else { "/" };
                layer.file(&format!("{folder}{slash}.wh.{name}"), b"")
            }
            Step::Opaque => layer.file(&format!("{}.wh..wh..opq", path.trim_end_matches('\0')), b""),
        })
        .tar()
}

fn remove_below(tree: &mut BTreeMap<String, String>, path: &str) {
    let prefix = format!("{path}/");
    tree.retain(|other, _| !other.starts_with(&prefix));
}

/// image-spec, layer.md, "Applying Changesets": what a layer hides is hidden first, then its entries are laid over.
fn model(layers: &[Vec<(String, Step)>]) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for layer in layers {
        for (path, step) in layer {
            match step {
                Step::Hide => {
                    tree.remove(path);
                    remove_below(&mut tree, path);
                }
                Step::Opaque => remove_below(&mut tree, path.trim_end_matches(['/', '\0'])),
                _ => {}
            }
        }
        for (path, step) in layer {
            let text = match step {
                Step::Dir(mode) => format!("dir {mode:o}"),
                Step::File(text) => format!("file 644 {text}"),
                Step::Link(target) => format!("link {target}"),
                _ => continue,
            };
            if !text.starts_with("dir") {
                remove_below(&mut tree, path);
            }
            tree.insert(path.clone(), text);
        }
    }
    tree
}

/// Mounts, looks, unmounts.
fn mounted(scene: &Scene, layers: &[PathBuf]) -> Result<BTreeMap<String, String>, String> {
    // Two lower layers are the least for a read-only overlay.
    let empty = scene.folder.path().join("empty");
    let target = scene.folder.path().join("merged");
    for folder in [&empty, &target] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let lower: Vec<String> =
        layers.iter().rev().map(PathBuf::as_path).chain([empty.as_path()]).map(show).collect();
    let extra = if scene.store.overlay_mode() == OverlayMode::UserXattr { ",userxattr" } else { "" };
    let options = format!("ro,lowerdir={}{extra}", lower.join(":"));
    let mount =
        Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(&target).output();
    let mount = mount.map_err(|e| e.to_string())?;
    if !mount.status.success() {
        return Err(String::from_utf8_lossy(&mount.stderr).into_owned());
    }
    let found = std::panic::catch_unwind(|| list(&target));
    assert!(Command::new("umount").arg(&target).status().unwrap().success());
    Ok(found.unwrap())
}

fn show(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn random_images_look_as_their_archives_say() -> Ran {
    if !is_root() {
        return Ran::Skipped("overlayfs is mounted by root only".into());
    }
    for mode in [OverlayMode::Trusted, OverlayMode::UserXattr] {
        if let Err(reason) = random_images(&Scene::marked(mode)) {
            return Ran::Skipped(format!("overlayfs cannot be mounted with {mode}: {reason}"));
        }
    }
    Ran::Passed
}

fn random_images(scene: &Scene) -> Result<(), String> {
    let mut random = Random(2026);
    let (mut images, mut hidden, mut opaque) = (0, 0, 0);
    while images < 20 {
        let layers: Vec<_> = (0..2 + random.below(3))
            .map(|n| random_layer(&mut random, usize::try_from(n).unwrap()))
            .collect();
        let tars: Vec<_> = layers.iter().map(|layer| archive(layer)).collect();
        hidden += layers.iter().flatten().filter(|(_, step)| matches!(step, Step::Hide)).count();
        opaque += layers.iter().flatten().filter(|(_, step)| matches!(step, Step::Opaque)).count();
        let image = ensure(scene, &Recipe::of(tars)).unwrap();
        let found = mounted(scene, &image.layers)?;
        assert_eq!(found, model(&layers), "image {images}");
        images += 1;
    }
    assert!(hidden > 20 && opaque > 20, "the random layers test too little: {hidden} {opaque}");
    Ok(())
}

fn an_opaque_root_hides_all_below() -> Ran {
    let below = Layer::new().file("old", b"o").tar();
    let above = Layer::new().file(".wh..wh..opq", b"").file("new", b"n").file(".wh.needless", b"").tar();
    let top = Layer::new().file("top", b"t").tar();
    let scene = Scene::new();
    let image = ensure(&scene, &Recipe::of([below, above, top.clone(), top])).unwrap();
    assert_eq!(image.layers.len(), 2, "what is hidden, and what is there twice, is left out");
    if !is_root() {
        return Ran::Skipped("overlayfs is mounted by root only".into());
    }
    match mounted(&scene, &image.layers) {
        Ok(found) => assert_eq!(found.keys().collect::<Vec<_>>(), ["new", "top"]),
        Err(reason) => return Ran::Skipped(format!("overlayfs cannot be mounted: {reason}")),
    }
    Ran::Passed
}

fn users_are_read_through_all_layers() -> Ran {
    let line = |name: &str, uid: u32| format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n").into_bytes();
    let base = Layer::new()
        .dir("etc")
        .file("etc/passwd", &line("base", 1))
        .file("etc/group", b"g:x:77:base\n")
        .tar();
    let uid = |tars: Vec<Vec<u8>>, user: &str| {
        let scene = Scene::new();
        let image = ensure(&scene, &Recipe::of(tars)).unwrap();
        resolve_user(&image.layers, user).map(|user| (user.uid, user.additional_gids)).ok()
    };
    assert_eq!(uid(vec![base.clone()], "base"), Some((1, vec![77])));
    // The upper file counts; a whiteout and an opaque folder hide the lower one.
    let upper = Layer::new().dir("etc").file("etc/passwd", &line("upper", 2)).tar();
    assert_eq!(uid(vec![base.clone(), upper.clone()], "upper"), Some((2, vec![])));
    assert_eq!(uid(vec![base.clone(), upper], "base"), None);
    assert_eq!(uid(vec![base.clone(), Layer::new().file("etc/.wh.passwd", b"").tar()], "base"), None);
    assert_eq!(uid(vec![base.clone(), Layer::new().file("etc/.wh..wh..opq", b"").tar()], "base"), None);
    assert_eq!(uid(vec![base.clone(), Layer::new().file(".wh.etc", b"").tar()], "base"), None);
    // Links across layers stay within the image, also absolute ones and those that climb.
    let moved = Layer::new().file("usr/lib/pw", &line("moved", 3)).tar();
    for target in ["/usr/lib/pw", "../usr/lib/pw", "../../../../usr/lib/pw", "/usr/../usr/./lib/pw"] {
        let link = Layer::new().dir("etc").symlink("etc/passwd", target).tar();
        assert_eq!(uid(vec![moved.clone(), link], "moved"), Some((3, vec![])), "{target}");
    }
    // This machine's own root account must not be found by any way.
    let tricks = [
        Layer::new().dir("etc").symlink("etc/passwd", "/etc/passwd"),
        Layer::new().symlink("etc", "/etc"),
        Layer::new().symlink("etc", "../../../../../../etc"),
        Layer::new().dir("etc").symlink("etc/passwd", "/proc/self/root/etc/passwd"),
        Layer::new().dir("etc").entry(tar::EntryType::Fifo, "etc/passwd", "", &meta(0o644), b""),
        Layer::new().dir("etc/passwd"),
        Layer::new().file("etc", b"root:x:0:0::/root:\n"),
    ];
    for (i, trick) in tricks.into_iter().enumerate() {
        assert_eq!(uid(vec![trick.tar()], "root"), None, "trick {i}");
    }
    Ran::Passed
}
