//! One GET for some content, whatever kind of source it is: the address, the sign-in of registries, the meaning of
//! the answer. It never sends a password anywhere but over TLS or to this very machine, and follows no redirect that
//! leaves TLS.

use std::{
    collections::HashMap,
    error::Error as _,
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
    digest::Digest,
    error::SourceError,
    reference::{Reference, is_loopback},
    request::{RegistryAuth, Source},
};

/// Manifests are asked for in either dialect; an index too, so that its digest is answered by a clear error.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// No token answer is longer.
const TOKEN_ANSWER_BYTES: usize = 64 * 1024;

/// Registries ask for a manifest and for a blob at different addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

/// HTTP towards all sources.
#[derive(Debug)]
pub(crate) struct Http {
    client: Mutex<Option<Client>>,
    /// What worked as Authorization header for a repository.
    tokens: Mutex<HashMap<(String, RegistryAuth), HeaderValue>>,
    patience: Duration,
}

// === impl Http ===

impl Http {
    /// `client` is for registries; without one, one is built when a registry is first asked.
    pub(crate) fn new(client: Option<Client>, patience: Duration) -> Self {
        Self { client: Mutex::new(client), tokens: Mutex::new(HashMap::new()), patience }
    }

    /// Asks `source` for content from byte `from` on. The answer is 200 or 206; every other one is an error.
    pub(crate) async fn get(
        &self,
        source: &Source,
        kind: Kind,
        digest: Digest,
        from: u64,
    ) -> Result<Response, SourceError> {
        let response = match source {
            Source::Content { base_url, client } => {
                let address = format!("{}/sha256/{}", base_url.trim_end_matches('/'), digest.hex());
                self.send(client, &address, kind, from, None).await?
            }
            Source::Registry { reference, auth } => {
                self.registry(reference, auth, kind, digest, from).await?
            }
        };
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(SourceError::Unknown),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(SourceError::Unauthorised(status.as_u16()))
            }
            StatusCode::TOO_MANY_REQUESTS => Err(SourceError::Throttled),
            status => Err(SourceError::Status(status.as_u16())),
        }
    }

    async fn registry(
        &self,
        reference: &str,
        auth: &RegistryAuth,
        kind: Kind,
        digest: Digest,
        from: u64,
    ) -> Result<Response, SourceError> {
        let reference: Reference = reference.parse()?;
        if let Some(own) = reference.digest()
            && kind == Kind::Manifest
            && own != digest
        {
            return Err(SourceError::OtherDigest(own));
        }
        let api = reference.api();
        let folder = if kind == Kind::Manifest { "manifests" } else { "blobs" };
        let address = format!("{api}/{folder}/{digest}");
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
        let Some(value) = self.sign_in(&client, &answer, &reference, auth).await? else {
            return Ok(answer);
        };
        let answer = self.send(&client, &address, kind, from, Some(value.clone())).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
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
    ) -> Result<Response, SourceError> {
        let mut request = client.get(address).header(ACCEPT_ENCODING, "identity");
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
            Err(_) => Err(SourceError::Stalled { seconds: self.patience.as_secs(), done: from }),
            Ok(Err(error)) => Err(SourceError::Unreachable(reason(error))),
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
    ) -> Result<Option<HeaderValue>, SourceError> {
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
    ) -> Result<HeaderValue, SourceError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let wrong = |text: &str| SourceError::Auth(text.to_owned());
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
            return Err(SourceError::Unauthorised(answer.status().as_u16()));
        }
        let mut text = Vec::new();
        let read = async {
            while let Some(chunk) = answer.chunk().await.map_err(|e| SourceError::Unreachable(reason(e)))? {
                text.extend_from_slice(&chunk);
                if text.len() > TOKEN_ANSWER_BYTES {
                    return Err(wrong("the token server's answer is too long"));
                }
            }
            Ok(())
        };
        let stalled = SourceError::Stalled { seconds: self.patience.as_secs(), done: 0 };
        tokio::time::timeout(self.patience, read).await.map_err(|_| stalled)??;
        let answer: Answer =
            serde_json::from_slice(&text).map_err(|_| wrong("the token server's answer is malformed"))?;
        let token =
            answer.token.or(answer.access_token).ok_or_else(|| wrong("the token server gave no token"))?;
        header("Bearer", &token)
    }

    fn client(&self) -> Result<Client, SourceError> {
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let policy = Policy::custom(|attempt| {
            if attempt.previous().len() > 5 {
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
            .user_agent(concat!("sosna/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = built.map_err(|e| SourceError::Client(reason(e)))?;
        Ok(slot.insert(client).clone())
    }
}

/// An HTTP error with its causes in one line; the address is known already and may carry a signature.
pub(crate) fn reason(error: reqwest::Error) -> String {
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

fn header(scheme: &str, value: &str) -> Result<HeaderValue, SourceError> {
    let mut header = HeaderValue::try_from(format!("{scheme} {value}"))
        .map_err(|_| SourceError::Auth("a credential has characters that HTTP cannot carry".into()))?;
    header.set_sensitive(true);
    Ok(header)
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, SourceError> {
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
