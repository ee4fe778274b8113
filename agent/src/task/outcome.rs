//! From a container's end to a result: cause, manifest, root, and where each piece of content lies. Or the reason why
//! there is none.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};
use sosna_host::{
    file::FileError,
    manifest::{Blob, MAX_LEFT_OUT, Manifest, ManifestError, Output, OutputKind},
};
use sosna_protocol::{
    Hash,
    result::{Cause, Usage},
};
use sosna_runtime::{EndCause, ExitRecord};

use crate::content::Source;

/// What a container's end means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A result: this cause, this exit code.
    Result(Cause, u8),
    /// No result, and why.
    NoResult(Cause, String),
    /// The container was lost; it may run once more.
    Lost,
}

/// A result that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) manifest: Manifest,
    pub(crate) root: Hash,
    pub(crate) usage: Usage,
    /// Bytes of all content.
    pub(crate) bytes: u64,
}

/// A piece of content and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) name: Hash,
    pub(crate) length: u64,
    pub(crate) source: Source,
}

/// Why a result cannot be made of what a container left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutcomeError {
    /// Its files.
    #[error("the task's files cannot be read")]
    File(#[from] FileError),
    /// Its names or their number.
    #[error("the task's outputs make no result")]
    Manifest(#[from] ManifestError),
}

/// What the runtime's record means to the protocol.
pub(crate) fn ending(record: &ExitRecord) -> Ending {
    // The shell's convention has one byte; what the runtime calls unknown becomes 255.
    let code = u8::try_from(record.exit_code & 0xff).unwrap_or(u8::MAX);
    if let Some(why) = &record.not_kept {
        // What is missing is this device's fault, and no part of what the task does everywhere.
        return Ending::NoResult(
            Cause::DeviceFailed,
            format!("the task's result could not be stored: {why}"),
        );
    }
    match &record.cause {
        EndCause::Exited { .. } => Ending::Result(Cause::Exited, code),
        EndCause::Signalled { .. } => Ending::Result(Cause::Signalled, code),
        EndCause::OutOfMemory => Ending::Result(Cause::OutOfMemory, code),
        EndCause::TimedOut => Ending::Result(Cause::TimedOut, code),
        EndCause::DiskFull => Ending::Result(Cause::DiskFull, code),
        // No such command, or not executable: every honest device finds the same. Anything else is the machine's, or the
        // image's.
        EndCause::StartFailed { .. } if matches!(record.exit_code, 126 | 127) => {
            Ending::Result(Cause::CannotStart, code)
        }
        EndCause::StartFailed { message } => {
            Ending::NoResult(Cause::NoContainer, format!("the container could not be made: {message}"))
        }
        EndCause::Stopped => {
            Ending::NoResult(Cause::Cancelled, "the container was stopped on the device".into())
        }
        EndCause::Lost => Ending::Lost,
        other => {
            Ending::NoResult(Cause::DeviceFailed, format!("the container ended in an unknown way: {other:?}"))
        }
    }
}

/// Makes the result. Blocks on the disk.
pub(crate) fn outcome(
    record: &ExitRecord,
    (cause, exit_code): (Cause, u8),
    folder: &Path,
    stdout_counts: bool,
) -> Result<Outcome, OutcomeError> {
    let log = |file: &str, dropped| -> Result<Blob, OutcomeError> {
        let (name, length) = hash_file(&folder.join(file))?;
        Ok(Blob { dropped, ..Blob::new(&name, length) })
    };
    // What a task wrote until it was cut off depends on the moment.
    let entries = if cause.has_outputs() { record.outputs.as_slice() } else { &[] };
    let outputs = entries.iter().map(output).collect();
    let mut left_out = if cause.has_outputs() { record.output_problems.clone() } else { Vec::new() };
    left_out.truncate(MAX_LEFT_OUT);
    let manifest = Manifest {
        version: 1,
        cause: cause.word().to_owned(),
        exit_code,
        stdout: log("stdout", record.stdout_dropped)?,
        stderr: log("stderr", record.stderr_dropped)?,
        outputs,
        left_out,
    };
    let root = manifest.root(stdout_counts)?;
    let bytes = manifest.content()?.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length));
    let usage = Usage {
        cpu_ns: record.usage.cpu_ns,
        peak_memory: record.usage.peak_memory_bytes,
        wall_ms: record.usage.wall_ms,
    };
    Ok(Outcome { manifest, root, usage, bytes })
}

