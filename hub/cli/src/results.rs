//! Writes what tasks left behind into folders, believing nobody: paths stay inside, links lead nowhere else,
//! content is what the manifest says, and the manifest is what the devices agreed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use sosna_api::{Code, task::Task};
use sosna_host::{
    file::FileError,
    manifest::{MAX_MANIFEST, Manifest, ManifestError, Output, OutputKind},
};
use sosna_protocol::Hash;

use crate::{
    client::{Hub, Received},
    error::Error,
    output,
    upload::PARALLEL,
};

/// The longest target of a link.
const MAX_TARGET: u64 = 4096;

/// Why results are not written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// Nothing to fetch.
    #[error("{0}")]
    Missing(String),
    /// Somebody's files are there.
    #[error("{} is not empty; choose another folder with -o, or empty it", .0.display())]
    NotEmpty(PathBuf),
    /// A file here.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest is not one.
    #[error("the result of task {index} cannot be used")]
    Manifest {
        /// Which task.
        index: u32,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The hub gives something else than the device signed.
    #[error("{what} of task {index} is not what its digest says; tell the hub's operator")]
    Differs {
        /// Which task.
        index: u32,
        /// What of it.
        what: String,
    },
    /// Two results for one folder, of which each was checked alone.
    #[error("the hub names task {index} twice; nothing was written, tell the hub's operator")]
    Twice {
        /// Which task.
        index: u32,
    },
    /// A path that would lead elsewhere.
    #[error("the result of task {index} has the path `{path}`, which {why}; nothing of it was written")]
    Path {
        /// Which task.
        index: u32,
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// One task's results, as `--json` tells them.
#[derive(Debug, Serialize)]
pub struct Written {
    /// The task.
    pub index: u32,
    /// Where they are.
    pub folder: PathBuf,
    /// How many files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// What is to be written, checked.
#[derive(Debug)]
struct Plan {
    manifest: Manifest,
    raw: Vec<u8>,
    /// The content that it needs, in the order of the manifest.
    content: Vec<(PathBuf, Hash, u64)>,
    /// The bytes of all of it, logs included.
    bytes: u64,
}

/// Fetches the results of `tasks`, each into its folder of `targets`.
///
/// # Errors
/// [`Error`].
pub async fn fetch(hub: &Hub, tasks: &[(&Task, PathBuf)]) -> Result<Vec<Written>, Error> {
    let mut plans = Vec::new();
    let mut targets = BTreeSet::new();
    for (task, target) in tasks {
        // Through a link of one, another would be written elsewhere.
        if !targets.insert(target) {
            return Err(ResultsError::Twice { index: task.index }.into());
        }
        let Some(name) = task.manifest else { continue };
        let plan = plan(hub, task, &name.0).await?;
        prepare(target)?;
        plans.push((*task, target, plan));
    }
    let bar = output::byte_bar("fetching", plans.iter().map(|(_, _, plan)| plan.bytes).sum());
    let mut written = Vec::new();
    for (task, target, plan) in plans {
        written.push(write(hub, task.index, target, &plan, &bar).await?);
    }
    bar.finish_and_clear();
    Ok(written)
}

async fn plan(hub: &Hub, task: &Task, name: &Hash) -> Result<Plan, Error> {
    let index = task.index;
    let differs = |what: &str| ResultsError::Differs { index, what: what.to_owned() };
    let wrong = |source| ResultsError::Manifest { index, source };
    let raw = hub.small_content(name, MAX_MANIFEST).await?.ok_or_else(|| differs("the manifest"))?;
    let manifest = Manifest::from_json(&raw).map_err(wrong)?;
    let root = manifest.root(task.stdout_counts).map_err(wrong)?;
    if task.result_root.is_some_and(|agreed| agreed.0 != root) {
        return Err(differs("the manifest").into());
    }
    check(index, &manifest.outputs)?;
    let mut content = Vec::new();
    for output in manifest.outputs.iter().filter(|output| output.kind == OutputKind::File) {
        let name = output.sha256.parse().map_err(|_| wrong(ManifestError::Field("hash")))?;
        content.push((PathBuf::from(&output.path), name, output.length));
    }
    let files: u64 = content.iter().map(|(_, _, length)| *length).fold(0, u64::saturating_add);
    let bytes = files.saturating_add(manifest.stdout.length).saturating_add(manifest.stderr.length);
    Ok(Plan { manifest, raw, content, bytes })
}

/// Every path is relative and without tricks, is there once, and lies in folders that are folders.
fn check(index: u32, outputs: &[Output]) -> Result<(), ResultsError> {
    let refuse = |path: &str, why| ResultsError::Path { index, path: path.to_owned(), why };
    let mut kinds = BTreeMap::new();
    for output in outputs {
        let path = output.path.as_str();
        if path.contains('\0') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refuse(path, "leads elsewhere"));
        }
        if kinds.insert(path, output.kind).is_some() {
            return Err(refuse(path, "is there twice"));
        }
    }
    for path in kinds.keys() {
        let above = path.match_indices('/').map(|(place, _)| &path[..place]);
        if above.filter_map(|folder| kinds.get(folder)).any(|kind| *kind != OutputKind::Folder) {
            return Err(refuse(path, "lies in something that is no folder"));
        }
    }
    Ok(())
}

/// Whether a link at `path` cannot lead out of the root, whatever other links of the same result there are: it
/// first goes up no further than the root, and then only down, through folders or through links of this kind.
fn stays_inside(path: &str, target: &str) -> bool {
    let depth = path.split('/').count() - 1;
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let parts = || target.split('/').filter(|part| !matches!(*part, "" | "."));
    let up = parts().take_while(|part| *part == "..").count();
    up <= depth && parts().skip(up).all(|part| part != "..")
}

/// Makes the folder, which must be new or empty.
fn prepare(target: &Path) -> Result<(), ResultsError> {
    fs::create_dir_all(target).map_err(FileError::of("make the folder", target))?;
    let mut entries = fs::read_dir(target).map_err(FileError::of("read the folder", target))?;
    if entries.next().is_some() {
        return Err(ResultsError::NotEmpty(target.to_owned()));
    }
    Ok(())
}

async fn write(
    hub: &Hub,
    index: u32,
    target: &Path,
    plan: &Plan,
    bar: &indicatif::ProgressBar,
) -> Result<Written, Error> {
    let mut left_out = plan.manifest.left_out.clone();
    for output in &plan.manifest.outputs {
        let path = target.join(&output.path);
        let folder = if output.kind == OutputKind::Folder { Some(path.as_path()) } else { path.parent() };
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(FileError::of("make the folder", folder))?;
        }
    }
    // Links come last: until then there is none through which anything could be written.
    let fetching = stream::iter(&plan.content)
        .map(async |(path, name, length)| {
            let what = path.display().to_string();
            content(hub, index, &target.join(path), name, *length, &what, bar).await
        })
        .buffer_unordered(PARALLEL);
    fetching.try_collect::<Vec<()>>().await?;
    for output in plan.manifest.outputs.iter().filter(|output| output.kind == OutputKind::Link) {
        let path = target.join(&output.path);
        match link_target(hub, output).await? {
            Some(to) if stays_inside(&output.path, &to) => {
                symlink(&to, &path).map_err(FileError::of("make the link", &path))?;
            }
            Some(to) => {
                left_out.push(format!("{}: a link that leads out of the result, to {to}", output.path))
            }
            None => left_out.push(format!("{}: a link whose target was not kept", output.path)),
        }
    }
    // Folders last and from below, since one may forbid to write into it.
    let real = plan.manifest.outputs.iter().filter(|output| output.kind != OutputKind::Link);
    for output in real.rev() {
        let path = target.join(&output.path);
        // Set-user-id and its kin have no business outside the container.
        let mode = Permissions::from_mode(output.mode & 0o777);
        fs::set_permissions(&path, mode).map_err(FileError::of("set the mode of", &path))?;
    }
    let streams = [("stdout.log", &plan.manifest.stdout), ("stderr.log", &plan.manifest.stderr)];
    for (name, blob) in streams {
        let path = target.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            left_out.push(format!("{name}: an output has this name; `sosna logs` has it"));
            continue;
        }
        let sha256 = blob.name().map_err(|source| ResultsError::Manifest { index, source })?;
        content(hub, index, &path, &sha256, blob.length, name, bar).await?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))
            .map_err(FileError::of("set the mode of", &path))?;
    }
    let path = target.join("manifest.json");
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path) {
        Ok(mut file) => {
            io::Write::write_all(&mut file, &plan.raw).map_err(FileError::of("write", &path))?;
        }
        Err(_) => left_out.push("manifest.json: an output has this name".to_owned()),
    }
    for text in &left_out {
        output::note(&format!("task {index}: left out {text}"));
    }
    let bytes = plan.content.iter().map(|(_, _, length)| *length).sum();
    Ok(Written { index, folder: target.to_owned(), files: plan.content.len(), bytes, left_out })
}

