//! A file system in memory, in the order of its paths: what goes into an initramfs or a slot.

use std::collections::BTreeMap;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder with its permission bits.
    Folder(u16),
    /// A file with its permission bits and content.
    File(u16, Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
}

/// Paths without a slash in front, each with its parents. Everything in it belongs to root.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

// === impl Tree ===

impl Tree {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder, with the folders above it.
    pub fn folder(&mut self, path: &str, mode: u16) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::Folder(mode));
    }

    /// Adds a file, with the folders above it.
    pub fn file(&mut self, path: &str, mode: u16, content: impl Into<Vec<u8>>) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::File(mode, content.into()));
    }

    /// Adds a symbolic link, with the folders above it.
    pub fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::Link(target.to_owned()));
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Folder(0o755));
        }
    }

    /// Everything, parents before what is in them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The content of a file.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        match self.nodes.get(path)? {
            Node::File(_, content) => Some(content),
            Node::Folder(_) | Node::Link(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn parents_come_first_and_keep_their_mode() {
        let mut tree = Tree::new();
        tree.folder("run", 0o700);
        tree.file("run/a/b", 0o644, "x");
        tree.link("etc/x", "../run");
        let paths: Vec<_> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["etc", "etc/x", "run", "run/a", "run/a/b"]);
        assert_eq!(tree.nodes["run"], Node::Folder(0o700));
        assert_eq!(tree.content("run/a/b").unwrap(), b"x");
        assert!(tree.content("run").is_none());
    }
}
