//! What a boot image is made of, by hash: a list in the slot, so that the device and `inspect` notice a boot image that
//! is another one than the slot was composed with. The command line is not in it, because it names the slot's own root
//! hash; it is compared with what the kernel was told. Nor is what both slots share: boot loader and firmware may be
//! newer than a slot.
//!
//! One part a line, as `sha256sum` writes it. The device's reader is `agent/boot/src/bootimage`.

use std::collections::BTreeMap;

use sosna_apt::digest;

use crate::block::uki;

/// Where the list is in a slot.
pub const LIST: &str = "usr/share/sosna/boot-image";
/// The file of a folder's command line.
const COMMAND_LINE: &str = "cmdline.txt";

/// The hashes of a boot image's parts by their names: sections of a unified image, else files of the slot's folder.
/// None where it is not built as a boot image must be.
#[must_use]
pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (path, content) in files {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.to_ascii_lowercase().ends_with(".efi") {
            for (section, bytes) in uki::parts(content)? {
                // Two of one name: which one counts cannot be known.
                if section != uki::COMMAND_LINE && found.insert(section, digest::of(&bytes).hex()).is_some() {
                    return None;
                }
            }
        } else if name != COMMAND_LINE {
            found.insert(name.to_owned(), digest::of(content).hex());
        }
    }
    Some(found)
}

/// The list's text.
#[must_use]
pub fn text(parts: &BTreeMap<String, String>) -> String {
    parts.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect()
}

/// The names of the parts that differ from a list: changed, missing, or too many.
#[must_use]
pub fn differences(list: &str, found: &BTreeMap<String, String>) -> Vec<String> {
    let listed: BTreeMap<&str, &str> =
        list.lines().filter_map(|line| line.split_once("  ").map(|(hash, name)| (name, hash))).collect();
    let mut wrong = Vec::new();
    for (name, hash) in &listed {
        match found.get(*name) {
            Some(is) if is == hash => {}
            Some(_) => wrong.push((*name).to_owned()),
            None => wrong.push(format!("{name} is missing")),
        }
    }
    wrong.extend(
        found.keys().filter(|name| !listed.contains_key(name.as_str())).map(|name| format!("{name} is new")),
    );
    wrong
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files_that_differ_are_named() {
        let files = [("slot-a/vmlinuz", &b"k"[..]), ("slot-a/cmdline.txt", b"c"), ("slot-a/a.dtb", b"t")];
        let parts = of(files).unwrap();
        assert_eq!(parts.keys().collect::<Vec<_>>(), ["a.dtb", "vmlinuz"]);
        let list = text(&parts);
        assert!(differences(&list, &parts).is_empty());
        let other = of([("slot-b/vmlinuz", &b"x"[..]), ("slot-b/more", b"")]).unwrap();
        assert_eq!(differences(&list, &other), ["a.dtb is missing", "vmlinuz", "more is new"]);
        assert_eq!(of([("EFI/Linux/a.EFI", &b"nothing"[..])]), None);
    }
}
