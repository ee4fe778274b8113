//! The demo's workload: an OCI image with Debian's POV-Ray and a script that renders one band of a scene.
//! Composed from unpacked packages: no container engine, no root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::oci::layer::{Layer, Owner};
use crate::oci::layout::{self, Image, Layout, Run};
use crate::paths::Tree;
use sosna_apt::digest;
use sosna_apt::elf::{self, ElfError};
use sosna_apt::{Apt, AptError, Package};

/// Raised when the composition below changes in a way that its inputs do not show.
const FORMAT: u32 = 1;

/// The user that renders.
const RENDER: Owner = Owner(1000);

const PACKAGES: [&str; 3] = ["povray", "povray-includes", "busybox-static"];

const RENDER_TILE: &str = include_str!("render-tile");
const POVRAY_CONF: &str = include_str!("povray.conf");

/// What `render-tile` calls; busybox has them all.
const APPLETS: [&str; 9] = ["sh", "cat", "head", "ls", "mkdir", "mv", "rm", "tail", "wc"];

/// What can go wrong when the image is composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The packages could not be had.
    #[error("POV-Ray's packages could not be had")]
    Packages(#[source] AptError),
    /// A library is missing.
    #[error("POV-Ray's libraries could not be collected")]
    Libraries(#[source] ElfError),
    /// The image could not be written.
    #[error("cannot compose the image at {place}", place = place.display())]
    Write {
        /// Where.
        place: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The scene that the demo renders.
#[must_use]
pub fn scene(tree: &Tree) -> PathBuf {
    tree.root().join("tests/scenes/pines.pov")
}

/// Composes `target/demo/povray-oci`, or returns it as it is when nothing that it is made of has changed.
///
/// # Errors
/// [`ComposeError`].
pub fn compose(tree: &Tree) -> Result<Image, ComposeError> {
    let unpacked = tree.tools().join("povray");
    let packages =
        Apt::new(&tree.tools()).unpack(&PACKAGES, true, &unpacked).map_err(ComposeError::Packages)?;
    let place = tree.demo().join("povray-oci");
    let failed = |source| ComposeError::Write { place: place.clone(), source };
    let scene = fs::read_to_string(scene(tree)).map_err(failed)?;

    let inputs_file = place.with_extension("inputs");
    let inputs =
        digest::of(format!("{FORMAT} {packages:?} {RENDER_TILE} {POVRAY_CONF} {scene}").as_bytes()).hex();
    if fs::read_to_string(&inputs_file).is_ok_and(|known| known == inputs)
        && let Ok(image) = layout::open(&place)
    {
        return Ok(image);
    }
    let files = elf::closure(&*unpacked, "usr/bin/povray").map_err(ComposeError::Libraries)?;
    let image = write(&place, &unpacked, &packages, &files.into_iter().collect::<Vec<_>>(), &scene)
        .map_err(failed)?;
    fs::write(&inputs_file, inputs).map_err(failed)?;
    Ok(image)
}

fn write(
    place: &Path,
    unpacked: &Path,
    packages: &[Package],
    files: &[String],
    scene: &str,
) -> io::Result<Image> {
    let mut layout = Layout::begin(place)?;
    layout.add(&base(unpacked, packages, files)?)?;
    layout.add(&top(scene))?;
    layout.finish(&Run {
        user: RENDER.0.to_string(),
        env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into(), "HOME=/tmp".into()],
        entrypoint: vec!["/usr/local/bin/render-tile".into()],
        working_dir: "/work".into(),
    })
}

/// POV-Ray, the libraries that it loads, and a shell. Changes only with Debian's packages.
fn base(unpacked: &Path, packages: &[Package], files: &[String]) -> io::Result<Layer> {
    let mut layer = Layer::default();
    for file in files {
        layer.copy(unpacked, file)?;
    }
    layer.copy(unpacked, "usr/share/povray-3.7/include")?;
    layer.copy(unpacked, "etc/povray")?;
    layer.copy(unpacked, "bin/busybox")?;
    for applet in APPLETS {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    // Licences of what is shipped, and which packages it came from.
    let mut list = String::new();
    for package in packages {
        let copyright = format!("usr/share/doc/{}/copyright", package.name);
        if unpacked.join(&copyright).is_file() {
            layer.copy(unpacked, &copyright)?;
        }
        let Package { name, version, arch, sha256 } = package;
        list.push_str(&format!("{name} {version} {arch} {sha256}\n"));
    }
    layer.bytes("usr/share/doc/packages", list, 0o644);
    layer.bytes("etc/passwd", "root:x:0:0:root:/:/bin/sh\nrender:x:1000:1000:render:/work:/bin/sh\n", 0o644);
    layer.bytes("etc/group", "root:x:0:\nrender:x:1000:\n", 0o644);
    layer.folder("tmp", 0o1777, Owner(0));
    for folder in ["dev", "proc", "sys"] {
        layer.folder(folder, 0o755, Owner(0));
    }
    Ok(layer)
}

/// The script and the scene: small, so that a change of either moves a few kilobytes.
fn top(scene: &str) -> Layer {
    let mut layer = Layer::default();
    layer.bytes("usr/local/bin/render-tile", RENDER_TILE, 0o755);
    layer.bytes("etc/povray/3.7/povray.conf", POVRAY_CONF, 0o644);
    layer.bytes("usr/share/sosna/scenes/pines.pov", scene, 0o644);
    layer.folder("work", 0o755, RENDER);
    layer.folder("work/out", 0o755, RENDER);
    layer
}
