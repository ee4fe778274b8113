//! The rendering image, composed from Debian's packages, and its script, run by POV-Ray as it is in the image.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sosna_apt::AptError;
use xtask::paths::Tree;
use xtask::{picture, povray};

const SCENE: &str = "
#version 3.7; global_settings { assumed_gamma 1 }
camera { location <0, 1, -4> look_at 0 } light_source { <5, 10, -5>, 1 } plane { y, -1 pigment { checker rgb 1 rgb z } }
sphere { 0, 1 pigment { rgb x } finish { reflection 0.3 } }";

/// Starts the script outside a container: POV-Ray through the loader of its own image.
struct Stage {
    dir: tempfile::TempDir,
    path: String,
}

impl Stage {
    fn set(packages: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lib = |l: &str| packages.join(l).display().to_string();
        let libraries =
            ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio"]
                .map(lib)
                .join(":");
        let wrapper = dir.path().join("povray");
        let text = format!(
            "#!/bin/sh\nexec '{}' --library-path '{libraries}' '{}' \"$@\"\n",
            packages.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").display(),
            packages.join("usr/bin/povray").display()
        );
        fs::write(&wrapper, text).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("scene.pov"), SCENE).unwrap();
        let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
        Self { dir, path }
    }

    fn run(&self, index: &str, count: &str, smooth: &str, name: &str) -> (Output, PathBuf) {
        let work = self.dir.path().join(name);
        fs::create_dir_all(&work).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/povray/render-tile");
        let output = Command::new("sh")
            .arg(script)
            .current_dir(&work)
            .env_clear()
            .envs([("PATH", self.path.as_str()), ("HOME", work.to_str().unwrap())])
            .envs([("SOSNA_TASK_INDEX", index), ("SOSNA_TASK_COUNT", count), ("SCENE", "../scene.pov")])
            // Odd sizes: padded rows, bands of unequal height.
            .envs([("WIDTH", "61"), ("HEIGHT", "31"), ("ANTIALIAS", smooth)])
            .output()
            .unwrap();
        (output, work.join("out/tile.bmp"))
    }
}

#[test]
fn tiles_are_repeatable_and_make_the_whole_picture() {
    let tree = Tree::find().unwrap();
    let image = match povray::compose(&tree) {
        Ok(image) => image,
        Err(povray::ComposeError::Packages(error @ (AptError::Missing(_) | AptError::Failed { .. }))) => {
            eprintln!("SKIPPED tiles_are_repeatable_and_make_the_whole_picture: {error}");
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    assert!(image.bytes > 5_000_000 && image.bytes < 60_000_000, "{} bytes", image.bytes);

    let packages = tree.tools().join("povray");
    let stage = Stage::set(&packages);
    let mut tiles = Vec::new();
    for index in ["0", "1", "2", "3"] {
        let (output, tile) = stage.run(index, "4", "off", &format!("a{index}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let left: Vec<_> =
            fs::read_dir(tile.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["tile.bmp"], "nothing but the tile is left");
        tiles.push(tile);
    }
    // With antialiasing rows look at their neighbours, so a band's first row is its own; but the same twice.
    let (_, one) = stage.run("1", "4", "0.1", "one");
    let (_, two) = stage.run("1", "4", "0.1", "two");
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap(), "a tile came out differently");
    let (_, whole) = stage.run("0", "1", "off", "whole");
    let size = (61, 31);
    let joined = |tiles: &[PathBuf], name: &str| {
        let into = stage.dir.path().join(name);
        picture::join(tiles, size, &into).unwrap();
        fs::read(into).unwrap()
    };
    assert!(joined(&tiles, "tiles.png") == joined(&[whole], "whole.png"), "the tiles are not the picture");
}

#[test]
fn the_script_says_what_is_wrong() {
    // POV-Ray is never reached: nothing needs to be unpacked.
    let stage = Stage::set(Path::new("/nonexistent"));
    for (index, count, smooth, says) in [
        ("4", "4", "0.3", "task 4 of 4 does not exist"),
        ("", "4", "0.3", "SOSNA_TASK_INDEX is ''"),
        ("0", "many", "0.3", "SOSNA_TASK_COUNT is 'many'"),
        ("0", "0", "0.3", "does not exist"),
        ("0", "1", "3", "ANTIALIAS is '3'"),
        ("0", "1", "0.3x", "ANTIALIAS is '0.3x'"),
        ("0", "32", "0.3", "31 rows are too few for 32 tiles"),
    ] {
        let (output, tile) = stage.run(index, count, smooth, "x");
        assert_eq!(output.status.code(), Some(64), "{index} of {count}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says), "{said}");
        assert!(!tile.exists());
    }
    // And what POV-Ray itself says comes through when it fails.
    let (output, tile) = stage.run("0", "1", "0.3", "y");
    assert!(!output.status.success() && !output.stderr.is_empty());
    assert!(!tile.exists());
}
