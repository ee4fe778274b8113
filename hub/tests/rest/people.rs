//! People, owners, join tokens and the books.

use axum::http::{Method, StatusCode};
use serde_json::json;
use sosna_api::route;
use sosna_host::{identity::IdentityKey, token::JoinToken};
use sosna_protocol::identity::Sign as _;

use crate::support::{Setup, delegation};

#[tokio::test]
async fn people_come_get_new_tokens_and_go() {
    let setup = Setup::new().await;
    let made = setup.post(route::USERS, "admin", &json!({ "name": "new.person", "role": "buyer" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let first = made.json()["token"].as_str().unwrap().to_owned();
    assert!(first.starts_with("sosnau_") && first.len() == 71);
    let path = route::fill(route::USER_TOKEN, "new.person");
    let second = setup.post(&path, "admin", &json!({})).await.json()["token"].as_str().unwrap().to_owned();
    let me = async |token: &str| {
        let request = axum::http::Request::get(route::ME).header("authorization", format!("Bearer {token}"));
        setup.send(request.body(axum::body::Body::empty()).unwrap()).await.status
    };
    assert_eq!(me(&first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(me(&second).await, StatusCode::OK);
    let names = setup.get(route::USERS, "admin").await.json();
    assert_eq!(names["users"][1]["name"], "buyer");
    let path = route::fill(route::USER, "new.person");
    let gone = setup.with_json(Method::DELETE, &path, "admin", &json!({})).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(me(&second).await, StatusCode::UNAUTHORIZED);
    // Nobody locks themselves out.
    let last = setup.with_json(Method::DELETE, &route::fill(route::USER, "admin"), "admin", &json!({})).await;
    assert_eq!(last.problem(), "conflict");
}

#[tokio::test]
async fn the_hub_makes_whole_join_tokens() {
    let setup = Setup::new().await;
    let body = json!({ "uses": 3, "ttl_s": 3600, "labels": { "region": "north" } });
    let made = setup.post(route::JOIN_TOKENS, "operator", &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let token: JoinToken = made.json()["token"].as_str().unwrap().parse().unwrap();
    assert_eq!((token.hub, token.owner, token.uses), (setup.hub.address(), setup.hub.owner.address(), 3));
    assert_eq!((token.host.as_str(), token.bootstrap_port), ("hub.test", 8884));
    let secret_hash = token.delegation().secret_hash;
    let hub = setup.hub.address();
    let kept =
        setup.write(move |tx| Box::pin(async move { tx.join_token(hub, &secret_hash).await })).await.unwrap();
    assert_eq!((kept.delegation, kept.labels.as_str()), (token.delegation(), r#"{"region":"north"}"#));
    for body in [
        json!({ "uses": 0, "ttl_s": 60 }),
        json!({ "uses": 1, "ttl_s": 0 }),
        json!({ "uses": 1, "ttl_s": u64::MAX }),
    ] {
        assert_eq!(setup.post(route::JOIN_TOKENS, "operator", &body).await.problem(), "invalid", "{body}");
    }
}

#[tokio::test]
async fn owners_bring_delegations_and_see_their_devices() {
    let setup = Setup::new().await;
    let key = IdentityKey::generate();
    let expires = setup.hub.now_ms() / 1000 + 600;
    let with = |delegation| json!({ "uses": 0, "ttl_s": 0, "delegation": delegation });
    let good = delegation(&setup.hub, &key, b"one", expires);
    let made = setup.post(route::JOIN_TOKENS, "owner", &with(good.clone())).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.json()["token"], json!(null));
    assert_eq!(made.json()["expires_ms"], expires * 1000);
    assert_eq!(made.json()["template"]["bootstrap_port"], 8884);
    // Once for each secret; never expired, never of another key, never by another person.
    assert_eq!(setup.post(route::JOIN_TOKENS, "owner", &with(good.clone())).await.problem(), "conflict");
    let old = delegation(&setup.hub, &key, b"two", 1000);
    assert_eq!(setup.post(route::JOIN_TOKENS, "owner", &with(old)).await.problem(), "invalid");
    let mut forged = delegation(&setup.hub, &key, b"three", expires);
    forged["uses"] = json!(1000);
    assert_eq!(setup.post(route::JOIN_TOKENS, "owner", &with(forged)).await.problem(), "invalid");
    let me = setup.get(route::ME, "owner").await.json();
    assert!(me["owner"].as_str().unwrap().eq_ignore_ascii_case(&format!("0x{}", key.address())));

    setup.device(1).await;
    assert_eq!(setup.get(route::DEVICES, "owner").await.json()["devices"], json!([]));
    assert_eq!(setup.get(route::DEVICES, "operator").await.json()["devices"][0]["hostname"], "device-1");
    let owners = setup.get(route::OWNERS, "operator").await.json();
    let mine =
        owners["owners"].as_array().unwrap().iter().find(|owner| owner["address"] == me["owner"]).unwrap();
    assert_eq!((&mine["admitted"], &mine["devices"]), (&json!(false), &json!(0)));
    let path = route::fill(route::OWNER_ADMIT, me["owner"].as_str().unwrap());
    assert_eq!(setup.post(&path, "operator", &json!({})).await.json()["admitted"], true);
}

#[tokio::test]
async fn an_owner_can_be_admitted_before_the_first_delegation() {
    let setup = Setup::new().await;
    let key = IdentityKey::generate();
    let path = route::fill(route::OWNER_ADMIT, key.address());
    for _ in 0..2 {
        let admitted = setup.post(&path, "operator", &json!({})).await;
        assert_eq!((admitted.status, &admitted.json()["admitted"]), (StatusCode::OK, &json!(true)));
        assert_eq!(admitted.json()["devices"], 0);
    }
    let expires = setup.hub.now_ms() / 1000 + 600;
    let with = |delegation| json!({ "uses": 0, "ttl_s": 0, "delegation": delegation });
    let bring = async |who: &str, secret: &[u8]| {
        setup.post(route::JOIN_TOKENS, who, &with(delegation(&setup.hub, &key, secret, expires))).await
    };
    // Whoever proves to have the key first is who it belongs to, and stays admitted.
    assert_eq!(bring("owner", b"one").await.status, StatusCode::CREATED);
    let mine = setup.get(route::ME, "owner").await.json()["owner"].clone();
    assert!(mine.as_str().unwrap().eq_ignore_ascii_case(&format!("0x{}", key.address())));
    let owners = setup.get(route::OWNERS, "operator").await.json();
    assert!(
        owners["owners"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["address"] == mine && one["admitted"] == true)
    );

    // One that the operator brought is nobody else's.
    let other = IdentityKey::generate();
    let theirs = |secret: &[u8]| with(delegation(&setup.hub, &other, secret, expires));
    assert_eq!(setup.post(route::JOIN_TOKENS, "operator", &theirs(b"two")).await.status, StatusCode::CREATED);
    assert_eq!(setup.post(route::JOIN_TOKENS, "owner", &theirs(b"three")).await.problem(), "conflict");
}

#[tokio::test]
async fn credit_is_granted_once_for_each_key() {
    let setup = Setup::new().await;
    let grant = async |key: &str, buyer: &str, amount: &str| {
        let request = setup.request(Method::POST, route::LEDGER_CREDIT, Some("admin"));
        let request = request.header("idempotency-key", key).header("content-type", "application/json");
        let body = json!({ "buyer": buyer, "amount": amount }).to_string();
        setup.send(request.body(body.into()).unwrap()).await
    };
    let first = grant("k1", "buyer", "2.5").await;
    assert_eq!((first.status, &first.json()["available"]), (StatusCode::CREATED, &json!("2.5")));
    let again = grant("k1", "buyer", "2.5").await;
    assert_eq!((again.status, &again.json()["granted"]), (StatusCode::OK, &json!("2.5")));
    assert_eq!(grant("k1", "buyer", "3").await.problem(), "idempotency-key-reused");
    assert_eq!(grant("k1", "stranger", "2.5").await.problem(), "idempotency-key-reused");
    assert_eq!(grant("k2", "nobody", "1").await.problem(), "not-found");
    assert_eq!(grant("k3", "buyer", "0").await.problem(), "invalid");
    assert_eq!(grant("", "buyer", "1").await.problem(), "invalid");

    let own = setup.get(route::LEDGER, "buyer").await.json();
    assert_eq!(own["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&own["entries"][0]["kind"], &own["entries"][0]["buyer"]),
        (&json!("credit"), &json!("buyer"))
    );
    assert_eq!(setup.get(route::LEDGER, "stranger").await.json()["entries"], json!([]));
    assert_eq!(setup.get(route::LEDGER, "admin").await.json()["accounts"][0]["buyer"], "buyer");
}
