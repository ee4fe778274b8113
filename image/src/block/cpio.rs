//! Writes an initramfs: a cpio archive in the kernel's `newc` form, compressed with zstd.
//! Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux.

use super::tree::{Node, Tree};
use crate::Error;

/// The kernel's decoder needs a window of at most 8 MiB; this level stays below it.
const LEVEL: i32 = 19;

/// The archive, uncompressed. All times are `epoch`, all owners root.
#[must_use]
pub fn archive(tree: &Tree, epoch: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut inode = 1;
    // The kernel opens it for its first program before anything is mounted.
    let console = Record { name: "dev/console", mode: 0o020_600, links: 1, rdev: (5, 1), data: &[] };
    let mut written = false;
    for (path, node) in tree.iter() {
        let (mode, links, data): (u32, u32, &[u8]) = match node {
            Node::Folder(mode) => (0o040_000 | u32::from(*mode), 2, &[]),
            Node::File(mode, content) => (0o100_000 | u32::from(*mode), 1, content),
            Node::Link(target) => (0o120_777, 1, target.as_bytes()),
        };
        record(&mut out, inode, epoch, &Record { name: path, mode, links, rdev: (0, 0), data });
        inode += 1;
        if path == "dev" && !written {
            record(&mut out, inode, epoch, &console);
            inode += 1;
            written = true;
        }
    }
    record(&mut out, 0, 0, &Record { name: "TRAILER!!!", mode: 0, links: 1, rdev: (0, 0), data: &[] });
    out
}

/// The archive, compressed.
///
/// # Errors
/// [`Error::Malformed`], when zstd refuses: never seen.
pub fn compressed(tree: &Tree, epoch: u32) -> Result<Vec<u8>, Error> {
    zstd::encode_all(&archive(tree, epoch)[..], LEVEL)
        .map_err(|error| Error::malformed("the initramfs", error))
}

struct Record<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    rdev: (u32, u32),
    data: &'a [u8],
}

fn record(out: &mut Vec<u8>, inode: u32, epoch: u32, record: &Record<'_>) {
    let size = record.data.len();
    let fields = [
        inode as usize,
        record.mode as usize,
        0,
        0,
        record.links as usize,
        epoch as usize,
        size,
        0,
        0,
        record.rdev.0 as usize,
        record.rdev.1 as usize,
        record.name.len() + 1,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(record.name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(record.data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn records_are_aligned_and_end_with_the_trailer() {
        let mut tree = Tree::new();
        tree.folder("dev", 0o755);
        tree.file("init", 0o755, "abc");
        tree.link("l", "init");
        let bytes = archive(&tree, 7);
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + 8 * n..at + 14 + 8 * n]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (size, name) = (field(6), field(11));
            names.push(String::from_utf8(bytes[at + 110..at + 110 + name - 1].to_vec()).unwrap());
            let data = (at + 110 + name).next_multiple_of(4);
            if names.last().unwrap() == "init" {
                assert_eq!((&bytes[data..data + size], field(1), field(5)), (&b"abc"[..], 0o100_755, 7));
            }
            at = (data + size).next_multiple_of(4);
        }
        assert_eq!(names, ["dev", "dev/console", "init", "l", "TRAILER!!!"]);
        assert_eq!(compressed(&tree, 7).unwrap(), compressed(&tree, 7).unwrap());
    }
}
