//! The programs for other machines, started in an emulator of their processor: what `cargo xtask dist` has left in
//! target/dist. Containers need a whole machine; see the tests of guests.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use xtask::dist::{Architecture, Programs, check};
use xtask::paths::Tree;

/// The example of the Web3 Secret Storage definition: its password, and whose key it holds.
const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr",
    "cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
    "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
    "kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
    "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
    "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
    "id":"3198bc9c-6672-5ab9-d995-4942343ae5b6","version":3}"#;
const PASSWORD: &str = "testpassword";
const ADDRESS: &str = "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b";

/// A kind of processor whose programs are there and can be started.
struct Device {
    architecture: Architecture,
    programs: Programs,
    starter: Option<Command>,
}

impl Device {
    /// All of them, this machine's too; those that cannot be had are said.
    fn all(test: &str) -> Vec<Self> {
        let tree = Tree::find().unwrap();
        let device = |architecture| {
            let skipped = |reason: &str| {
                eprintln!("SKIPPED {test} on {architecture}: {reason}");
                None
            };
            let Some(programs) = Programs::found(&tree, architecture) else {
                return skipped(&format!("not built; `cargo xtask dist --target {architecture}` does it"));
            };
            match check::starter(&tree, architecture) {
                Ok(starter) => Some(Self { architecture, programs, starter }),
                Err(reason) => skipped(&reason),
            }
        };
        Architecture::ALL.into_iter().filter_map(device).collect()
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &str) -> Output {
        let mut command = check::start(&self.starter, program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn agent(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(&self.programs.agent, arguments, input);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{} {arguments:?}: {} {said}", self.architecture, output.status);
        said
    }
}

#[test]
fn programs_say_what_they_are_on_every_processor() {
    for device in Device::all("programs_say_what_they_are_on_every_processor") {
        assert_eq!(device.agent(&["--version"], ""), format!("sosna-agent {}\n", env!("CARGO_PKG_VERSION")));
        assert!(device.agent(&["--help"], "").contains("Examples:"));
        let init = device.run(&device.programs.init, &[], "");
        assert_eq!(init.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&init.stderr).contains("the first program of a device"));
        let wrong = device.run(&device.programs.agent, &["nonsense"], "");
        assert_eq!(wrong.status.code(), Some(2), "{}", device.architecture);
    }
}

/// The key derivation, the cipher, the curve and Keccak agree with the definition's example; then a key of the
/// device's own file comes back as it was.
#[test]
fn a_key_is_the_same_on_every_processor() {
    for device in Device::all("a_key_is_the_same_on_every_processor") {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::write(at("key.json"), KEYSTORE).unwrap();
        let import = |file: &str, data: &str, password: &str| {
            device.agent(&["wallet", "import", &at(file), "--data", &at(data)], &format!("{password}\n"))
        };
        let said = import("key.json", "first", PASSWORD);
        assert!(said.to_lowercase().contains(ADDRESS), "{}: {said}", device.architecture);
        let said = device.agent(&["wallet", "export", &at("copy.json"), "--data", &at("first")], "another\n");
        assert!(said.to_lowercase().contains(ADDRESS), "{}: {said}", device.architecture);
        let said = import("copy.json", "second", "another");
        assert!(said.to_lowercase().contains(ADDRESS), "{}: {said}", device.architecture);
    }
}

#[test]
fn the_configuration_is_the_same_on_every_processor() {
    let devices = Device::all("the_configuration_is_the_same_on_every_processor");
    let shown: Vec<String> =
        devices.iter().map(|device| device.agent(&["run", "--print-config"], "")).collect();
    assert!(shown.iter().all(|text| text.contains("core_hour") && *text == shown[0]), "{shown:?}");
}
