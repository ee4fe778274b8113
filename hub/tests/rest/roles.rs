//! Who may do what: every route with every role, as the route table says.

use axum::{body::Body, http::Method};
use serde_json::{Value, json};
use sosna_api::route;

use sosna_store::Holder;

use crate::support::{Setup, image_parts};

const ROLES: [&str; 4] = ["admin", "operator", "buyer", "owner"];

struct Case {
    method: Method,
    path: String,
    body: Option<Value>,
    /// Who is let in; all others are forbidden.
    may: &'static [&'static str],
    /// Those to whom the thing does not exist, though the route is theirs.
    hidden: &'static [&'static str],
}

fn case(method: Method, path: String, may: &'static [&'static str], hidden: &'static [&'static str]) -> Case {
    Case { method, path, body: None, may, hidden }
}

fn with(body: Value, case: Case) -> Case {
    Case { body: Some(body), ..case }
}

#[tokio::test]
async fn every_route_lets_in_whom_the_table_names() {
    let setup = Setup::new().await;
    let device = setup.device(1).await;
    let id = setup.submitted().await;
    for part in image_parts() {
        setup.hold(Holder::Person("admin".to_owned()), part.as_bytes()).await;
    }
    let (get, post) = (Method::GET, Method::POST);
    let job = |path| route::fill(path, &id);
    let one = |path| route::fill(path, device);
    let content = route::fill(route::CONTENT, sosna_protocol::hash::sha256(b"a layer"));
    let unknown = "unknown".to_owned();
    let staff: &[&str] = &["admin", "operator"];
    let staff_and_buyer: &[&str] = &["admin", "operator", "buyer"];
    let cases = [
        with(setup.job(), case(post.clone(), route::JOBS.into(), &["admin", "buyer"], &[])),
        case(get.clone(), route::JOBS.into(), &ROLES, &[]),
        case(get.clone(), job(route::JOB), staff_and_buyer, &["owner"]),
        case(get.clone(), job(route::JOB_LOGS), staff_and_buyer, &["owner"]),
        case(get.clone(), job(route::JOB_EVENTS), staff_and_buyer, &["owner"]),
        case(get.clone(), format!("/v1/jobs/{id}/tasks/0/outputs/0"), &[], &ROLES),
        case(get.clone(), route::EVENTS.into(), staff, &[]),
        case(get.clone(), content.clone(), staff_and_buyer, &["owner"]),
        case(Method::HEAD, content, &["admin", "buyer"], &["operator", "owner"]),
        case(get.clone(), route::DEVICES.into(), &["admin", "operator", "owner"], &[]),
        case(get.clone(), one(route::DEVICE), staff, &["owner"]),
        case(post.clone(), one(route::DEVICE_APPROVE), staff, &[]),
        with(json!({ "draining": true }), case(post.clone(), one(route::DEVICE_DRAIN), staff, &[])),
        with(json!({ "labels": {} }), case(post.clone(), one(route::DEVICE_LABEL), staff, &[])),
        with(json!({}), case(post.clone(), one(route::DEVICE_REVOKE), staff, &[])),
        // An owner needs a delegation: without one it is forbidden.
        with(json!({ "uses": 1, "ttl_s": 60 }), case(post.clone(), route::JOIN_TOKENS.into(), staff, &[])),
        case(get.clone(), route::OWNERS.into(), staff, &[]),
        case(post.clone(), route::fill(route::OWNER_ADMIT, device), staff, &[]),
        case(get.clone(), route::LEDGER.into(), &ROLES, &[]),
        with(
            json!({ "buyer": "buyer", "amount": "1" }),
            case(post.clone(), route::LEDGER_CREDIT.into(), &["admin"], &[]),
        ),
        case(get.clone(), route::BOINC_PAYMENTS.into(), staff, &[]),
        case(get.clone(), route::fill(route::BOINC_PAYMENT, 1), &[], staff),
        case(get.clone(), route::HUB.into(), &ROLES, &[]),
        case(get.clone(), route::ME.into(), &ROLES, &[]),
        case(get.clone(), route::USERS.into(), &["admin"], &[]),
        with(
            json!({ "name": "x", "role": "buyer" }),
            case(post.clone(), route::USERS.into(), &["admin"], &[]),
        ),
        case(Method::DELETE, route::fill(route::USER, &unknown), &[], &["admin"]),
        case(post.clone(), route::fill(route::USER_TOKEN, &unknown), &[], &["admin"]),
        case(post, job(route::JOB_CANCEL), staff_and_buyer, &["owner"]),
        case(Method::DELETE, job(route::JOB), staff_and_buyer, &["owner"]),
    ];
    for Case { method, path, body, may, hidden } in cases {
        let build = |who: Option<&str>| {
            let request =
                setup.request(method.clone(), &path, who).header("idempotency-key", format!("{who:?}"));
            let request = request.header("content-type", "application/json");
            request.body(body.as_ref().map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()
        };
        for role in ROLES {
            // Streams have no end: their head tells.
            let status = setup.open(build(Some(role))).await.status().as_u16();
            let (allowed, hidden) = (may.contains(&role), hidden.contains(&role));
            let fits = match status {
                404 => hidden,
                403 => !allowed && !hidden,
                // The admin has no credit of their own, and may submit all the same.
                402 => path == route::JOBS && role == "admin",
                200..300 => allowed,
                _ => false,
            };
            assert!(fits, "{method} {path} as {role}: {status}");
        }
        let status = setup.open(build(None)).await.status().as_u16();
        assert_eq!(status, if path == route::HUB { 200 } else { 401 }, "{method} {path} as nobody");
    }
}

#[tokio::test]
async fn other_peoples_jobs_do_not_exist() {
    let setup = Setup::new().await;
    setup.device(1).await;
    let id = setup.submitted().await;
    let path = route::fill(route::JOB, &id);
    assert_eq!(setup.get(&path, "buyer").await.status, 200);
    let stranger = setup.get(&path, "stranger").await;
    assert_eq!(stranger.problem(), "not-found");
    // Word for word what a job that never was is answered with.
    let never = setup.get(&route::fill(route::JOB, "00".repeat(16)), "stranger").await;
    assert_eq!(stranger.body, never.body);
    assert_eq!(
        setup.post(&route::fill(route::JOB_CANCEL, &id), "stranger", &json!({})).await.problem(),
        "not-found"
    );
    assert_eq!(setup.get(route::JOBS, "stranger").await.json()["jobs"], json!([]));
    assert_eq!(setup.get(route::JOBS, "operator").await.json()["jobs"][0]["id"], id);
}
