//! Content, for people and their programs.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};

use sosna_store::Holder;

use super::{Caller, Failure, Named, Served};
use crate::{
    content::{Allowed, Shown, hold_on, length_of, missing, name_of, owned_length, receive, send},
    error::HubError,
};

/// `GET` and `HEAD /v1/content/sha256/{hex}`. `HEAD` tells whether the caller may name it in a job, or must send it
/// first: nobody learns what others have sent. What it is, only those learn whose jobs it belongs to.
pub(super) async fn read(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(hex): Named<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let name = name_of(&hex)?;
    let not_found = || HubError::not_found("content");
    let whose = (!caller.sees_all()).then(|| caller.0.name.clone());
    if method == Method::HEAD {
        // From here on it stays long enough for a job to be submitted.
        let _steady = served.hub.keeping.steady().await;
        let length = owned_length(&served.hub, &caller.0.name, &name).await?.ok_or_else(not_found)?;
        hold_on(&served.hub, caller.0.name, name, length).await?;
    } else if let Some(buyer) = whose.clone() {
        let may = served
            .hub
            .store
            .read(|tx| Box::pin(async move { tx.buyer_may_read(&buyer, &name).await }))
            .await?;
        if !may {
            return Err(not_found().into());
        }
    }
    let answer = send(&served.hub.content, &name, &method, &headers, Shown::Saved).await?;
    match answer {
        Some(answer) => Ok(answer),
        None => Err(missing(&served.hub, whose.as_deref(), &name, "content").await.into()),
    }
}

/// `PUT /v1/content/sha256/{hex}`.
pub(super) async fn write(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(hex): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (name, length) = (name_of(&hex)?, length_of(&headers)?);
    let allowed = Allowed::Charged(served.hub.config.content.person_bytes);
    let new = receive(&served.hub, Holder::Person(caller.0.name), allowed, (name, length), body).await?;
    Ok(if new { StatusCode::CREATED } else { StatusCode::OK }.into_response())
}
