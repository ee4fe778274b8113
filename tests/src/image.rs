//! A small real image: Debian's static busybox under the names of its usual programs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use sosna_apt::{Apt, Suite};
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

/// The image as an OCI layout in `place`, for this machine's kind of processor.
///
/// # Errors
/// Why a test must be skipped: the package cannot be had here.
///
/// # Panics
/// When the layout cannot be written.
pub fn busybox(place: &Path) -> Result<Image, String> {
    busybox_for("amd64", place)
}

/// The same for another kind of processor, by Debian's name, which images have, too.
///
/// # Errors
/// As [`busybox`].
///
/// # Panics
/// As [`busybox`].
pub fn busybox_for(architecture: &str, place: &Path) -> Result<Image, String> {
    let package = match architecture {
        "amd64" => package("busybox-static")?,
        other => foreign_package("busybox-static", other)?,
    };
    // Newer releases have it where everything else is.
    let program = ["usr/bin/busybox", "bin/busybox"].map(|path| package.join(path));
    let program = program.iter().find(|path| path.exists()).unwrap();
    let mut layer = Layer::default();
    layer.bytes("bin/busybox", std::fs::read(program).unwrap(), 0o755);
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
    Ok(layout.finish_for(architecture, &run).unwrap())
}

/// A package for another kind of processor, unpacked once for all tests: of the suite that images are made of.
fn foreign_package(name: &str, architecture: &str) -> Result<PathBuf, String> {
    let tools = Tree::find().map_err(|error| error.to_string())?.tools();
    let place = tools.join(format!("{name}-{architecture}"));
    if place.is_dir() {
        return Ok(place);
    }
    let new = tools.join(format!("{name}-{architecture}.new"));
    std::fs::create_dir_all(&new).unwrap();
    let suite =
        Suite::new(&tools.join("image"), "trixie", &["main", "non-free-firmware"], &["amd64", "arm64"], None);
    let found = suite.candidate(name, architecture, false).map_err(|error| error.to_string())?;
    let file =
        suite.download(name, &found.version, architecture, &tools).map_err(|error| error.to_string())?;
    let done = Command::new("dpkg-deb").arg("-x").arg(&file).arg(&new).status();
    if !done.as_ref().is_ok_and(ExitStatus::success) {
        return Err(format!("dpkg-deb does not unpack {}: {done:?}", file.display()));
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&new, &place).unwrap();
    Ok(place)
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
