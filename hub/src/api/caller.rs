//! Who asks: the person whose access token a request carries, or whose page it comes from.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{Method, header::AUTHORIZATION, request::Parts},
};
use sosna_api::Code;
use sosna_protocol::Hash;
use sosna_store::{Job, Role, User};

use super::{Failure, Served};
use crate::{admin::hash_token, error::HubError};

/// Who asks.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) User);

impl FromRequestParts<Arc<Served>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, served: &Arc<Served>) -> Result<Self, Failure> {
        let unknown = || {
            let detail = "send an access token as `Authorization: Bearer …`; an admin gives you one";
            Failure::new(Code::Unauthenticated, detail)
        };
        let hash = by_token(parts).or_else(|| by_session(parts, served)).ok_or_else(unknown)?;
        let user = served.hub.store.read(|tx| Box::pin(async move { tx.user_by_token(&hash).await })).await?;
        user.map(Self).ok_or_else(unknown)
    }
}

fn by_token(parts: &Parts) -> Option<Hash> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    // The scheme's case does not matter (RFC 9110, section 11.1).
    scheme.eq_ignore_ascii_case("bearer").then(|| hash_token(token.trim()))
}

/// Pages only look: a cookie never changes anything, so that no other site can make a browser do so. A token that
/// was sent along counts alone.
fn by_session(parts: &Parts, served: &Served) -> Option<Hash> {
    let looks = matches!(parts.method, Method::GET | Method::HEAD);
    // Another port of the same host is the same *site* to `SameSite`, but it is not this origin.
    let ours = parts.headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    if !looks || !ours || parts.headers.contains_key(AUTHORIZATION) {
        return None;
    }
    served.sessions.token_hash(&parts.headers)
}

// === impl Caller ===

impl Caller {
    /// Refuses whoever has none of these roles.
    pub(super) fn require(&self, roles: &[Role]) -> Result<(), Failure> {
        if roles.contains(&self.0.role) {
            return Ok(());
        }
        let needed: Vec<_> = roles.iter().map(|role| role.word()).collect();
        let (name, role) = (&self.0.name, self.0.role.word());
        let detail = format!("`{name}` is {role}, and this is for {}; ask an admin", needed.join(" and "));
        Err(Failure::new(Code::Forbidden, detail))
    }

    /// Whether everybody's jobs and the whole fleet are this person's business.
    pub(super) const fn sees_all(&self) -> bool {
        matches!(self.0.role, Role::Admin | Role::Operator)
    }

    /// Hides other people's jobs: they are answered like those that do not exist.
    pub(super) fn own(&self, job: Option<Job>) -> Result<Job, HubError> {
        let mine = |job: &Job| self.sees_all() || (self.0.role == Role::Buyer && job.buyer == self.0.name);
        job.filter(mine).ok_or_else(|| HubError::not_found("job"))
    }
}