fn output(entry: &sosna_runtime::OutputEntry) -> Output {
    let kind = match entry.kind {
        sosna_runtime::OutputKind::File => OutputKind::File,
        sosna_runtime::OutputKind::Folder => OutputKind::Folder,
        sosna_runtime::OutputKind::Symlink => OutputKind::Link,
    };
    Output {
        kind,
        path: entry.path.clone(),
        mode: entry.mode,
        length: entry.length,
        // The runtime leaves it empty where there is no content; the tree has zeros there.
        sha256: if entry.sha256.is_empty() { Hash::ZERO.to_string() } else { entry.sha256.clone() },
    }
}

/// Every piece of content that a manifest names, and where it lies, each once.
pub(crate) fn pieces(manifest: &Manifest, folder: &Path) -> Result<Vec<Piece>, ManifestError> {
    let mut pieces = Vec::new();
    for (blob, file) in [(&manifest.stdout, "stdout"), (&manifest.stderr, "stderr")] {
        pieces.push(Piece {
            name: blob.name()?,
            length: blob.length,
            source: Source::File(folder.join(file)),
        });
    }
    for output in &manifest.outputs {
        let path = folder.join("outputs").join(&output.path);
        let source = match output.kind {
            OutputKind::Folder => continue,
            OutputKind::File => Source::File(path),
            OutputKind::Link => Source::Link(path),
        };
        let name = output.sha256.parse().map_err(|_| ManifestError::Field("hash"))?;
        pieces.push(Piece { name, length: output.length, source });
    }
    pieces.sort_by_key(|piece| piece.name);
    pieces.dedup_by_key(|piece| piece.name);
    Ok(pieces)
}

