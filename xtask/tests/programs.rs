//! The programs that tests run can be had and started, without anything being installed.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::env;
use std::process::Command;

use xtask::paths::Tree;
use xtask::tools::programs::{ProgramsError, path_with_programs};

#[test]
fn programs_start_from_where_they_were_unpacked() {
    let tree = Tree::find().unwrap();
    let path = match path_with_programs(&tree) {
        Ok(path) => path,
        Err(ProgramsError::Apt(error)) => {
            eprintln!("SKIPPED programs_start_from_where_they_were_unpacked: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let bin = env::split_paths(&path).next().unwrap();
    let help = Command::new(bin.join("mosquitto")).arg("-h").output().unwrap();
    let said = String::from_utf8_lossy(&help.stdout).into_owned() + &String::from_utf8_lossy(&help.stderr);
    assert!(said.contains("mosquitto version"), "{said}");
    let echo = Command::new(bin.join("busybox")).args(["echo", "hello"]).output().unwrap();
    assert_eq!(echo.stdout, b"hello\n");
}
