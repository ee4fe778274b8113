//! The command line as people and scripts meet it: exit codes, what is said, what is kept.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

fn agent(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sosna-agent"));
    command.env_clear().args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read its input is fine.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn expect(output: &Output, code: i32, text: &str) {
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "expected {text:?} in: {said}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_configuration_is_shown_with_its_origins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "[ask]\ncore_hour = \"1.5\"\n").unwrap();
    let output = agent(&["run", "--config", text(&file), "--data", "/nowhere", "--print-config"], "");
    expect(&output, 0, "ask.core_hour = \"1.5\"");
    expect(&output, 0, text(&file));
    expect(&output, 0, "--data");
    std::fs::write(&file, "[ask]\ncore_hours = \"1.5\"\n").unwrap();
    let output = agent(&["run", "--config", text(&file), "--print-config"], "");
    expect(&output, 2, "did you mean `ask.core_hour`");
}

#[test]
fn what_is_missing_or_wrong_has_a_code_and_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = text(folder.path());
    expect(&agent(&["status", "--data", "/nowhere/at/all"], ""), 3, "--data");
    expect(&agent(&["run", "--data", data, "--join", "sosna1damaged"], ""), 2, "was it copied whole?");
    expect(&agent(&["run", "--data", data, "--join", "token"], ""), 2, "sosna-hub token");
    expect(&agent(&["run", "--data", data], ""), 2, "--join TOKEN");
    expect(&agent(&["dance"], ""), 2, "Usage");
    expect(&agent(&["--help"], ""), 0, "Examples");
    // The first start made the keys; now there is something to tell.
    expect(&agent(&["status", "--data", data], ""), 0, "not enrolled");
    let output = agent(&["status", "--json", "--data", data], "");
    let report: sosna_agent::status::Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!report.running && report.device.is_some());
}

#[test]
fn a_key_moves_by_export_and_import() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = here.path().join("key.json");
    let export = ["wallet", "export", text(&file), "--data", text(here.path())];
    expect(&agent(&export, "secret\n"), 3, "has no key yet");
    expect(&agent(&["run", "--data", text(here.path())], ""), 2, "not enrolled");
    expect(&agent(&export, "secret\n"), 0, "the key of 0x");
    expect(&agent(&export, "secret\n"), 4, "exists already");
    let import = ["wallet", "import", text(&file), "--data", text(there.path())];
    expect(&agent(&import, "wrong\n"), 1, "password");
    expect(&agent(&import, "secret\n"), 0, "this device is 0x");
    let device = |folder: &tempfile::TempDir| {
        let output = agent(&["status", "--json", "--data", text(folder.path())], "");
        serde_json::from_slice::<sosna_agent::status::Report>(&output.stdout).unwrap().device
    };
    assert_eq!(device(&here), device(&there));
    let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    expect(&agent(&["wallet", "payout-to", address, "--data", text(there.path())], ""), 0, address);
    let wrong = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    expect(&agent(&["wallet", "payout-to", wrong, "--data", text(there.path())], ""), 2, "checksum");
    expect(&agent(&["wallet", "show", "--data", text(there.path())], ""), 0, address);
}

/// On a device without a shell the owner's file says where earnings go.
#[test]
fn earnings_go_where_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("agent.toml"));
    let set = |address: &str| std::fs::write(&config, format!("payout_to = \"{address}\"\n")).unwrap();
    let run = || agent(&["run", "--data", text(&data), "--config", text(&config)], "");
    set("0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed");
    expect(&run(), 2, "checksum");
    let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    set(address);
    expect(&run(), 2, "not enrolled");
    expect(&agent(&["wallet", "show", "--data", text(&data)], ""), 0, address);
    let other = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359";
    let by_hand = ["wallet", "payout-to", other, "--data", text(&data), "--config", text(&config)];
    expect(&agent(&by_hand, ""), 4, "change it there");
}
