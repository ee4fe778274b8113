//! What `sosna-image ignition` writes fits the schema of Ignition 3.4, and says what it should.
#![allow(clippy::unwrap_used, reason = "tests")]

use data_encoding::BASE64;
use serde_json::Value;
use sosna_image::ignition::{Agent, Config, Variant};
use sosna_image::personal::Personal;
use std::io::Read as _;

/// Checks a value against the part of JSON Schema that Ignition's schema uses, more strictly: a property that the
/// schema does not name is wrong. Returns what is wrong.
fn check(root: &Value, schemas: &[&Value], value: &Value, at: &str, wrong: &mut Vec<String>) {
    let schemas: Vec<&Value> = schemas.iter().flat_map(|schema| flatten(root, schema)).collect();
    for schema in &schemas {
        if let Some(kinds) = schema.get("type") {
            let kinds: Vec<&str> = match kinds {
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                one => one.as_str().into_iter().collect(),
            };
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            if !kinds.contains(&kind) {
                wrong.push(format!("{at} is {kind}, not {kinds:?}"));
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if value.get(name.as_str().unwrap()).is_none() {
                wrong.push(format!("{at} lacks {name}"));
            }
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let known: Vec<&Value> =
            schemas.iter().filter_map(|schema| schema.get("properties")?.get(name)).collect();
        if known.is_empty() {
            wrong.push(format!("{at}/{name} is not known"));
        }
        check(root, &known, inner, &format!("{at}/{name}"), wrong);
    }
    let items: Vec<&Value> = schemas.iter().filter_map(|schema| schema.get("items")).collect();
    for (n, inner) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &items, inner, &format!("{at}/{n}"), wrong);
    }
}

/// Follows `$ref` and takes `allOf` apart.
fn flatten<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return flatten(root, root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    match schema.get("allOf").and_then(Value::as_array) {
        Some(all) => all.iter().flat_map(|schema| flatten(root, schema)).collect(),
        None => vec![schema],
    }
}

fn problems(document: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("ignition/schema-3.4.json")).unwrap();
    let mut wrong = Vec::new();
    check(&schema, &[&schema], document, "", &mut wrong);
    wrong
}

fn personal() -> Personal {
    let mut personal = Personal::default();
    personal.settings.hostname = Some("lamp".to_owned());
    personal.settings.proxy.http = Some("http://192.168.1.2:3128".to_owned());
    personal
}

fn download() -> Agent {
    Agent::Download { url: "https://example.org/sosna-agent".to_owned(), sha256: "ab".repeat(32) }
}

#[test]
fn documents_fit_the_schema() {
    for variant in [Variant::Fcos, Variant::Flatcar] {
        for agent in [Agent::Embedded(b"\x7fELF program".to_vec()), download()] {
            let text = Config::new(variant, agent, personal()).unwrap().ignition().unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(problems(&document), [""; 0]);
            assert_eq!(document["ignition"]["version"], "3.4.0");
        }
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let wrong = |text: &str| problems(&serde_json::from_str(text).unwrap()).len();
    assert_eq!(wrong(r#"{ "ignition": { "version": "3.4.0" } }"#), 0);
    assert_eq!(wrong("{}"), 1);
    assert_eq!(wrong(r#"{ "ignition": { "version": 3 } }"#), 1);
    assert_eq!(
        wrong(r#"{ "ignition": { "version": "3.4.0" }, "storage": { "files": [{ "mode": 1 }] } }"#),
        1
    );
    assert_eq!(
        wrong(
            r#"{ "ignition": { "version": "3.4.0" }, "storage": { "files": [{ "path": "/a", "x": 1 }] } }"#
        ),
        1
    );
}

#[test]
fn an_embedded_agent_is_whole_and_verified() {
    let program = b"a program, a program, a program".to_vec();
    let config =
        Config::new(Variant::Flatcar, Agent::Embedded(program.clone()), Personal::default()).unwrap();
    let document: Value = serde_json::from_str(&config.ignition().unwrap()).unwrap();
    let file = &document["storage"]["files"][0];
    assert_eq!((file["path"].as_str(), file["mode"].as_u64()), (Some("/opt/bin/sosna-agent"), Some(0o755)));
    let packed = file["contents"]["source"].as_str().unwrap().split_once("base64,").unwrap().1;
    let packed = BASE64.decode(packed.as_bytes()).unwrap();
    let mut found = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut found).unwrap();
    assert_eq!(found, program);
    let hash = sosna_apt::digest::of(&program).hex();
    assert_eq!(file["contents"]["verification"]["hash"], format!("sha256-{hash}"));
    let unit = document["systemd"]["units"][0]["contents"].as_str().unwrap();
    assert!(unit.contains("ExecStart=/opt/bin/sosna-agent run\n"), "{unit}");
    assert!(!unit.contains('@'));
}

#[test]
fn butane_says_the_same() {
    let text = Config::new(Variant::Fcos, download(), personal()).unwrap().butane().unwrap();
    assert!(text.starts_with("variant: \"fcos\"\nversion: \"1.5.0\"\nstorage:\n"), "{text}");
    for line in [
        "    - path: \"/etc/sosna\"",
        "          lamp",
        "        ExecStart=/usr/local/bin/sosna-agent run",
        "    - name: \"sosna-agent.service\"",
        "      enabled: true",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_no_machine_could_use_is_refused() {
    let bad = |url: &str, sha256: &str| {
        let agent = Agent::Download { url: url.to_owned(), sha256: sha256.to_owned() };
        Config::new(Variant::Fcos, agent, Personal::default()).is_err()
    };
    assert!(bad("ftp://example.org/a", &"ab".repeat(32)));
    assert!(bad("https://example.org/a", "abc"));
    let personal = Personal { join: Some("sosna1nonsense".to_owned()), ..Personal::default() };
    assert!(Config::new(Variant::Fcos, download(), personal).is_err());
}
