//! Interface and code of each contract in `contracts/artifacts`, so that cargo needs neither Node nor a compiler for
//! Solidity. They are made from the sources, and compared with them in every run.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{ContractsError, io_error};
use crate::exec::{self, Log};
use crate::tools::foundry::Foundry;

/// Those that programs call or deploy.
const NAMES: [&str; 6] = ["SNM", "Parameters", "HubRegistry", "HubWalletFactory", "HubWallet", "DealEscrow"];

/// Each file with what belongs into it.
fn made(foundry: &Foundry, log: &mut Log) -> Result<Vec<(PathBuf, String)>, ContractsError> {
    let mut command = foundry.forge("build");
    command.args(["--skip", "test"]);
    let good = exec::run(&mut command, None, log, |_| {}).is_ok_and(|status| status.success());
    if !good {
        return Err(ContractsError::Compile { log: log.path().to_path_buf() });
    }
    let folder = foundry.contracts().join("artifacts");
    NAMES
        .iter()
        .map(|name| {
            let path = foundry.contracts().join(format!("out/{name}.sol/{name}.json"));
            let text = fs::read_to_string(&path).map_err(io_error(&path))?;
            let form = || ContractsError::Form { program: "forge", path: path.clone() };
            let whole: Value = serde_json::from_str(&text).map_err(|_| form())?;
            let code = whole["bytecode"]["object"].as_str().ok_or_else(form)?;
            // As forge names them, which is as the bindings look for them.
            let kept = json!({ "abi": whole["abi"], "bytecode": { "object": code } });
            let text = serde_json::to_string_pretty(&kept).map_err(|_| form())? + "\n";
            Ok((folder.join(format!("{name}.json")), text))
        })
        .collect()
}

/// Writes them; which have changed.
pub(super) fn write(foundry: &Foundry, log: &mut Log) -> Result<Vec<PathBuf>, ContractsError> {
    let mut changed = Vec::new();
    for (path, text) in made(foundry, log)? {
        if fs::read_to_string(&path).is_ok_and(|now| now == text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error(folder))?;
        }
        fs::write(&path, text).map_err(io_error(&path))?;
        changed.push(path);
    }
    Ok(changed)
}

/// The names of the files that are not what the sources compile to.
///
/// # Errors
/// [`ContractsError`].
pub fn stale(foundry: &Foundry, log: &mut Log) -> Result<Vec<String>, ContractsError> {
    let made = made(foundry, log)?;
    let differs = |(path, text): &(PathBuf, String)| fs::read_to_string(path).ok().as_ref() != Some(text);
    let name =
        |(path, _): &(PathBuf, String)| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(made.iter().filter(|file| differs(file)).map(name).collect())
}
