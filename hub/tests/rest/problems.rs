//! Whatever goes wrong is told in one form.

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::json;

use crate::support::Setup;

#[tokio::test]
async fn everything_that_is_no_success_is_a_problem() {
    let setup = Setup::new().await;
    let send = |method: Method, path: &str, kind: &str, body: String| {
        let request = setup.request(method, path, Some("admin")).header("content-type", kind);
        setup.send(request.header("idempotency-key", "k").body(Body::from(body)).unwrap())
    };
    let json = "application/json";
    let cases = [
        (Method::GET, "/nowhere", json, String::new(), 404, "not-found"),
        (Method::GET, "/v1/jobs/not-an-id", json, String::new(), 404, "not-found"),
        (Method::GET, "/v1/devices/0x12", json, String::new(), 404, "not-found"),
        (Method::PATCH, "/v1/jobs", json, String::new(), 405, "invalid"),
        (Method::POST, "/v1/hub", json, String::new(), 405, "invalid"),
        (Method::POST, "/v1/users", json, "{".to_owned(), 422, "invalid"),
        (Method::POST, "/v1/users", json, r#"{"name":"a"}"#.to_owned(), 422, "invalid"),
        (Method::POST, "/v1/users", json, r#"{"name":"a","role":"king"}"#.to_owned(), 422, "invalid"),
        (Method::POST, "/v1/users", json, r#"{"name":"a","role":"buyer","x":1}"#.to_owned(), 422, "invalid"),
        (Method::POST, "/v1/users", json, r#"{"name":"A b","role":"buyer"}"#.to_owned(), 422, "invalid"),
        (Method::POST, "/v1/users", json, r#"{"name":"buyer","role":"buyer"}"#.to_owned(), 409, "conflict"),
        (Method::POST, "/v1/users", "text/plain", "{}".to_owned(), 415, "invalid"),
        (Method::POST, "/v1/jobs", json, " ".repeat(3 << 20), 413, "too-large"),
        (Method::GET, "/v1/jobs?limit=0", json, String::new(), 422, "invalid"),
        (Method::GET, "/v1/jobs?limit=many", json, String::new(), 422, "invalid"),
        (Method::GET, "/v1/jobs?colour=red", json, String::new(), 422, "invalid"),
        (Method::GET, "/v1/content/sha256/ff", json, String::new(), 422, "invalid"),
        (Method::GET, "/readyz", json, String::new(), 503, "busy"),
    ];
    for (method, path, kind, body, status, code) in cases {
        let answer = send(method.clone(), path, kind, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {:?}", answer.body);
        assert_eq!(answer.problem(), code, "{method} {path}");
    }
}

#[tokio::test]
async fn nobody_is_told_how_to_become_somebody() {
    let setup = Setup::new().await;
    for authorization in ["Bearer sosnau_00", "Bearer ", "Basic YTpi", "", "Bearer \u{7f}"] {
        let request = Request::get("/v1/me").header("authorization", authorization).body(Body::empty());
        let Ok(request) = request else { continue };
        let answer = setup.send(request).await;
        assert_eq!(answer.problem(), "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    // The scheme's case does not matter.
    let token = format!("bearer {}", setup.tokens["buyer"]);
    let request = Request::get("/v1/me").header("authorization", token).body(Body::empty()).unwrap();
    assert_eq!(setup.send(request).await.json()["name"], "buyer");
}

#[tokio::test]
async fn machines_are_answered_in_plain_text() {
    let setup = Setup::new().await;
    setup.device(1).await;
    let get = |path: &str| setup.send(Request::get(path).body(Body::empty()).unwrap());
    assert_eq!(get("/healthz").await.status, 200);
    let metrics = get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("\nsosna_devices 1\n") && text.contains("\nsosna_devices_online 1\n"), "{text}");
    assert!(text.contains("# TYPE sosna_jobs_submitted_total counter"), "{text}");
    let info = get("/v1/hub").await.json();
    assert_eq!(info["listeners"]["bootstrap"], "hub.test:8884");
    assert!(info["authority_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(info["chain"], json!(null));
}
