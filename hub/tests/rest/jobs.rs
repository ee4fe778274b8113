//! Jobs: submitting, listing, stopping, and what they cost.

use axum::http::{Method, StatusCode};
use serde_json::json;
use sosna_api::route;

use crate::support::Setup;

#[tokio::test]
async fn one_key_makes_one_job() {
    let setup = Setup::new().await;
    setup.device(1).await;
    assert_eq!(setup.submit("buyer", "k", &setup.job()).await.problem(), "no-credit");
    setup.credit("buyer", "1.5").await;
    let first = setup.submit("buyer", "k", &setup.job()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{:?}", first.body);
    let again = setup.submit("buyer", "k", &setup.job()).await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &first.json()["id"]));
    let mut other = setup.job();
    other["tasks"] = json!(3);
    assert_eq!(setup.submit("buyer", "k", &other).await.problem(), "idempotency-key-reused");
    assert_eq!(setup.submit("buyer", "", &other).await.problem(), "invalid");
    let job = first.json();
    assert_eq!(
        job["counts"],
        json!({ "total": 2, "queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0 })
    );
    assert_eq!(job["price"], json!({ "max": "1", "reserved": "1", "spent": "0" }));
    let account = &setup.get(route::LEDGER, "buyer").await.json()["accounts"][0];
    assert_eq!(
        (&account["available"], &account["reserved"], &account["granted"]),
        (&json!("0.5"), &json!("1"), &json!("1.5"))
    );
}

#[tokio::test]
async fn images_must_be_here_whole() {
    let setup = Setup::new().await;
    setup.device(1).await;
    setup.credit("buyer", "10").await;
    let mut job = setup.job();
    let manifest: sosna_protocol::Hash =
        job["image"]["content"]["manifest"].as_str().unwrap().parse().unwrap();
    job["image"]["content"]["platform"] = json!("arm64");
    assert_eq!(setup.submit("buyer", "a", &job).await.problem(), "invalid");
    let layer = sosna_protocol::hash::sha256(b"a layer");
    setup.hub.content.remove(&layer).unwrap();
    let mut job = setup.job();
    setup.hub.content.remove(&layer).unwrap();
    let missing = setup.submit("buyer", "b", &job).await;
    assert_eq!(missing.problem(), "missing-content");
    assert!(missing.json()["detail"].as_str().unwrap().contains("layer 0"), "{:?}", missing.body);
    setup.hub.content.put(b"a layer").unwrap();
    job["arch"] = json!("arm64");
    assert_eq!(setup.submit("buyer", "c", &job).await.problem(), "unknown-image");
    setup.hub.content.remove(&manifest).unwrap();
    job["arch"] = json!("amd64");
    assert_eq!(setup.submit("buyer", "d", &job).await.problem(), "missing-content");
}

#[tokio::test]
async fn lists_continue_where_they_ended() {
    let setup = Setup::new().await;
    setup.device(1).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, setup.submitted().await);
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let first = setup.get("/v1/jobs?limit=2", "buyer").await.json();
    let shown = |list: &serde_json::Value| {
        let jobs = list["jobs"].as_array().unwrap();
        jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&first), ids[..2]);
    let next = first["next"].as_str().unwrap();
    let rest = setup.get(&format!("/v1/jobs?limit=2&before={next}"), "buyer").await.json();
    assert_eq!((shown(&rest), &rest["next"]), (ids[2..].to_vec(), &json!(null)));
    assert_eq!(setup.get("/v1/jobs?state=succeeded", "buyer").await.json()["jobs"], json!([]));
    assert_eq!(setup.get(&format!("/v1/jobs?before={next}"), "stranger").await.problem(), "invalid");
}

#[tokio::test]
async fn a_stopped_job_costs_nothing() {
    let setup = Setup::new().await;
    setup.device(1).await;
    let id = setup.submitted().await;
    let stopped = setup.post(&route::fill(route::JOB_CANCEL, &id), "buyer", &json!({})).await;
    assert_eq!(stopped.json()["state"], "cancelled", "{:?}", stopped.body);
    let again = setup.with_json(Method::DELETE, &route::fill(route::JOB, &id), "buyer", &json!({})).await;
    assert_eq!((again.status, &again.json()["counts"]["cancelled"]), (StatusCode::OK, &json!(2)));
    let account = &setup.get(route::LEDGER, "buyer").await.json()["accounts"][0];
    assert_eq!((&account["available"], &account["reserved"]), (&json!("10"), &json!("0")));
    let detail = setup.get(&route::fill(route::JOB, &id), "buyer").await.json();
    assert_eq!(detail["tasks"][1]["state"], "cancelled");
    assert_eq!(detail["spec"]["command"], json!(["/bin/true"]));
    assert_eq!(detail["tasks"][0]["arch"], "amd64");
}
