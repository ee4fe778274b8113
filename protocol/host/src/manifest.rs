//! The manifest of a result: what a device uploads beside the content, and from which a hub computes the result
//! tree's root again. It is content itself, in JSON, so that a buyer can read it.

use serde::{Deserialize, Serialize};
use sosna_protocol::{
    Hash,
    result::{self, Cause, Entry, EntryKind, ResultError},
};

/// No manifest may be longer, in bytes.
pub const MAX_MANIFEST: u64 = 16 << 20;

/// A result tells of no more than so many things that were not kept.
pub const MAX_LEFT_OUT: usize = 100;
/// What it tells of each is no longer, in bytes: a path, each byte of which may be none of UTF-8 and be shown by three, and
/// why.
pub const MAX_LEFT_OUT_TEXT: usize = 3 * 1024 + 256;

/// The HTTP header by which a device says for which assignment it stores content, or asks whether it has.
pub const ASSIGNMENT_HEADER: &str = "sosna-assignment";

/// Whether the hub's content store has something from an assignment already is asked first (`HEAD`) where it is longer, in
/// bytes; less is brought sooner than asked for.
pub const WORTH_ASKING: u64 = 64 * 1024;

/// What a task left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub version: u32,
    /// [`Cause::word`].
    pub cause: String,
    /// As a shell would give it.
    pub exit_code: u8,
    /// Standard output, as far as it was kept.
    pub stdout: Blob,
    /// Standard error, as far as it was kept. Never part of the root: warnings carry times and addresses.
    pub stderr: Blob,
    /// The declared outputs, sorted by path.
    pub outputs: Vec<Output>,
    /// What of them was not kept, and why, for people: never part of the root, and no more than the device's word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Its name, in hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub length: u64,
    /// Bytes that were written beyond the limit and dropped.
    #[serde(default)]
    pub dropped: u64,
}

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; its content is its target.
    Link,
}

/// One file, folder or link of the outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: OutputKind,
    /// Relative to the container's root, without a leading slash. UTF-8: other names are refused on the device.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Bytes; 0 for folders.
    pub length: u64,
    /// Of the content, in hexadecimal; all zero for folders.
    pub sha256: String,
}

/// Why a manifest is not one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of this form.
    #[error("the result's manifest cannot be read")]
    Json(#[source] serde_json::Error),
    /// A version, cause, hash or list that cannot be.
    #[error("the result's manifest has a {0} that cannot be")]
    Field(&'static str),
    /// Entries out of order, twice, or with impossible paths.
    #[error("the result's manifest is not a result")]
    Result(#[source] ResultError),
}

// === impl Manifest ===

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`]; what comes through can be trusted to have a root.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if manifest.version != 1 {
            return Err(ManifestError::Field("version"));
        }
        let is_long = |told: &String| told.len() > MAX_LEFT_OUT_TEXT;
        if manifest.left_out.len() > MAX_LEFT_OUT || manifest.left_out.iter().any(is_long) {
            return Err(ManifestError::Field("left_out"));
        }
        manifest.root(true)?;
        Ok(manifest)
    }

    /// The bytes that are stored: the same for equal manifests.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    /// How the task ended.
    ///
    /// # Errors
    /// [`ManifestError::Field`].
    pub fn cause(&self) -> Result<Cause, ManifestError> {
        Cause::from_word(&self.cause).ok_or(ManifestError::Field("cause"))
    }

    /// The result tree's root. Outputs and standard output join only where the task ended by itself.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn root(&self, stdout_counts: bool) -> Result<Hash, ManifestError> {
        let cause = self.cause()?;
        let mut entries = vec![Entry::exit(cause, self.exit_code)];
        let stdout = self.stdout.name()?;
        self.stderr.name()?;
        if cause.has_outputs() && stdout_counts {
            entries.push(Entry::stdout(self.stdout.length, stdout));
        }
        let outputs = self.outputs.iter().map(Output::entry).collect::<Result<Vec<_>, _>>()?;
        if cause.has_outputs() {
            entries.extend(outputs);
        }
        result::root(entries).map_err(ManifestError::Result)
    }

    /// Every piece of content that the manifest names, with its length. A link's target is content as a file's bytes
    /// are: its leaf has the hash of it, and without it nobody could make the link again.
    ///
    /// # Errors
    /// [`ManifestError::Field`].
    pub fn content(&self) -> Result<Vec<(Hash, u64)>, ManifestError> {
        let logs = [&self.stdout, &self.stderr].into_iter().map(|blob| Ok((blob.name()?, blob.length)));
        let files = self.outputs.iter().filter(|output| output.kind != OutputKind::Folder);
        logs.chain(files.map(|output| Ok((hash(&output.sha256)?, output.length)))).collect()
    }
}

impl Blob {
    /// Content of this name and length, nothing dropped.
    #[must_use]
    pub fn new(name: &Hash, length: u64) -> Self {
        Self { sha256: name.to_string(), length, dropped: 0 }
    }

    /// The content's name.
    ///
    /// # Errors
    /// [`ManifestError::Field`].
    pub fn name(&self) -> Result<Hash, ManifestError> {
        hash(&self.sha256)
    }
}

impl Output {
    fn entry(&self) -> Result<Entry<'_>, ManifestError> {
        let kind = match self.kind {
            OutputKind::File => EntryKind::File,
            OutputKind::Folder => EntryKind::Folder,
            OutputKind::Link => EntryKind::Link,
        };
        let sha256 = hash(&self.sha256)?;
        Ok(Entry { kind, path: self.path.as_bytes(), mode: self.mode, length: self.length, sha256 })
    }
}

fn hash(text: &str) -> Result<Hash, ManifestError> {
    text.parse().map_err(|_| ManifestError::Field("hash"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_not_kept_is_told_and_changes_no_root() {
        let blob = Blob::new(&Hash::ZERO, 0);
        let plain = Manifest {
            version: 1,
            cause: Cause::Exited.word().to_owned(),
            exit_code: 0,
            stdout: blob.clone(),
            stderr: blob,
            outputs: Vec::new(),
            left_out: Vec::new(),
        };
        assert!(!String::from_utf8(plain.to_json()).unwrap().contains("left_out"));
        let told = |count| Manifest { left_out: vec!["/x: was not made".to_owned(); count], ..plain.clone() };
        let most = told(MAX_LEFT_OUT);
        assert_eq!(Manifest::from_json(&most.to_json()).unwrap(), most);
        assert_eq!(most.root(true).unwrap(), plain.root(true).unwrap());
        let long = Manifest { left_out: vec!["x".repeat(MAX_LEFT_OUT_TEXT + 1)], ..plain.clone() };
        for wrong in [told(MAX_LEFT_OUT + 1), long] {
            let error = Manifest::from_json(&wrong.to_json()).unwrap_err();
            assert!(error.to_string().contains("left_out"), "{error}");
        }
    }
}
