//! Writes and reads the file system of a slot: squashfs with zstd.

use std::io::{Cursor, Read as _};
use std::path::Path;

use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemReader, FilesystemWriter, InnerNode, NodeHeader};

use super::tree::{Node, Tree};
use super::verity::BLOCK;
use crate::Error;

/// Large enough to compress well, small enough that one read under dm-verity does not unpack a megabyte.
const UNIT: u32 = 256 << 10;
/// Slow to write, as fast to read as any other level.
const LEVEL: u32 = 19;

/// The file system, padded to whole blocks of dm-verity. All times are `epoch`, all owners root.
///
/// # Errors
/// [`Error::Malformed`], when the library refuses.
pub fn write(tree: &Tree, epoch: u32) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::malformed("the slot's file system", error);
    let mut writer = FilesystemWriter::default();
    let options = CompressionOptions::Zstd(Zstd { compression_level: LEVEL });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options)).map_err(failed)?);
    writer.set_block_size(UNIT);
    writer.set_time(epoch);
    writer.set_root_mode(0o755);
    writer.set_only_root_id();
    writer.set_kib_padding(4);
    for (path, node) in tree.iter() {
        let header = |mode: u16| NodeHeader::new(mode, 0, 0, epoch);
        match node {
            Node::Folder(mode) => writer.push_dir(path, header(*mode)),
            Node::File(mode, content) => writer.push_file(&content[..], path, header(*mode)),
            Node::Link(target) => writer.push_symlink(target, path, header(0o777)),
        }
        .map_err(failed)?;
    }
    let mut out = Cursor::new(Vec::new());
    writer.write(&mut out).map_err(failed)?;
    let mut out = out.into_inner();
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    Ok(out)
}

/// What a slot's file system holds.
///
/// # Errors
/// [`Error::Malformed`]: it is none, or damaged.
pub fn read(bytes: &[u8]) -> Result<Tree, Error> {
    let failed = |error: String| Error::malformed("the slot's file system", error);
    let reader = FilesystemReader::from_reader(Cursor::new(bytes.to_vec()))
        .map_err(|error| failed(error.to_string()))?;
    let mut tree = Tree::new();
    for node in reader.files() {
        let path = node.fullpath.to_string_lossy().trim_start_matches('/').to_owned();
        if path.is_empty() {
            continue;
        }
        match &node.inner {
            InnerNode::Dir(_) => tree.folder(&path, node.header.permissions),
            InnerNode::Symlink(link) => tree.link(&path, &link.link.to_string_lossy()),
            InnerNode::File(file) => {
                let mut content = Vec::new();
                let mut data = reader.file(file).reader();
                data.read_to_end(&mut content).map_err(|error| failed(format!("{path}: {error}")))?;
                tree.file(&path, node.header.permissions, content);
            }
            _ => {}
        }
    }
    Ok(tree)
}

/// Where a file system keeps a file: the first byte, and how many bytes it takes there. None where there is no such file,
/// or all of it lies among the ends of others.
///
/// # Errors
/// [`Error::Malformed`]: it is none, or damaged.
pub fn place(bytes: &[u8], path: &str) -> Result<Option<(u64, u64)>, Error> {
    let reader = FilesystemReader::from_reader(Cursor::new(bytes))
        .map_err(|error| Error::malformed("the slot's file system", error))?;
    let found = reader.files().find(|node| node.fullpath == Path::new("/").join(path));
    Ok(found.and_then(|node| match &node.inner {
        InnerNode::File(file) => {
            let stored = file.block_sizes().iter().map(|block| u64::from(block.size())).sum();
            (stored > 0).then_some((file.blocks_start(), stored))
        }
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_always_the_same() {
        let mut tree = Tree::new();
        tree.file("usr/bin/a", 0o755, vec![7; 1 << 20]);
        tree.file("etc/b", 0o600, "text");
        tree.link("etc/c", "b");
        tree.folder("empty", 0o700);
        let bytes = write(&tree, 1_700_000_000).unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        assert_eq!(bytes, write(&tree, 1_700_000_000).unwrap());
        let back = read(&bytes).unwrap();
        assert_eq!(back.iter().collect::<Vec<_>>(), tree.iter().collect::<Vec<_>>());
        assert!(read(&bytes[..300]).is_err());
        assert!(read(b"nothing").is_err());
    }
}
