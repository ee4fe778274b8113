//! Slither looks for known mistakes in Solidity. Each of its findings of weight is mended, or answered in
//! docs/contracts.md.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{ContractsError, io_error};
use crate::exec::{self, Log};
use crate::paths::Tree;
use crate::tools::foundry::Foundry;

/// A finding: the check's name, and where, as `Contract.member`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// As Slither calls it.
    pub check: String,
    /// Where.
    pub place: String,
}

/// What it finds of high or medium weight in the contracts themselves.
///
/// # Errors
/// [`ContractsError`].
pub fn findings(
    tree: &Tree,
    foundry: &Foundry,
    log: &mut Log,
    watch: &mut dyn FnMut(&str),
) -> Result<Vec<Finding>, ContractsError> {
    let site = obtain(tree, foundry, log, watch)?;
    watch("compiling for Slither");
    // With the syntax tree of everything, which is not kept otherwise.
    let out = "out-analysis";
    let mut compile = foundry.forge("build");
    compile.args(["--build-info", "--skip", "test", "--force", "--out", out]);
    compile.args(["--cache-path", "cache/analysis"]);
    if !exec::run(&mut compile, None, log, &mut *watch).is_ok_and(|status| status.success()) {
        return Err(ContractsError::Compile { log: log.path().to_path_buf() });
    }
    watch("Slither looks for mistakes");
    let answer = tree.root().join("target/xtask/slither.json");
    // It does not write over an answer.
    if answer.exists() {
        fs::remove_file(&answer).map_err(io_error(&answer))?;
    }
    let mut command = Command::new("python3");
    command
        .args(["-m", "slither", ".", "--ignore-compile", "--foundry-out-directory", out])
        .args(["--exclude-dependencies", "--filter-paths", "tests|node_modules"])
        .args(["--exclude-low", "--exclude-informational", "--exclude-optimization", "--json"])
        .arg(&answer)
        .current_dir(foundry.contracts())
        .env("PYTHONPATH", &site)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PATH", path_with(foundry.programs()));
    // Its status says whether it found something.
    let _ = exec::run(&mut command, None, log, &mut *watch);
    let text = fs::read_to_string(&answer).map_err(io_error(&answer))?;
    read(&text).ok_or(ContractsError::Form { program: "Slither", path: answer })
}

/// It asks forge for its configuration.
fn path_with(folder: &Path) -> OsString {
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_path_buf()].into_iter().chain(std::env::split_paths(&before));
    std::env::join_paths(folders).unwrap_or(before)
}

fn obtain(
    tree: &Tree,
    foundry: &Foundry,
    log: &mut Log,
    watch: &mut dyn FnMut(&str),
) -> Result<PathBuf, ContractsError> {
    let list = foundry.contracts().join("slither.txt");
    let wanted = fs::read(&list).map_err(io_error(&list))?;
    let site = tree.tools().join("slither");
    let stamp = site.join("installed.txt");
    if fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(site);
    }
    watch("fetching Slither");
    if site.exists() {
        fs::remove_dir_all(&site).map_err(io_error(&site))?;
    }
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--no-compile", "--only-binary", ":all:", "--target"])
        .arg(&site)
        .arg("-r")
        .arg(&list);
    if !exec::run(&mut command, None, log, watch).is_ok_and(|status| status.success()) {
        return Err(ContractsError::Slither { log: log.path().to_path_buf() });
    }
    fs::write(&stamp, wanted).map_err(io_error(&stamp))?;
    Ok(site)
}

fn read(text: &str) -> Option<Vec<Finding>> {
    let answer: Value = serde_json::from_str(text).ok()?;
    if answer["success"] != true {
        return None;
    }
    // Without findings it leaves the list out.
    let found = answer["results"]["detectors"].as_array().map_or(&[][..], Vec::as_slice);
    found
        .iter()
        .map(|one| {
            let first = &one["elements"][0];
            let name = first["name"].as_str()?;
            let within = first["type_specific_fields"]["parent"]["name"].as_str();
            let place = within.map_or_else(|| name.to_owned(), |within| format!("{within}.{name}"));
            Some(Finding { check: one["check"].as_str()?.to_owned(), place })
        })
        .collect()
}

/// Those that `answers` has no row for: a table's line with the check's name and the place, each as code.
#[must_use]
pub fn unanswered(findings: &[Finding], answers: &str) -> Vec<Finding> {
    let is_answered = |one: &Finding| {
        let (check, place) = (format!("`{}`", one.check), format!("`{}`", one.place));
        answers.lines().any(|line| line.starts_with('|') && line.contains(&check) && line.contains(&place))
    };
    findings.iter().filter(|one| !is_answered(one)).cloned().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn findings_are_read_and_answers_found() {
        let text = r#"{"success": true, "error": null, "results": {"detectors": [
            {"check": "incorrect-equality", "impact": "Medium", "elements": [
                {"type": "function", "name": "payday", "type_specific_fields": {"parent": {"name": "HubWallet"}}}]},
            {"check": "x", "elements": [{"type": "contract", "name": "SNM"}]}]}}"#;
        let found = read(text).unwrap();
        let finding = |check: &str, place: &str| Finding { check: check.into(), place: place.into() };
        assert_eq!(found, [finding("incorrect-equality", "HubWallet.payday"), finding("x", "SNM")]);
        let answers = "| `incorrect-equality` | `HubWallet.payday`, `Books.paydayAt` | a phase |\n`x` `SNM`";
        assert_eq!(unanswered(&found, answers), [finding("x", "SNM")]);
        assert_eq!(read(r#"{"success": true, "error": null, "results": {}}"#), Some(vec![]));
        assert_eq!(read(r#"{"success": false, "error": "no", "results": {}}"#), None);
    }
}
