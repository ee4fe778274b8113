//! Signing in and out. Both are asked for by the pages' own script, as JSON: a form of another site can send
//! neither, and its script is not let through.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{HOST, ORIGIN, SET_COOKIE},
    },
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use sosna_api::Code;

use crate::{
    admin::hash_token,
    api::{Failure, JsonBody, Served},
};

/// What the page sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    token: String,
}

/// `POST /login`.
pub(super) async fn login(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
    JsonBody(Login { token }): JsonBody<Login>,
) -> Result<Response, Failure> {
    check_origin(&headers)?;
    let hash = hash_token(token.trim());
    let user = served.hub.store.read(|tx| Box::pin(async move { tx.user_by_token(&hash).await })).await?;
    if user.is_none() {
        let detail = "nobody has this token; an admin can give you a new one with `sosna-hub user token-for`";
        return Err(Failure::new(Code::Unauthenticated, detail));
    }
    let secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let cookie = served.sessions.begin(hash, secure);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

/// `POST /logout`.
pub(super) async fn logout(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    check_origin(&headers)?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, served.sessions.end(&headers))]).into_response())
}

/// Browsers say where a request comes from that changes something.
fn check_origin(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = |origin: &str| origin.split_once("://").map(|(_, host)| host.to_owned());
    let same = match text(ORIGIN) {
        Some(origin) => host(origin).as_deref() == text(HOST),
        // No browser: nobody to be tricked.
        None => true,
    };
    same.then_some(()).ok_or_else(|| Failure::new(Code::Forbidden, "this comes from another site's page"))
}