/// A file's name as content, and its length. A file that is not there is empty: a container that never started has
/// no logs.
fn hash_file(path: &Path) -> Result<(Hash, u64), FileError> {
    let mut hasher = Sha256::new();
    let mut length = 0;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Hash(hasher.finalize().into()), 0));
        }
        Err(error) => return Err(FileError::of("open", path)(error)),
    };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Hash(hasher.finalize().into()), length)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::of("read", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::{hash::sha256, result::Entry};
    use sosna_runtime::{ContainerId, OutputEntry};

    use super::*;

    fn record(cause: EndCause, exit_code: i32) -> ExitRecord {
        let text = format!(
            r#"{{"version":1,"id":"{}","cause":{},"exit_code":{exit_code},
                "usage":{{"cpu_ns":5,"peak_memory_bytes":6,"wall_ms":7}},"stdout_bytes":2,"stderr_bytes":0,
                "stdout_dropped":3,"stderr_dropped":0,"outputs":[],"output_problems":[],
                "started_at_ms":1,"ended_at_ms":2}}"#,
            ContainerId::new("a").unwrap(),
            serde_json::to_string(&cause).unwrap()
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn every_end_has_a_meaning() {
        let of = |cause, code| ending(&record(cause, code));
        assert_eq!(of(EndCause::Exited { code: 3 }, 3), Ending::Result(Cause::Exited, 3));
        assert_eq!(of(EndCause::Signalled { signal: 11 }, 139), Ending::Result(Cause::Signalled, 139));
        assert_eq!(of(EndCause::OutOfMemory, 137), Ending::Result(Cause::OutOfMemory, 137));
        assert_eq!(of(EndCause::Lost, -1), Ending::Lost);
        let full =
            ExitRecord { not_kept: Some("no space".into()), ..record(EndCause::Exited { code: 0 }, 0) };
        assert!(
            matches!(ending(&full), Ending::NoResult(Cause::DeviceFailed, why) if why.contains("no space"))
        );
        let failed = || EndCause::StartFailed { message: "no".into() };
        assert_eq!(of(failed(), 127), Ending::Result(Cause::CannotStart, 127));
        assert!(matches!(of(failed(), 125), Ending::NoResult(Cause::NoContainer, _)));
        assert!(matches!(of(EndCause::Stopped, 143), Ending::NoResult(Cause::Cancelled, _)));
    }

    #[test]
    fn the_root_is_the_protocols_over_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("stdout"), "hi").unwrap();
        std::fs::create_dir_all(dir.path().join("outputs/out")).unwrap();
        std::fs::write(dir.path().join("outputs/out/a"), "tile").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("outputs/out/b")).unwrap();
        let mut record = record(EndCause::Exited { code: 0 }, 0);
        let entry = |kind, path: &str, length, sha256: String| OutputEntry {
            kind,
            path: path.into(),
            mode: 0o644,
            length,
            sha256,
        };
        record.output_problems = vec!["/none: was not made".to_owned()];
        record.outputs = vec![
            entry(sosna_runtime::OutputKind::Folder, "out", 0, String::new()),
            entry(sosna_runtime::OutputKind::File, "out/a", 4, sha256(b"tile").to_string()),
            entry(sosna_runtime::OutputKind::Symlink, "out/b", 1, sha256(b"a").to_string()),
        ];
        let outcome = outcome(&record, (Cause::Exited, 0), dir.path(), true).unwrap();
        let folder = Entry {
            kind: sosna_protocol::result::EntryKind::Folder,
            path: b"out",
            mode: 0o644,
            length: 0,
            sha256: Hash::ZERO,
        };
        let file = Entry {
            kind: sosna_protocol::result::EntryKind::File,
            path: b"out/a",
            mode: 0o644,
            length: 4,
            sha256: sha256(b"tile"),
        };
        let link = Entry {
            kind: sosna_protocol::result::EntryKind::Link,
            path: b"out/b",
            mode: 0o644,
            length: 1,
            sha256: sha256(b"a"),
        };
        let expected = sosna_protocol::result::root([
            Entry::exit(Cause::Exited, 0),
            Entry::stdout(2, sha256(b"hi")),
            folder,
            file,
            link,
        ]);
        assert_eq!(outcome.root, expected.unwrap());
        assert_eq!((outcome.bytes, outcome.manifest.stdout.dropped), (7, 3));
        assert_eq!(outcome.manifest.left_out, ["/none: was not made"]);
        assert_eq!(Manifest::from_json(&outcome.manifest.to_json()).unwrap(), outcome.manifest);
        let pieces = pieces(&outcome.manifest, dir.path()).unwrap();
        let tile = pieces.iter().find(|piece| piece.name == sha256(b"tile")).unwrap();
        assert_eq!(tile.source, Source::File(dir.path().join("outputs/out/a")));
        let target = pieces.iter().find(|piece| piece.name == sha256(b"a")).unwrap();
        assert_eq!(target.source, Source::Link(dir.path().join("outputs/out/b")));
        assert_eq!(pieces.len(), 4, "an empty stderr is content too");
        let cut = super::outcome(&record, (Cause::TimedOut, 137), dir.path(), true).unwrap();
        assert!(cut.manifest.outputs.is_empty() && cut.manifest.left_out.is_empty());
        assert_eq!(cut.root, sosna_protocol::result::root([Entry::exit(Cause::TimedOut, 137)]).unwrap());
    }

    #[test]
    fn the_longest_list_that_a_container_leaves_is_a_result() {
        // As many lines as the shim's list has room for (15 MiB), each as long as it can be for what it is counted as.
        let path = |n: usize| format!("{n:06}{}", "\u{1}".repeat(200));
        let counted = 160 + 6 + 6 * 200;
        let mut record = record(EndCause::Exited { code: 0 }, 0);
        record.outputs = (0..(15 << 20) / counted)
            .map(|n| OutputEntry {
                kind: sosna_runtime::OutputKind::Folder,
                path: path(n),
                mode: 0o777,
                length: u64::MAX,
                sha256: String::new(),
            })
            .collect();
        record.output_problems =
            vec![format!("/{}: the path is too long for a result", "\u{fffd}".repeat(1024)); MAX_LEFT_OUT];
        let dir = tempfile::tempdir().unwrap();
        let made = outcome(&record, (Cause::Exited, 0), dir.path(), false).unwrap();
        let json = made.manifest.to_json();
        let most = usize::try_from(sosna_host::manifest::MAX_MANIFEST).unwrap();
        assert!((14 << 20..=most).contains(&json.len()), "{}", json.len());
        assert_eq!(Manifest::from_json(&json).unwrap(), made.manifest);
    }
}
