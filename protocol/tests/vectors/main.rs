//! The protocol's test vectors: `protocol/vectors/*.json`, derived again and compared with what is committed.
//!
//! Whoever speaks the protocol from another language checks against the same files. A difference means that
//! devices and hubs in the field would not understand each other any more. After a change that is meant,
//! `SOSNA_WRITE_VECTORS=1 cargo test -p sosna-protocol --test vectors` writes them anew.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "tests")]

use std::{env, fs, path::Path};

use serde_json::{Value, json};

mod amounts;
mod ethers;
mod frames;
mod messages;
mod seals;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tree.rs"]
mod tree;
mod trees;
mod typed;

fn read(subject: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(subject).with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Compares vector by vector, so that a failure names the one that differs.
fn compare(subject: &str, about: &str, derived: Vec<Value>) {
    if env::var_os("SOSNA_WRITE_VECTORS").is_some_and(|wish| wish == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(subject).with_extension("json");
        let all = json!({"about": about, "vectors": derived});
        fs::write(path, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
    let committed = read(subject);
    let committed = committed["vectors"].as_array().unwrap();
    for (derived, committed) in derived.iter().zip(committed) {
        assert_eq!(derived, committed, "{subject}: {}", committed["name"]);
    }
    assert_eq!(derived.len(), committed.len(), "{subject}: another number of vectors is committed");
}
