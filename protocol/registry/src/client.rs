//! One GET of a registry: the address, the sign-in, the meaning of a refusal. It never sends a password anywhere but
//! over TLS or to this very machine, follows no redirect that leaves TLS, and connects only where it may.

use std::{
    collections::HashMap,
    error::Error as _,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE},
    redirect::Policy,
};
use serde::Deserialize;

use crate::{
    reach::{Denied, Reach},
    reference::{Reference, is_loopback},
};

/// Manifests are asked for in either dialect, and indexes too.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// No token answer is longer.
const TOKEN_ANSWER_BYTES: usize = 64 * 1024;

/// Registries ask for a manifest and for a blob at different addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A manifest or an index.
    Manifest,
    /// Anything else.
    Blob,
}

/// How to sign in to a registry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum RegistryAuth {
    /// As anybody; many registries hand out a token even so, and it is fetched.
    #[default]
    Anonymous,
    /// With a name and a password, sent to the registry or to the token server that it names, over TLS.
    Basic {
        /// The name.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// With a ready token.
    Bearer(String),
}

/// How many repositories' tokens are kept at a time.
const MOST_TOKENS: usize = 256;

/// Why a registry gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It is where it may not be.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Its token server wants other credentials.
    #[error("not authorised (HTTP {0}): it wants other credentials, or hides that it has no such image")]
    Unauthorised(u16),
    /// Nobody answers.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Nothing came for too long.
    #[error("silent for {seconds} s")]
    Stalled {
        /// How long.
        seconds: u64,
    },
    /// The token server's or the registry's sign-in cannot be followed.
    #[error("its sign-in cannot be followed: {0}")]
    Auth(String),
    /// No HTTP client could be built.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// A client of all registries.
#[derive(Debug)]
pub struct Registries {
    client: Mutex<Option<Client>>,
    /// What worked as Authorization header for a repository.
    tokens: Mutex<HashMap<(String, RegistryAuth), HeaderValue>>,
    patience: Duration,
    reach: Reach,
}

// === impl RegistryAuth ===

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stay out of logs.
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
        })
    }
}

// === impl RegistryError ===

impl RegistryError {
    fn of(error: reqwest::Error) -> Self {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(denied) = inner.downcast_ref::<Denied>() {
                return Self::Denied(denied.clone());
            }
            cause = inner.source();
        }
        Self::Unreachable(reason(error))
    }
}

// === impl Registries ===

impl Registries {
    /// A client that waits so long for an answer and goes no further than `reach`. Its HTTP client is built at the
    /// first request, unless one is given (which then goes wherever it goes).
    #[must_use]
    pub fn new(reach: Reach, patience: Duration, client: Option<Client>) -> Self {
        Self { client: Mutex::new(client), tokens: Mutex::new(HashMap::new()), patience, reach }
    }

