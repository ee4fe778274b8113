//! Reading requests: what cannot be read says why, in the same form as everything else.

use std::{fmt::Display, str::FromStr, time::Duration};

use axum::{
    Json,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use sosna_api::{Code, Problem, route::IDEMPOTENCY_KEY};

use super::Failure;

/// How long a body in JSON may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// A body in JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match tokio::time::timeout(PATIENCE, Json::<T>::from_request(request, state)).await {
            Ok(Ok(Json(body))) => Ok(Self(body)),
            Ok(Err(error)) => Err(unread(&error)),
            Err(_) => {
                Err(Failure::new(Code::Invalid, "the request did not arrive within a minute; send it again"))
            }
        }
    }
}

fn unread(error: &JsonRejection) -> Failure {
    let status = error.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Failure::new(
            Code::TooLarge,
            "the request is longer than 2 MiB; put content into the content store",
        );
    }
    // Its own text says what and where.
    let mut problem = Problem::new(Code::Invalid, sosna_host::report::line(error));
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        problem.status = status.as_u16();
    }
    Failure(problem)
}

/// A query.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let invalid = |error: QueryRejection| Failure::new(Code::Invalid, sosna_host::report::line(&error));
        Query::<T>::from_request_parts(parts, state).await.map(|Query(query)| Self(query)).map_err(invalid)
    }
}

/// The one parameter of a path. What cannot be a name names nothing.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) T);

impl<S: Send + Sync, T> FromRequestParts<S> for Named<T>
where
    T: FromStr<Err: Display>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let missing = |reason: &dyn Display| Failure::new(Code::NotFound, reason.to_string());
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|error| missing(&error))?;
        text.parse().map(Self).map_err(|error| missing(&error))
    }
}

/// The key under which something is done once.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<&str, Failure> {
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let good = (1..=128).contains(&key.len()) && key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    good.then_some(key).ok_or_else(|| {
        let rule = "of 1 to 128 printable ASCII characters, chosen at random and kept over retries";
        Failure::new(Code::Invalid, format!("the header `Idempotency-Key` is needed, {rule}"))
    })
}

/// How long a list may be: what is asked for, or 100.
pub(super) fn list_limit(asked: Option<u32>) -> Result<u32, Failure> {
    match asked {
        None => Ok(100),
        Some(limit @ 1..=1000) => Ok(limit),
        Some(limit) => Err(Failure::new(Code::Invalid, format!("`limit` is 1 to 1000, not {limit}"))),
    }
}
