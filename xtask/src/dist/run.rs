//! `cargo xtask dist`: everything for every device, and what it weighs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Architecture, DistError, Programs, check, compiles, packages, programs};
use crate::live::{Live, Mark};
use crate::paths::Tree;
use crate::tables::table;
use sosna_apt::digest;

/// A program or package, as it is shown.
struct Row {
    architecture: Architecture,
    path: PathBuf,
    bytes: u64,
    built: String,
    proven: String,
}

/// Compiles for these architectures, checks what came of it, and says so.
///
/// # Errors
/// [`DistError`].
pub fn run(tree: &Tree, targets: &[Architecture], json: bool) -> Result<(), DistError> {
    let width = Architecture::ALL.iter().map(|one| one.name().len()).max().unwrap_or(0);
    let live = if json { Live::quiet(width) } else { Live::new(width) };
    let mut rows = Vec::new();
    for &architecture in targets {
        let line = live.line(architecture.name());
        line.step("compiling");
        let made = programs(tree, architecture, |text| line.now(text)).and_then(|made| {
            let proven = prove(tree, &made)?;
            Ok((made, proven))
        });
        match made {
            Ok((made, proven)) => {
                line.end(Mark::Good, &proven);
                for path in [&made.agent, &made.init] {
                    rows.push(row(&made, path, &made.built, &proven)?);
                }
                for path in packages(tree, &made, &tree.target().join("dist"))? {
                    rows.push(row(&made, &path, "packed", "")?);
                }
            }
            Err(error) => {
                line.end(Mark::Bad, &error.to_string());
                return Err(error);
            }
        }
    }
    sums(&tree.target().join("dist"))?;
    show(&live, &rows, json);
    Ok(())
}

/// Says for each of these architectures whether it compiles, and makes nothing.
///
/// # Errors
/// [`DistError`], of the first for which it does not.
pub fn check_all(tree: &Tree, targets: &[Architecture]) -> Result<(), DistError> {
    let live = Live::new(Architecture::ALL.iter().map(|one| one.name().len()).max().unwrap_or(0));
    for &architecture in targets {
        let line = live.line(architecture.name());
        line.step("reading");
        match compiles(tree, architecture, |text| line.now(text)) {
            Ok(()) => line.end(Mark::Good, "it compiles"),
            Err(error) => {
                line.end(Mark::Bad, &error.to_string());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Checks what was built; in words, what proves it.
///
/// # Errors
/// [`DistError::Check`].
pub fn prove(tree: &Tree, made: &Programs) -> Result<String, DistError> {
    check::check(tree, made).map_err(|(program, source)| DistError::Check { program, source })
}

fn row(made: &Programs, path: &Path, built: &str, proven: &str) -> Result<Row, DistError> {
    Ok(Row {
        architecture: made.architecture,
        path: path.to_path_buf(),
        bytes: fs::metadata(path)?.len(),
        built: built.to_owned(),
        proven: proven.to_owned(),
    })
}

fn show(live: &Live, rows: &[Row], json: bool) {
    let name = |row: &Row| row.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if json {
        for row in rows {
            let line = json!({
                "architecture": row.architecture.name(), "file": row.path, "bytes": row.bytes,
                "built": row.built, "proven": row.proven,
            });
            live.say(&line.to_string());
        }
        return;
    }
    let cells = rows.iter().map(|row| {
        let architecture = row.architecture.to_string();
        vec![architecture, name(row), row.bytes.to_string(), row.built.clone(), row.proven.clone()]
    });
    live.say(&table(&["architecture", "file", "bytes", "built by", "proven"], &[2], cells));
}

/// Writes SHA256SUMS over everything in the folder, in the form of sha256sum.
fn sums(folder: &Path) -> Result<(), DistError> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(one) = folders.pop() {
        for entry in fs::read_dir(&one)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            if name != "SHA256SUMS" {
                let hash = digest::of_reader(&mut fs::File::open(&path)?)?;
                lines.push((name.clone(), format!("{}  {name}\n", hash.hex())));
            }
        }
    }
    lines.sort();
    let text: String = lines.into_iter().map(|(_, line)| line).collect();
    Ok(fs::write(folder.join("SHA256SUMS"), text)?)
}