    /// Asks for a manifest by tag or digest, or for a blob by digest, from byte `from` on. The answer may have any
    /// status.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn get(
        &self,
        reference: &Reference,
        auth: &RegistryAuth,
        kind: Kind,
        what: &str,
        from: u64,
    ) -> Result<Response, RegistryError> {
        let api = reference.api();
        let folder = if kind == Kind::Manifest { "manifests" } else { "blobs" };
        let address = format!("{api}/{folder}/{what}");
        let client = self.client()?;
        let key = (api, auth.clone());
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let first = match (known, auth) {
            (None, RegistryAuth::Bearer(token)) => Some(header("Bearer", token)?),
            (known, _) => known,
        };
        let answer = self.send(&client, &address, kind, from, first).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || matches!(auth, RegistryAuth::Bearer(_)) {
            return Ok(answer);
        }
        // A token may have run out, or none was there: sign in once (distribution-spec, "Token authentication").
        let Some(value) = self.sign_in(&client, &answer, reference, auth).await? else {
            return Ok(answer);
        };
        let answer = self.send(&client, &address, kind, from, Some(value.clone())).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            // Strangers choose the images' names: without them a sign-in more is all that is lost.
            if tokens.len() >= MOST_TOKENS {
                tokens.clear();
            }
            tokens.insert(key, value);
        }
        Ok(answer)
    }

    async fn send(
        &self,
        client: &Client,
        address: &str,
        kind: Kind,
        from: u64,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let url = Url::parse(address).map_err(|error| RegistryError::Unreachable(error.to_string()))?;
        self.reach.check(&url)?;
        let mut request = client.get(url).header(ACCEPT_ENCODING, "identity");
        if kind == Kind::Manifest {
            request = request.header(ACCEPT, MANIFEST_TYPES);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        match tokio::time::timeout(self.patience, request.send()).await {
            Err(_) => Err(RegistryError::Stalled { seconds: self.patience.as_secs() }),
            Ok(Err(error)) => Err(RegistryError::of(error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The Authorization header that the registry's challenge asks for; none when there is nothing to offer.
    async fn sign_in(
        &self,
        client: &Client,
        refused: &Response,
        reference: &Reference,
        auth: &RegistryAuth,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let challenges = refused.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<&str> = challenges.iter().filter_map(|value| value.to_str().ok()).collect();
        let bearer = challenges.iter().find_map(|text| strip_scheme(text, "bearer"));
        if let Some(parameters) = bearer {
            return self.token(client, &parse_parameters(parameters), reference, auth).await.map(Some);
        }
        match auth {
            RegistryAuth::Basic { username, password }
                if challenges.iter().any(|text| strip_scheme(text, "basic").is_some()) =>
            {
                basic(username, password).map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn token(
        &self,
        client: &Client,
        parameters: &HashMap<String, String>,
        reference: &Reference,
        auth: &RegistryAuth,
    ) -> Result<HeaderValue, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let wrong = |text: &str| RegistryError::Auth(text.to_owned());
        let realm = parameters.get("realm").ok_or_else(|| wrong("no realm in the challenge"))?;
        let mut url = Url::parse(realm).map_err(|_| wrong("the realm is not an address"))?;
        if !is_safe(&url) {
            return Err(wrong("the token server is not behind TLS"));
        }
        let scope = format!("repository:{}:pull", reference.repository());
        let scope = parameters.get("scope").unwrap_or(&scope);
        url.query_pairs_mut().append_pair("scope", scope);
        if let Some(service) = parameters.get("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        let authorization = match auth {
            RegistryAuth::Basic { username, password } => Some(basic(username, password)?),
            _ => None,
        };
        let mut answer = self.send(client, url.as_str(), Kind::Blob, 0, authorization).await?;
        if !answer.status().is_success() {
            return Err(RegistryError::Unauthorised(answer.status().as_u16()));
        }
        let mut text = Vec::new();
        let read = async {
            while let Some(chunk) = answer.chunk().await.map_err(|e| RegistryError::Unreachable(reason(e)))? {
                text.extend_from_slice(&chunk);
                if text.len() > TOKEN_ANSWER_BYTES {
                    return Err(wrong("the token server's answer is too long"));
                }
            }
            Ok(())
        };
        let stalled = RegistryError::Stalled { seconds: self.patience.as_secs() };
        tokio::time::timeout(self.patience, read).await.map_err(|_| stalled)??;
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| wrong("the token server's answer is malformed"))?;
        let token =
            answer.token.or(answer.access_token).ok_or_else(|| wrong("the token server gave no token"))?;
        header("Bearer", &token)
    }

    fn client(&self) -> Result<Client, RegistryError> {
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let reach = self.reach.clone();
        let policy = Policy::custom(move |attempt| {
            if let Err(denied) = reach.check(attempt.url()) {
                attempt.error(denied)
            } else if attempt.previous().len() > 5 {
                attempt.error("too many redirects")
            } else if is_safe(attempt.url()) {
                attempt.follow()
            } else {
                attempt.error("a redirect away from TLS")
            }
        });
        let built = Client::builder()
            .connect_timeout(self.patience.min(Duration::from_secs(10)))
            .redirect(policy)
            .dns_resolver(self.reach.resolver())
            .user_agent(concat!("sosna/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = built.map_err(|e| RegistryError::Client(reason(e)))?;
        Ok(slot.insert(client).clone())
    }
}

/// An HTTP error with its causes in one line; the address is known already and may carry a signature.
#[must_use]
pub fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && url.host_str().is_some_and(is_loopback))
}

fn header(scheme: &str, value: &str) -> Result<HeaderValue, RegistryError> {
    let mut header = HeaderValue::try_from(format!("{scheme} {value}"))
        .map_err(|_| RegistryError::Auth("a credential has characters that HTTP cannot carry".into()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    header("Basic", &base64(format!("{username}:{password}").as_bytes()))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| usize::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            text.push(if i <= chunk.len() { char::from(LETTERS[bits >> (18 - 6 * i) & 63]) } else { '=' });
        }
    }
    text
}

fn strip_scheme<'a>(challenge: &'a str, scheme: &str) -> Option<&'a str> {
    let (name, rest) = challenge.trim().split_once(' ').unwrap_or((challenge.trim(), ""));
    name.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// `name="value"` pairs between commas (RFC 9110, 11.2).
fn parse_parameters(mut text: &str) -> HashMap<String, String> {
    let mut parameters = HashMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut characters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((i, character)) = characters.next() {
                    match character {
                        '"' => {
                            end = i + 1;
                            break;
                        }
                        '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                        _ => value.push(character),
                    }
                }
                (value, &quoted[end..])
            }
            None => {
                let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
                (value.trim().to_owned(), rest)
            }
        };
        parameters.insert(name, value);
        text = rest;
    }
    parameters
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.example/token",service="a \"b\"", scope="repository:x:pull,push",e=1"#;
        let parameters = parse_parameters(strip_scheme(text, "bearer").unwrap());
        assert_eq!(parameters["realm"], "https://auth.example/token");
        assert_eq!(parameters["service"], "a \"b\"");
        assert_eq!(parameters["scope"], "repository:x:pull,push");
        assert_eq!(parameters["e"], "1");
        assert!(parse_parameters("realm=\"unfinished").contains_key("realm"));
        assert!(strip_scheme("Basic", "basic").is_some());
    }

    #[test]
    fn only_tls_or_this_machine() {
        for (url, safe) in [
            ("https://a.example/", true),
            ("http://127.0.0.1:5000/", true),
            ("http://[::1]:5000/", true),
            ("http://a.example/", false),
            ("http://127.0.0.1.example/", false),
            ("ftp://127.0.0.1/", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), safe, "{url}");
        }
    }
}
