//! The hub's REST interface, as this program uses it: JSON both ways, problems as errors, and the same request
//! again (under the same idempotency key) where the connection broke.

mod content;
mod sse;

use std::{error::Error as StdError, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use sosna_api::{Problem, problem, route};
use sosna_host::{clock::SystemClock, retry::Backoff, tls};
use sosna_protocol::identity::Nonce;

pub use content::Received;
pub use sse::{Event, Events};

use crate::{
    connect::{Credentials, Token},
    error::Error,
};

/// How often a request is tried whose repetition does no harm.
const ATTEMPTS: u32 = 6;
/// How long an answer may take. Resolving an image in a slow registry is the longest.
const PATIENCE: Duration = Duration::from_secs(120);

/// A hub, and who we are there.
#[derive(Debug, Clone)]
pub struct Hub {
    http: reqwest::Client,
    base: String,
    token: Option<Token>,
}

/// Names one act, so that doing it twice does it once.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A new one, for one act and all attempts at it.
    #[must_use]
    pub fn random() -> Self {
        Self(Nonce(sosna_host::random()).to_string())
    }
}

/// A query string of the pairs that have a value.
#[must_use]
pub fn query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    let mut separator = '?';
    for (key, value) in pairs {
        if let Some(value) = value {
            // `fill` encodes what a query must not have, too.
            text.push_str(&route::fill(&format!("{separator}{key}={{value}}"), value));
            separator = '&';
        }
    }
    text
}

// === impl Hub ===

impl Hub {
    /// A client for these credentials. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error`] where TLS cannot be set up.
    pub fn new(credentials: &Credentials) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("sosna/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .tcp_keepalive(Duration::from_secs(15))
            // A redirect would carry the token elsewhere; hubs send none.
            .redirect(reqwest::redirect::Policy::none())
            // A proxy from the environment must not see what goes to this machine itself.
            .no_proxy();
        if let Some(authority) = credentials.pin()? {
            let config = tls::client(tls::Pin::Key(authority), None, Some(SystemClock::shared()))?;
            builder = builder.tls_backend_preconfigured(config);
        }
        let http = builder.build().map_err(Error::Client)?;
        Ok(Self { http, base: credentials.hub.clone(), token: credentials.token.clone() })
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Reads something.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(path, self.request(Method::GET, path).timeout(PATIENCE)).await
    }

    /// Changes something that may be changed twice.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Error> {
        self.json(path, self.request(Method::POST, path).timeout(PATIENCE).json(body)).await
    }

    /// Makes something once, however often it takes to be heard.
    ///
    /// # Errors
    /// [`Error`], the last attempt's.
    pub async fn create<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        key: &IdempotencyKey,
    ) -> Result<T, Error> {
        self.again(|| {
            let request = self.request(Method::POST, path).timeout(PATIENCE);
            self.json(path, request.header(route::IDEMPOTENCY_KEY, &key.0).json(body))
        })
        .await
    }

    /// Does it again while the connection breaks, a bounded number of times.
    async fn again<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(8));
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match attempt().await {
                Err(error) if left > 0 && is_passing(&error) => {
                    let wait = backoff.wait();
                    let why = match &error {
                        Error::Problem(problem) => problem.title.as_str(),
                        _ => "no answer",
                    };
                    crate::output::note(&format!("{}: {why}; trying again", self.base));
                    tokio::time::sleep(wait).await;
                }
                other => return other,
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(&self, path: &str, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(path, request).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(error))?;
        let unreadable = |error| self.unreadable(path, error);
        serde_json::from_slice(&bytes).map_err(unreadable)
    }

    /// Sends a request and takes only success for an answer.
    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| self.broken(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_problem = kind.is_some_and(|kind| kind.starts_with(problem::MEDIA_TYPE));
        let bytes = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if is_problem => Err(Error::Problem(problem)),
            // An older program does not know a newer hub's codes, but can still say what it says.
            _ if is_problem => Err(Error::Failed(foreign_problem(&bytes, status))),
            _ => {
                Err(Error::NotAHub { hub: self.base.clone(), path: path.to_owned(), status: status.as_u16() })
            }
        }
    }

    pub(crate) fn unreadable_event(&self, path: &str, error: serde_json::Error) -> Error {
        self.unreadable(path, error)
    }

    fn unreadable(&self, path: &str, error: impl StdError + Send + Sync + 'static) -> Error {
        Error::Answer { hub: self.base.clone(), path: path.to_owned(), source: Box::new(error) }
    }

    fn broken(&self, error: reqwest::Error) -> Error {
        // The address may carry nothing secret, but it is in our own message already.
        let error = error.without_url();
        let hub = self.base.clone();
        if is_distrust(&error) {
            Error::Untrusted { hub, source: Box::new(error) }
        } else {
            Error::NoAnswer { hub, source: Box::new(error) }
        }
    }

    pub(crate) fn silent(&self, why: &'static str) -> Error {
        Error::NoAnswer { hub: self.base.clone(), source: why.into() }
    }
}

/// Whether the same request may succeed a moment later.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::NoAnswer { .. } => true,
        Error::Problem(problem) => problem.code == sosna_api::Code::Busy,
        _ => false,
    }
}

/// Whether it failed because the other side is not whom we look for.
fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    // An I/O error does not name what it wraps as its source, and may wrap another one.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|inner| is_distrust(inner)) || error.source().is_some_and(is_distrust)
}

fn foreign_problem(bytes: &[u8], status: StatusCode) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |key: &str| value.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => format!("the hub refuses with status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_have_only_what_is_there_and_nothing_breaks_out() {
        let pairs =
            [("state", Some("running".to_owned())), ("before", None), ("x", Some("a&b=c d".to_owned()))];
        assert_eq!(query("/v1/jobs", &pairs), "/v1/jobs?state=running&x=a%26b%3Dc%20d");
        assert_eq!(query("/v1/jobs", &[("a", None)]), "/v1/jobs");
    }
}
