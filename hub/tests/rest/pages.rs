//! The pages, and how people sign in to them.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use serde_json::json;

use crate::support::{Answer, Setup};

async fn sign_in(setup: &Setup, token: &str, origin: Option<&str>) -> Answer {
    let mut request =
        Request::post("/login").header("host", "hub.test").header("content-type", "application/json");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    setup.send(request.body(Body::from(json!({ "token": token }).to_string())).unwrap()).await
}

async fn session(setup: &Setup, who: &str) -> String {
    let answer = sign_in(setup, &setup.tokens[who], Some("http://hub.test")).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/; Max-Age="), "{cookie}");
    assert!(!cookie.contains(setup.tokens[who].as_str()));
    cookie.split(';').next().unwrap().to_owned()
}

async fn with_cookie(setup: &Setup, method: Method, path: &str, cookie: &str, from: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("cookie", format!("other=1; {cookie}"));
    setup.send(request.header("sec-fetch-site", from).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_session_looks_and_never_changes() {
    let setup = Setup::new().await;
    setup.device(1).await;
    let id = setup.submitted().await;
    let cookie = session(&setup, "buyer").await;
    let jobs = with_cookie(&setup, Method::GET, "/v1/jobs", &cookie, "same-origin").await;
    assert_eq!(jobs.json()["jobs"][0]["id"], id);
    for (method, path, from) in [
        (Method::GET, "/v1/jobs".to_owned(), "cross-site"),
        (Method::GET, "/v1/jobs".to_owned(), "same-site"),
        (Method::DELETE, format!("/v1/jobs/{id}"), "same-origin"),
        (Method::POST, format!("/v1/jobs/{id}/cancel"), "same-origin"),
    ] {
        let answer = with_cookie(&setup, method.clone(), &path, &cookie, from).await;
        assert_eq!(answer.problem(), "unauthenticated", "{method} {path} {from}");
    }
    // It ends when the token does, and when its person signs out.
    let out = Request::post("/logout").header("cookie", &cookie).body(Body::empty()).unwrap();
    assert!(setup.send(out).await.header("set-cookie").contains("Max-Age=0"));
    let answer = with_cookie(&setup, Method::GET, "/v1/jobs", &cookie, "same-origin").await;
    assert_eq!(answer.problem(), "unauthenticated");
    let cookie = session(&setup, "stranger").await;
    sosna_hub::admin::renew_token(&setup.hub.store, "stranger").await.unwrap();
    let answer = with_cookie(&setup, Method::GET, "/v1/jobs", &cookie, "none").await;
    assert_eq!(answer.problem(), "unauthenticated");
}

#[tokio::test]
async fn nobody_is_signed_in_by_another_site() {
    let setup = Setup::new().await;
    let token = setup.tokens["admin"].clone();
    assert_eq!(sign_in(&setup, &token, Some("http://evil.test")).await.problem(), "forbidden");
    assert_eq!(sign_in(&setup, &token, Some("null")).await.problem(), "forbidden");
    assert_eq!(sign_in(&setup, "sosnau_00", Some("http://hub.test")).await.problem(), "unauthenticated");
    let form = Request::post("/login").header("content-type", "application/x-www-form-urlencoded");
    let form = setup.send(form.body(Body::from(format!("token={token}"))).unwrap()).await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn pages_load_only_what_is_the_hubs_own() {
    let setup = Setup::new().await;
    for path in ["/", "/jobs/00000000000000000000000000000000"] {
        let away = setup.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((away.status, away.header("location")), (StatusCode::SEE_OTHER, "/login"), "{path}");
    }
    let cookie = session(&setup, "operator").await;
    let pages = [
        ("/", "<h2>Devices</h2>"),
        ("/jobs/00000000000000000000000000000000", "data-job=\"00000000000000000000000000000000\""),
        ("/login", "id=\"token\""),
    ];
    for (path, part) in pages {
        let page = with_cookie(&setup, Method::GET, path, &cookie, "none").await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (StatusCode::OK, "text/html; charset=utf-8"),
            "{path}"
        );
        let policy = page.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(text.contains(part), "{path}: {text}");
        // What the policy would block must not be there: inline scripts, styles and handlers.
        assert!(
            !text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="),
            "{path}"
        );
        let linked = text.split(['"', '\'']).filter(|link| link.starts_with("/assets/"));
        for link in linked {
            let file = setup.send(Request::get(link).body(Body::empty()).unwrap()).await;
            assert_eq!(file.status, StatusCode::OK, "{link}");
            let again = Request::get(link).header("if-none-match", file.header("etag")).body(Body::empty());
            assert_eq!(setup.send(again.unwrap()).await.status, StatusCode::NOT_MODIFIED);
        }
    }
    let none = setup.send(Request::get("/assets/passwd").body(Body::empty()).unwrap()).await;
    assert_eq!(none.problem(), "not-found");
    let none = with_cookie(&setup, Method::GET, "/jobs/%3Cscript%3E", &cookie, "none").await;
    assert_eq!(none.problem(), "not-found");
}
