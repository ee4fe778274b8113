//! The description of the interface is the one in `docs/`, and names everything that there is.

use std::{fs, path::Path};

use axum::{body::Body, http::Request};
use serde_json::Value;
use sosna_hub::api::openapi;

use crate::support::Setup;

#[tokio::test]
async fn the_description_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let mut text = serde_json::to_string_pretty(&openapi::document()).unwrap();
    text.push('\n');
    if std::env::var_os("SOSNA_WRITE_OPENAPI").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        committed == text,
        "docs/openapi.json is old; write it again with SOSNA_WRITE_OPENAPI=1 and review it"
    );

    let setup = Setup::new().await;
    let served = setup.send(Request::get("/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(served.json(), openapi::document());
}

/// Every operation that is described is served, and nothing is described twice or refers to nothing.
#[tokio::test]
async fn what_is_described_is_there() {
    let setup = Setup::new().await;
    let document = openapi::document();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let filled = path.replace("{hex}", &"0".repeat(64));
            let filled = filled.replace("payouts/{address}", &format!("payouts/0x{}", "0".repeat(40)));
            let filled = filled.replace(['{', '}'], "");
            let request = setup.request(method.to_uppercase().parse().unwrap(), &filled, None);
            let request = request.body(Body::empty()).unwrap();
            // A hub without a wallet has none to show, and says so to everybody.
            if path.starts_with("/v1/payouts") {
                let answer = setup.send(request).await;
                assert!(answer.json()["detail"].as_str().unwrap().contains("no wallet"), "{path}");
            } else {
                let status = setup.open(request).await.status();
                assert!(status != 405 && status != 404, "{method} {path}: {status}");
            }
            operations += 1;
        }
    }
    assert!(operations >= 33, "{operations}");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        _ => {}
    }
}
