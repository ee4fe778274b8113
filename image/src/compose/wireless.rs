//! The wireless parts of a slot: the supplicant with exactly the libraries that it loads, the cards' firmware, and the
//! signed table of what each country allows.
//!
//! These are the only programs of an image that are not static. No library comes along that nothing loads.

use std::collections::BTreeMap;
use std::io;

use sosna_apt::elf;

use crate::Error;
use crate::block::tree::Tree;
use crate::board::Wifi;
use crate::package::{Content, Entry};

/// Debian's path, and PID 1's.
const SUPPLICANT: &str = "usr/sbin/wpa_supplicant";
const FIRMWARE: &str = "usr/lib/firmware";
/// The kernel's name, and that of the edition whose signer Debian's kernels know.
const RULES: [(&str, &str); 2] =
    [("regulatory.db", "regulatory.db-debian"), ("regulatory.db.p7s", "regulatory.db.p7s-debian")];
/// A chain of links longer than this is a circle.
const MOST_LINKS: usize = 8;

/// Files of packages from which the parts are taken, by path.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<String, (u16, Content)>);

/// Whether a file of a package may be wanted: the supplicant, libraries where the loader looks, firmware.
pub(super) fn is_part(path: &str) -> bool {
    let library = || path.starts_with("usr/lib") && path.contains(".so") && path.split('/').count() <= 4;
    path == SUPPLICANT || path.starts_with("usr/lib/firmware/") || library()
}

/// Puts the parts where they belong.
///
/// # Errors
/// [`Error::Malformed`]: the packages lack one.
pub(super) fn place(tree: &mut Tree, wifi: &Wifi, files: &Shared) -> Result<(), Error> {
    let closure =
        elf::closure(files, SUPPLICANT).map_err(|error| Error::malformed("the packages", chain(&error)))?;
    for path in closure {
        files.put(tree, &merged(&path))?;
    }
    for name in &wifi.firmware {
        files.put(tree, &format!("{FIRMWARE}/{name}"))?;
    }
    for (name, edition) in RULES {
        let (mode, content) = files.file(&format!("{FIRMWARE}/{edition}"))?;
        tree.file(&format!("{FIRMWARE}/{name}"), mode, content);
    }
    // Where programs name their loader, and where the kernel looks for firmware.
    tree.link("lib", "usr/lib");
    if files.0.keys().any(|path| path.starts_with("usr/lib64/")) {
        tree.link("lib64", "usr/lib64");
    }
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Debian has one folder where programs may name two.
fn merged(path: &str) -> String {
    if path.starts_with("lib/") || path.starts_with("lib64/") {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Where a link in the folder of `path` leads.
fn behind(path: &str, target: &str) -> String {
    if let Some(absolute) = target.strip_prefix('/') {
        return merged(absolute);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

// === impl Shared ===

impl Shared {
    pub(super) fn add(&mut self, entry: Entry) {
        let mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
        self.0.insert(entry.path, (mode, entry.content));
    }

    /// Adds a file to the tree, with the links that lead to it.
    fn put(&self, tree: &mut Tree, path: &str) -> Result<(), Error> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match self.0.get(&path) {
                Some((mode, Content::File(content))) => {
                    tree.file(&path, *mode, &content[..]);
                    return Ok(());
                }
                Some((_, Content::Link(target))) => {
                    tree.link(&path, target);
                    path = behind(&path, target);
                }
                None => break,
            }
        }
        Err(Error::malformed("the packages", format!("{path} is missing")))
    }

    /// What is behind all links.
    fn file(&self, path: &str) -> Result<(u16, &[u8]), Error> {
        let mut path = merged(path);
        for _ in 0..MOST_LINKS {
            match self.0.get(&path) {
                Some((mode, Content::File(content))) => return Ok((*mode, content)),
                Some((_, Content::Link(target))) => path = behind(&path, target),
                None => break,
            }
        }
        Err(Error::malformed("the packages", format!("{path} is missing")))
    }
}

impl elf::Files for Shared {
    fn has(&self, path: &str) -> bool {
        // Found where Debian has it, and put there.
        self.0.contains_key(path)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.file(path).map(|(_, content)| content.to_vec()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn shared(files: &[(&str, Content)]) -> Shared {
        let mut shared = Shared::default();
        for (path, content) in files {
            shared.add(Entry { path: (*path).to_owned(), mode: 0o644, content: content.clone() });
        }
        shared
    }

    #[test]
    fn links_come_with_what_they_lead_to() {
        let shared = shared(&[
            ("usr/lib/firmware/brcm/a.bin", Content::Link("../cypress/a.bin".into())),
            ("usr/lib/firmware/cypress/a.bin", Content::File(b"code".to_vec())),
            ("usr/lib/firmware/brcm/b.bin", Content::Link("b.bin".into())),
            ("usr/lib/firmware/brcm/c.bin", Content::Link("/lib/firmware/gone".into())),
        ]);
        let mut tree = Tree::new();
        shared.put(&mut tree, "usr/lib/firmware/brcm/a.bin").unwrap();
        assert_eq!(tree.content("usr/lib/firmware/cypress/a.bin").unwrap(), b"code");
        assert!(tree.iter().any(|(path, _)| path == "usr/lib/firmware/brcm/a.bin"));
        assert!(shared.put(&mut tree, "usr/lib/firmware/brcm/b.bin").is_err());
        let error = shared.put(&mut tree, "usr/lib/firmware/brcm/c.bin").unwrap_err().to_string();
        assert!(error.contains("usr/lib/firmware/gone is missing"), "{error}");
        assert_eq!(shared.file("lib/firmware/brcm/a.bin").unwrap().1, b"code");
    }

    #[test]
    fn only_what_the_loader_may_open_is_kept() {
        for part in ["usr/lib/aarch64-linux-gnu/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2", SUPPLICANT] {
            assert!(is_part(part), "{part}");
        }
        for other in ["usr/lib/aarch64-linux-gnu/gconv/UTF-7.so", "usr/sbin/wpa_cli", "usr/bin/ldd"] {
            assert!(!is_part(other), "{other}");
        }
    }
}
