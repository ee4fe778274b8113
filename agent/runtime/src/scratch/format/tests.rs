//! Asks `e2fsck` about images of many sizes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{os::unix::fs::MetadataExt as _, path::Path, process::Command};

use super::*;

/// `e2fsck`'s complaint; `None` where it has none.
pub(in crate::scratch) fn complaint(image: &Path) -> Option<String> {
    let output = Command::new("e2fsck").args(["-fn"]).arg(image).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (!output.status.success()).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Whether `e2fsck` is here; says so where it is not.
pub(in crate::scratch) fn can_check(test: &str) -> bool {
    let is_here = Command::new("e2fsck").arg("-V").output().is_ok_and(|output| output.status.success());
    if !is_here {
        eprintln!("SKIPPED {test}: e2fsck is not installed");
    }
    is_here
}

#[test]
fn e2fsck_finds_nothing_wrong_with_any_size() {
    if !can_check("e2fsck_finds_nothing_wrong_with_any_size") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (kib, mib, gib) = (1_u64 << 10, 1_u64 << 20, 1_u64 << 30);
    let sizes = [
        (96 * kib, 0),
        (5 * mib, 24),
        (5 * mib, 1000),
        (5 * mib + 4095, 17),
        // Around one and two groups.
        (128 * mib - 4096, 4096),
        (128 * mib, 4096),
        (128 * mib + 4096, 4096),
        (128 * mib + 5000 * kib, 33_000),
        (256 * mib, 65_536),
        (256 * mib + 4096, 65_537),
        (777_777_777, 12_345),
        // More inodes than groups of the usual size have room for.
        (300 * mib, 1_000_000),
        (3 * gib + 12_345, 100),
        (10 * gib, 1 << 20),
        (37 * gib + 4096 * 7, 77_777),
        // More descriptors than one block holds.
        (100 * gib, 6_000_000),
    ];
    for (bytes, inodes) in sizes {
        let path = folder.path().join("image");
        let file = File::options().write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(bytes).unwrap();
        format(&file, bytes, inodes).unwrap();
        let written = file.metadata().unwrap().blocks() * 512;
        assert!(written <= 96 * kib, "{bytes} bytes: {written} were written");
        if let Some(why) = complaint(&path) {
            panic!("{bytes} bytes with {inodes} inodes: {why}");
        }
        let layout = Layout::of(bytes, inodes).unwrap();
        let lost = bytes / BLOCK - u64::from(layout.groups) * u64::from(layout.blocks);
        assert!(lost < 8 * u64::from(layout.groups), "{lost} blocks of {bytes} bytes are not used");
        let has = u64::from(layout.groups) * u64::from(layout.inodes);
        let most = inodes.max(11) + 16 * u64::from(layout.groups);
        assert!((inodes..most).contains(&has), "{bytes}: {has} inodes for {inodes}");
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    for (bytes, inodes) in [(0, 0), (4096, 11), (1 << 20, 1 << 20), (1 << 50, 100), (1 << 30, 1 << 40)] {
        assert!(Layout::of(bytes, inodes).is_err(), "{bytes} {inodes}");
    }
}

#[test]
fn the_checksum_is_the_known_one() {
    // The check value of CRC-16/MODBUS, which begins with ones as well.
    assert_eq!(crc16(u16::MAX, b"123456789"), 0x4b37);
}
