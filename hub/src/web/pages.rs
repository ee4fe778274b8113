//! The pages themselves: shells that their script fills, and the files beside them, all inside the program.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
            REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{Html, IntoResponse, Response},
};
use sosna_api::text::{AddressText, JobIdText};
use sosna_protocol::hash::sha256;

use crate::{
    api::{Failure, Named, Served},
    error::HubError,
};

/// Only our own files, and no frames: whatever finds its way into a page can neither run nor send.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files that pages refer to: name, media type, content.
const FILES: [(&str, &str, &str); 6] = [
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("common.js", SCRIPT, include_str!("assets/common.js")),
    ("login.js", SCRIPT, include_str!("assets/login.js")),
    ("overview.js", SCRIPT, include_str!("assets/overview.js")),
    ("job.js", SCRIPT, include_str!("assets/job.js")),
];

#[derive(Template)]
#[template(path = "overview.html", config = "src/web/askama.toml")]
struct Overview {
    hub: String,
    version: &'static str,
}

#[derive(Template)]
#[template(path = "job.html", config = "src/web/askama.toml")]
struct Job {
    hub: String,
    version: &'static str,
    id: String,
}

#[derive(Template)]
#[template(path = "login.html", config = "src/web/askama.toml")]
struct Login {
    hub: String,
    version: &'static str,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /`: whoever is not signed in goes to the sign-in page first.
pub(super) async fn overview(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if served.sessions.token_hash(&headers).is_none() {
        // What stands behind `#` in the address stays with the browser over this.
        return Ok(
            (StatusCode::SEE_OTHER, [(LOCATION, "/login"), (CACHE_CONTROL, "no-store")]).into_response()
        );
    }
    page(&Overview { hub: name(&served), version: VERSION })
}

/// `GET /jobs/{id}`.
pub(super) async fn job(
    State(served): State<Arc<Served>>,
    Named(id): Named<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id: JobIdText = id.parse().map_err(|_| HubError::not_found("job"))?;
    if served.sessions.token_hash(&headers).is_none() {
        return Ok(
            (StatusCode::SEE_OTHER, [(LOCATION, "/login"), (CACHE_CONTROL, "no-store")]).into_response()
        );
    }
    page(&Job { hub: name(&served), version: VERSION, id: id.to_string() })
}

/// `GET /login`.
pub(super) async fn login(State(served): State<Arc<Served>>) -> Result<Response, Failure> {
    page(&Login { hub: name(&served), version: VERSION })
}

/// `GET /assets/{file}`.
pub(super) async fn file(Named(file): Named<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let found = FILES.into_iter().find(|(known, _, _)| *known == file);
    let (_, kind, text) = found.ok_or_else(|| HubError::not_found("file"))?;
    Ok(asset(&headers, kind, text))
}

fn name(served: &Served) -> String {
    AddressText::from(served.hub.address()).to_string()
}

fn page(template: &impl Template) -> Result<Response, Failure> {
    let text = template.render().map_err(|error| HubError::internal("a page could not be made", error))?;
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Html(text)).into_response())
}

fn asset(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = format!("\"{}\"", sha256(text.as_bytes()));
    // Asked for again each time, answered by a few bytes: a new hub never runs with old scripts.
    let cached = [(ETAG, tag.as_str()), (CACHE_CONTROL, "no-cache"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, cached).into_response();
    }
    (cached, [(CONTENT_TYPE, kind)], text).into_response()
}
