//! A small real image: Debian's static busybox under the names of its usual programs.

use std::path::{Path, PathBuf};

use sosna_apt::Apt;
use xtask::oci::layer::{Layer, ROOT};
use xtask::oci::layout::{Image, Layout, Run};
use xtask::paths::Tree;

const PROGRAMS: [&str; 14] = [
    "sh",
    "sleep",
    "cat",
    "echo",
    "dd",
    "mkdir",
    "seq",
    "yes",
    "head",
    "tail",
    "id",
    "sha256sum",
    "test",
    "true",
];

/// The image as an OCI layout in `place`.
///
/// # Errors
/// Why a test must be skipped: the package cannot be had here.
///
/// # Panics
/// When the layout cannot be written.
pub fn busybox(place: &Path) -> Result<Image, String> {
    let mut layer = Layer::default();
    layer.bytes("bin/busybox", std::fs::read(package("busybox-static")?.join("bin/busybox")).unwrap(), 0o755);
    for program in PROGRAMS {
        layer.link(&format!("bin/{program}"), "busybox");
    }
    layer.folder("tmp", 0o1777, ROOT);
    layer.folder("out", 0o777, ROOT);
    layer.bytes("etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644);
    let mut layout = Layout::begin(place).unwrap();
    layout.add(&layer).unwrap();
    let run = Run {
        user: "1000".into(),
        env: vec!["PATH=/bin".into()],
        entrypoint: vec![],
        working_dir: "/".into(),
    };
    Ok(layout.finish(&run).unwrap())
}

/// A package of Debian, unpacked once for all tests.
///
/// # Errors
/// Why it cannot be had.
pub fn package(name: &str) -> Result<PathBuf, String> {
    let tools = Tree::find().map_err(|error| error.to_string())?.tools();
    let place = tools.join(name);
    Apt::new(&tools).unpack(&[name], false, &place).map_err(|error| error.to_string())?;
    Ok(place)
}
