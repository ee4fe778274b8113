//! Replays the committed corpus through every target, without a fuzzer: what was found once stays found.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use sosna_protocol_fuzz::TARGETS;

#[test]
fn every_target_survives_its_corpus() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            target(&bytes);
            // Every prefix as well: connections break anywhere.
            (0..bytes.len()).for_each(|length| target(&bytes[..length]));
        }
    }
}
