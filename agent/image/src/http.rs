//! One GET for some content, whatever kind of source it is, and the meaning of the answer.

use std::time::Duration;

use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT_ENCODING, RANGE},
};
use sosna_registry::{Digest, Kind, Reach, Reference, Registries, RegistryAuth, RegistryError, reason};

use crate::{error::SourceError, request::Source};

/// HTTP towards all sources.
#[derive(Debug)]
pub(crate) struct Http {
    registries: Registries,
    patience: Duration,
}

// === impl Http ===

impl Http {
    /// `client` is for registries; without one, one is built that goes no further than `reach`.
    pub(crate) fn new(client: Option<Client>, reach: Reach, patience: Duration) -> Self {
        Self { registries: Registries::new(reach, patience, client), patience }
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
                self.content(client, &address, from).await?
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
        let answer = self.registries.get(&reference, auth, kind, &digest.to_string(), from).await;
        answer.map_err(|error| match error {
            RegistryError::Denied(denied) => SourceError::Denied(denied),
            RegistryError::Unauthorised(status) => SourceError::Unauthorised(status),
            RegistryError::Unreachable(why) => SourceError::Unreachable(why),
            RegistryError::Stalled { seconds } => SourceError::Stalled { seconds, done: from },
            RegistryError::Auth(why) => SourceError::Auth(why),
            other => SourceError::Client(other.to_string()),
        })
    }

    async fn content(&self, client: &Client, address: &str, from: u64) -> Result<Response, SourceError> {
        let mut request = client.get(address).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        match tokio::time::timeout(self.patience, request.send()).await {
            Err(_) => Err(SourceError::Stalled { seconds: self.patience.as_secs(), done: from }),
            Ok(Err(error)) => Err(SourceError::Unreachable(reason(error))),
            Ok(Ok(response)) => Ok(response),
        }
    }
}
