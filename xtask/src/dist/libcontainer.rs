//! libcontainer for 32-bit ARM: the crate as it is in Cargo.lock, with these edits, in the build folder. It does not
//! compile there otherwise; and it makes the old calls with 16-bit numbers of users and groups, for which a list of
//! groups is another list.
//!
//! The other machines get the crate as it is. An edit that does not fit exactly once is an error: with a new version
//! of the crate somebody must look. To be removed when the crate does this by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Architecture, DistError};
use crate::exec;
use crate::paths::Tree;

/// The crate and the version that the edits were made for.
const CRATE: (&str, &str) = ("libcontainer", "0.7.0");

/// File, what is there, what is there instead.
const EDITS: [(&str, &str, &str); 5] = [
    // Its own workspace: it lies within ours and is no part of it.
    ("Cargo.toml", "\n[package]\n", "\n[workspace]\n\n[package]\n"),
    (
        "src/tty.rs",
        "const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;",
        "const DEVPTS_SUPER_MAGIC: libc::c_ulong = 0x1cd1;",
    ),
    ("src/syscall/linux.rs", "libc::SYS_setresgid,", "libc::SYS_setresgid32,"),
    ("src/syscall/linux.rs", "libc::SYS_setresuid,", "libc::SYS_setresuid32,"),
    ("src/syscall/linux.rs", "libc::SYS_setgroups,", "libc::SYS_setgroups32,"),
];

/// Makes cargo take the edited crate. Cargo.lock stays as it is: cargo is given a copy. It warns that the patch is not
/// used: in the standard library's own graph, which it resolves as well, there is no such crate.
pub(super) fn patch(tree: &Tree, command: &mut Command) -> Result<(), DistError> {
    let into = tree.target().join("cross").join(CRATE.0);
    edited(&source(tree)?, &into)?;
    let lock = tree.target().join("cross/Cargo.lock");
    fs::copy(tree.root().join("Cargo.lock"), &lock)?;
    command
        .arg("--config")
        .arg(format!("patch.crates-io.{}.path={:?}", CRATE.0, into.display().to_string()))
        .args(["-Zlockfile-path", "--config"])
        .arg(format!("resolver.lockfile-path={:?}", lock.display().to_string()));
    Ok(())
}

/// Where cargo has unpacked the crate.
fn source(tree: &Tree) -> Result<PathBuf, DistError> {
    let unknown = || DistError::Crate(CRATE.0, CRATE.1);
    let mut command = exec::cargo();
    command.current_dir(tree.root()).args(["metadata", "--format-version", "1", "--locked"]);
    // Nothing is unpacked that only other systems need.
    command.args(["--filter-platform", Architecture::Armv7.target()]);
    let said = command.output()?;
    let metadata: Value = serde_json::from_slice(&said.stdout).map_err(|_| unknown())?;
    let packages = metadata["packages"].as_array().ok_or_else(unknown)?;
    let this = |p: &&Value| p["name"] == CRATE.0 && p["version"] == CRATE.1;
    let manifest =
        packages.iter().find(this).and_then(|p| p["manifest_path"].as_str()).ok_or_else(unknown)?;
    Ok(Path::new(manifest).parent().ok_or_else(unknown)?.to_path_buf())
}

/// Copies the crate with the edits; what is the same already is left alone, so that it is not compiled again.
fn edited(from: &Path, into: &Path) -> Result<(), DistError> {
    for file in files(from)? {
        let name = file.strip_prefix(from).unwrap_or(&file).to_path_buf();
        let mut content = fs::read(&file)?;
        for (path, old, new) in EDITS.iter().filter(|edit| name == Path::new(edit.0)) {
            let text = String::from_utf8_lossy(&content).into_owned();
            if text.matches(old).count() != 1 {
                return Err(DistError::Edit { path, old });
            }
            content = text.replacen(old, new, 1).into_bytes();
        }
        let to = into.join(&name);
        if fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(into))?;
        fs::write(&to, content)?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, DistError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_edits_fit_the_version_in_use() {
        let tree = Tree::find().unwrap();
        let dir = tempfile::tempdir().unwrap();
        edited(&source(&tree).unwrap(), dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("src/syscall/linux.rs")).unwrap();
        for call in ["setresgid", "setresuid", "setgroups"] {
            assert!(text.contains(&format!("SYS_{call}32,")) && !text.contains(&format!("SYS_{call},")));
        }
    }

    #[test]
    fn an_edit_that_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("src")).unwrap();
        fs::write(from.join("src/tty.rs"), "something else").unwrap();
        assert!(matches!(edited(&from, &dir.path().join("into")), Err(DistError::Edit { .. })));
    }
}
