//! Whatever goes wrong, as problem details (RFC 9457).

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use sosna_api::{Code, Problem, problem::MEDIA_TYPE};
use sosna_store::StoreError;

use crate::error::HubError;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

// === impl Failure ===

impl Failure {
    /// A refusal.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// The address is there, but knows another method only.
    pub(crate) fn not_allowed(path: &str) -> Self {
        let detail = format!("{path} does not know this method; /openapi.json lists what there is");
        let mut problem = Problem::new(Code::Invalid, detail);
        problem.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
        Self(problem)
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self(error.problem())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        HubError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = problem.code;
        let mut answer = (status, Json(problem)).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sosna\""));
        }
        if code == Code::Busy {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        answer
    }
}
