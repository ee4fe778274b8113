//! The same toolchain gives the same bytes: the programs are built a second time, in another folder, and compared.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::{Architecture, DistError, Programs, programs};
use crate::paths::Tree;

/// What of the tools is taken over: what was downloaded. The C library is built again.
const TOOLS: [&str; 3] = ["rust", "rust.stamp.json", "zig"];

/// Builds the programs of `first` again in a copy of the work tree, and names those that came out otherwise.
///
/// # Errors
/// [`DistError`].
pub fn twice(tree: &Tree, first: &Programs, watch: impl FnMut(&str)) -> Result<Vec<String>, DistError> {
    let folder = tree.target().join("twice");
    remove(&folder)?;
    let second = Tree::of(&folder);
    copy_work(tree, &second)?;
    fs::create_dir_all(second.tools())?;
    for name in TOOLS {
        let from = tree.tools().join(name);
        if from.exists() && Architecture::here() != Some(first.architecture) {
            link_all(&from, &second.tools().join(name))?;
        }
    }
    let again = programs(&second, first.architecture, watch)?;
    let mut differing = Vec::new();
    for (one, other) in [(&first.agent, &again.agent), (&first.init, &again.init)] {
        if fs::read(one)? != fs::read(other)? {
            differing.push(format!("{} and {}", one.display(), other.display()));
        }
    }
    if differing.is_empty() {
        // Else somebody wants to look.
        remove(&folder)?;
    }
    Ok(differing)
}

/// Copies what git knows of, as it is now.
fn copy_work(from: &Tree, to: &Tree) -> Result<(), DistError> {
    let mut git = Command::new("git");
    git.current_dir(from.root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output()?;
    if !listed.status.success() {
        return Err(DistError::Io(io::Error::other("git does not list the work tree's files")));
    }
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let (source, copy) = (from.root().join(&name), to.root().join(&name));
        // What was deleted and not committed yet is still listed.
        if source.is_file() {
            fs::create_dir_all(copy.parent().unwrap_or(to.root()))?;
            fs::copy(&source, &copy)?;
        }
    }
    Ok(())
}

/// The same files under another path, without their bytes a second time.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            link_all(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)
    } else {
        fs::hard_link(from, to)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
