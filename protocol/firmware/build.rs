//! Makes constants of `protocol/vectors`, and tells the linker where a microcontroller has its memory.
#![allow(clippy::unwrap_used, missing_docs, reason = "a build that cannot be is to stop")]

use std::{env, fmt::Write as _, fs, path::Path};

use serde_json::Value;

fn main() {
    let vectors = Path::new("../vectors");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rerun-if-changed={}", vectors.display());
    if env::var("CARGO_CFG_TARGET_OS").unwrap() == "none" {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap();
        println!("cargo::rustc-link-arg-bins=-T{folder}/memory.x");
    }
    let read = |subject: &str| -> Vec<Value> {
        let text = fs::read_to_string(vectors.join(subject).with_extension("json")).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        all["vectors"].as_array().unwrap().clone()
    };
    let mut out = Rust::default();
    out.table("FRAMES", "Frame", &read("frames"), |one| {
        let headers =
            if one["headers"].is_null() { "None".into() } else { format!("Some({})", hex(&one["headers"])) };
        format!(
            "raw: {}, channel: {}, message: {}, arguments: {}, headers: {headers}, frame: {}",
            one["dialect"] == "Raw",
            text(&one["channel"]),
            text(&one["message"]),
            hex(&one["arguments"]),
            hex(&one["frame"]),
        )
    });
    out.table("MESSAGES", "Message", &read("messages"), |one| {
        format!("name: {}, arguments: {}", one["name"], hex(&one["arguments"]))
    });
    out.table("SEALS", "Sealed", &read("seals"), |one| {
        let [sender, audience, root] = ["sender", "audience", "root"].map(|name| array(&one[name]));
        let expires_ms = text(&one["expires_ms"]);
        let frame = hex(&one["frame"]);
        format!(
            "sender: {sender}, audience: {audience}, expires_ms: {expires_ms}, root: {root}, frame: {frame}"
        )
    });
    // The largest ones are described, not listed.
    let results: Vec<_> = read("results").into_iter().filter(|one| one["entries"].is_array()).collect();
    out.table("RESULTS", "Tree", &results, |one| {
        let entries = one["entries"].as_array().unwrap().iter().map(|entry| {
            let kind = text(&entry["kind"]);
            let path = hex(&entry["path"]);
            let sha256 = array(&entry["sha256"]);
            format!(
                "Entry {{ kind: EntryKind::{kind}, path: {path}, mode: {}, length: {}, sha256: Hash({sha256}) }}",
                entry["mode"], entry["length"]
            )
        });
        let entries: Vec<_> = entries.collect();
        format!("entries: &[{}], root: {}", entries.join(", "), array(&one["root"]))
    });
    out.table("COMMITMENTS", "Commitment", &read("commitments"), |one| {
        let fields = ["hub", "assignment", "device", "root", "salt", "commitment"];
        fields.map(|name| format!("{name}: {}", array(&one[name]))).join(", ")
    });
    out.table("SIGNATURES", "Signed", &read("ethers"), |one| {
        ["address", "digest", "signature"].map(|name| format!("{name}: {}", array(&one[name]))).join(", ")
    });
    let vouchers: Vec<_> = read("ethers").into_iter().filter(|one| one["type"] == "Voucher").collect();
    out.table("VOUCHERS", "Voucher", &vouchers, |one| {
        let (domain, value) = (&one["domain"], &one["message"]);
        format!(
            "chain_id: {}, wallet: {}, device: {}, cumulative: {}, receipts: {}, digest: {}",
            text(&domain["chainId"]),
            array(&domain["verifyingContract"]),
            array(&value["device"]),
            text(&value["cumulative"]),
            array(&value["receipts"]),
            array(&one["digest"]),
        )
    });
    let file = Path::new(&env::var("OUT_DIR").unwrap()).join("vectors.rs");
    fs::write(file, out.0).unwrap();
}

#[derive(Default)]
struct Rust(String);

impl Rust {
    fn table(&mut self, name: &str, of: &str, vectors: &[Value], fields: impl Fn(&Value) -> String) {
        writeln!(self.0, "pub(crate) static {name}: [{of}; {}] = [", vectors.len()).unwrap();
        for one in vectors {
            writeln!(self.0, "    {of} {{ {} }},", fields(one)).unwrap();
        }
        self.0 += "];\n";
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn array(value: &Value) -> String {
    let digits = text(value).trim_start_matches("0x");
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    format!("{:?}", bytes.collect::<Vec<_>>())
}

fn hex(value: &Value) -> String {
    format!("&{}", array(value))
}