/// Fetches content into a new file. What is not as announced does not stay.
async fn content(
    hub: &Hub,
    index: u32,
    path: &Path,
    name: &Hash,
    length: u64,
    what: &str,
    bar: &indicatif::ProgressBar,
) -> Result<(), Error> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file: File = created.map_err(FileError::of("create", path))?;
    let mut counted = 0;
    let received = if length == 0 {
        let empty = *name == sosna_protocol::hash::sha256(b"");
        Ok(if empty { Received::Whole } else { Received::Differs })
    } else {
        hub.fetch_content(name, length, &mut file, |have| {
            bar.inc(have.saturating_sub(counted));
            counted = have;
        })
        .await
    };
    let failed = match received {
        Ok(Received::Whole) => return Ok(()),
        Ok(Received::Differs) => ResultsError::Differs { index, what: what.to_owned() }.into(),
        Err(Error::Output(error)) => FileError::of("write", path)(error).into(),
        Err(error) => error,
    };
    // What cannot be removed is empty or cut off, and the error says that something is wrong with it.
    let _ = fs::remove_file(path);
    Err(failed)
}

/// A link's target, where the device kept it.
async fn link_target(hub: &Hub, output: &Output) -> Result<Option<String>, Error> {
    let Ok(name) = output.sha256.parse() else { return Ok(None) };
    match hub.small_content(&name, MAX_TARGET).await {
        Ok(bytes) => Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok())),
        Err(Error::Problem(problem)) if problem.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn output(path: &str, kind: OutputKind) -> Output {
        let sha256 = Hash::ZERO.to_string();
        Output { kind, path: path.to_owned(), mode: 0o644, length: 0, sha256 }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let file = |path| output(path, OutputKind::File);
        assert!(check(0, &[file("out/a"), file("out/b/c"), file("...")]).is_ok());
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a/", "nul\0", ".."] {
            assert!(matches!(check(0, &[file(path)]), Err(ResultsError::Path { .. })), "{path:?}");
        }
        assert!(check(0, &[file("a"), file("a")]).is_err(), "twice");
        assert!(check(0, &[file("a"), file("a/b")]).is_err(), "in a file");
        assert!(check(0, &[output("a", OutputKind::Link), file("a/b/c")]).is_err(), "through a link");
        assert!(check(0, &[output("a", OutputKind::Folder), file("a/b")]).is_ok());
    }

    #[test]
    fn links_stay_inside() {
        for (path, target) in
            [("a", "b"), ("a/b", "../c"), ("a/b", ".././c/d"), ("a/b/c", "../.."), ("a", "."), ("a", "b/c/d")]
        {
            assert!(stays_inside(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", ".."),
            ("a", "/etc/passwd"),
            ("a/b", "../../c"),
            ("a", "b/../../c"),
            // Harmless as text, and not where `x` is a link to the root.
            ("a", "x/../y"),
            ("a", ""),
            ("a", "b\0c"),
        ] {
            assert!(!stays_inside(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn no_set_of_accepted_links_leads_out() {
        // Every link that is accepted, all together in one tree, resolved by the operating system.
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("inside");
        let targets = [".", "..", "../..", "l0", "d/l1", "../l0", "../d/e", "l0/..", "../../d", "d/e/l2/l1"];
        for (round, _) in targets.iter().enumerate() {
            let _ = fs::remove_dir_all(&inside);
            fs::create_dir_all(inside.join("d/e")).unwrap();
            for (number, path) in ["l0", "d/l1", "d/e/l2"].into_iter().enumerate() {
                let target = targets[(round * 3 + number * 7) % targets.len()];
                if stays_inside(path, target) {
                    symlink(target, inside.join(path)).unwrap();
                }
            }
            for start in ["l0", "d/l1", "d/e/l2", "l0/d/l1", "d/l1/l2", "d/e/l2/d/l1"] {
                if let Ok(real) = fs::canonicalize(inside.join(start)) {
                    assert!(
                        real.starts_with(fs::canonicalize(&inside).unwrap()),
                        "{start} leads to {real:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nobodys_files_are_touched() {
        let folder = tempfile::tempdir().unwrap();
        assert!(prepare(&folder.path().join("new/folder")).is_ok());
        assert!(prepare(&folder.path().join("new/folder")).is_ok(), "empty");
        fs::write(folder.path().join("new/mine"), "").unwrap();
        assert!(matches!(prepare(&folder.path().join("new")), Err(ResultsError::NotEmpty(_))));
    }
}
