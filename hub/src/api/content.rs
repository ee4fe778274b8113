//! Content, for people and their programs.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};

use super::{Caller, Failure, Named, Served};
use crate::{
    content::{Shown, length_of, name_of, receive, send},
    error::HubError,
};

/// `GET` and `HEAD /v1/content/sha256/{hex}`. Whether something is there, everybody may know who has its name:
/// they must have had its bytes. What it is, only those whose jobs it belongs to.
pub(super) async fn read(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(hex): Named<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let name = name_of(&hex)?;
    let missing = || HubError::not_found("content");
    if method == Method::GET && !caller.sees_all() {
        let buyer = caller.0.name;
        let may = served
            .hub
            .store
            .read(|tx| Box::pin(async move { tx.buyer_may_read(&buyer, &name).await }))
            .await?;
        if !may {
            return Err(missing().into());
        }
    }
    let answer = send(&served.hub.content, &name, &method, &headers, Shown::Saved).await?;
    Ok(answer.ok_or_else(missing)?)
}

/// `PUT /v1/content/sha256/{hex}`.
pub(super) async fn write(
    State(served): State<Arc<Served>>,
    _caller: Caller,
    Named(hex): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (name, length) = (name_of(&hex)?, length_of(&headers)?);
    let most = served.hub.config.limits.content_bytes;
    let new = receive(&served.hub.content, name, length, most, body).await?;
    Ok(if new { StatusCode::CREATED } else { StatusCode::OK }.into_response())
}
