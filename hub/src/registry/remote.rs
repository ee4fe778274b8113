//! Images in registries (OCI distribution specification, "Pulling manifests").

use std::time::Duration;

use reqwest::{Response, StatusCode};
use sosna_api::Code;
use sosna_protocol::{Hash, hash::sha256, resources::Arch};
use sosna_registry::{Kind, Reference, RegistryAuth, RegistryError, reason};

use super::{Configuration, Descriptor, MAX_MANIFEST, Manifest, Resolved, refused, sha256_of};
use crate::{
    error::HubError,
    hub::Hub,
    job::{ResolvedImage, Source},
};

/// How long a registry may be silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long the whole may take.
const MOST: Duration = Duration::from_secs(60);

/// A registry, and what it is asked for.
struct Asking<'a> {
    hub: &'a Hub,
    text: &'a str,
    reference: Reference,
}

pub(super) async fn resolve(hub: &Hub, text: &str, arch: Option<Arch>) -> Result<Resolved, HubError> {
    let reference: Reference =
        text.parse().map_err(|error| HubError::refused(Code::Invalid, format!("`{text}`: {error}")))?;
    let asking = Asking { hub, text, reference };
    tokio::time::timeout(MOST, asking.resolve(arch))
        .await
        .unwrap_or_else(|_| Err(asking.unreachable(&"it takes too long")))
}

// === impl Asking ===

impl Asking<'_> {
    async fn resolve(&self, wanted: Option<Arch>) -> Result<Resolved, HubError> {
        let (bytes, digest) = self.manifest().await?;
        let manifest = Manifest::read(&bytes).map_err(|reason| self.unusable(&reason))?;
        let found = match &manifest.manifests {
            Some(entries) => choose(entries, wanted),
            None => self.single(&manifest, digest, wanted).await?,
        };
        if found.is_empty() {
            let wanted = wanted.map_or("an architecture that devices have", Arch::oci);
            let detail = format!(
                "the image {} is not there for {wanted}; name another image or architecture",
                self.text
            );
            return refused(Code::UnknownImage, detail);
        }
        let source = self.reference.to_string();
        let resolved = |(arch, manifest): (Arch, Hash)| ResolvedImage {
            arch: arch.into(),
            manifest: manifest.into(),
            source: Source::Registry(source.clone()),
        };
        Ok(Resolved { images: found.into_iter().map(resolved).collect(), content: Vec::new() })
    }

    /// A manifest without an index says in its configuration for which machines it is.
    async fn single(
        &self,
        manifest: &Manifest,
        digest: Hash,
        wanted: Option<Arch>,
    ) -> Result<Vec<(Arch, Hash)>, HubError> {
        let config = manifest.config.as_ref().ok_or_else(|| self.unusable("it names no configuration"))?;
        let name =
            config.sha256().ok_or_else(|| self.unusable("its configuration's digest is no SHA-256"))?;
        if config.size > MAX_MANIFEST {
            return Err(self.unusable("its configuration is too long"));
        }
        let answer = self.ask(Kind::Blob, &config.digest).await?;
        let bytes = self.body(answer, config.size).await?.ok_or_else(|| self.wrong(&config.digest))?;
        if sha256(&bytes) != name {
            return Err(self.wrong(&config.digest));
        }
        let found: Configuration = serde_json::from_slice(&bytes)
            .map_err(|error| self.unusable(&format!("its configuration: {error}")))?;
        let arch = found.platform.arch().filter(|arch| wanted.is_none_or(|wanted| wanted == *arch));
        Ok(arch.map(|arch| (arch, digest)).into_iter().collect())
    }

    /// A manifest's bytes, and the digest that they really have.
    async fn manifest(&self) -> Result<(Vec<u8>, Hash), HubError> {
        let named = self.reference.digest().map(|digest| digest.to_string());
        let what = named.as_deref().or(self.reference.tag()).unwrap_or("latest");
        let answer = self.ask(Kind::Manifest, what).await?;
        let said = answer.headers().get("docker-content-digest");
        let said = said.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = self.body(answer, MAX_MANIFEST).await?.ok_or_else(|| self.unusable("it is too long"))?;
        let digest = sha256(&bytes);
        match named.into_iter().chain(said).find(|one| sha256_of(one) != Some(digest)) {
            Some(expected) => Err(self.wrong(&expected)),
            None => Ok((bytes, digest)),
        }
    }

    /// Asks for a manifest or blob; the answer is a success.
    async fn ask(&self, kind: Kind, what: &str) -> Result<Response, HubError> {
        let registries = &self.hub.registries;
        let answer = registries.get(&self.reference, &RegistryAuth::Anonymous, kind, what, 0).await;
        let answer = answer.map_err(|error| match error {
            RegistryError::Denied(denied) => {
                let detail = format!("the image {} cannot be asked for: {denied}", self.text);
                HubError::refused(Code::Forbidden, detail)
            }
            RegistryError::Unauthorised(_) => self.unknown(),
            other => self.unreachable(&other),
        })?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            // Registries answer a name that cannot be with 400.
            StatusCode::NOT_FOUND
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::BAD_REQUEST => Err(self.unknown()),
            status => Err(self.unreachable(&format!("it answers HTTP {status}"))),
        }
    }

    /// An answer's bytes; `None` where they are more than `most`.
    async fn body(&self, mut answer: Response, most: u64) -> Result<Option<Vec<u8>>, HubError> {
        let mut bytes = Vec::new();
        loop {
            let piece = tokio::time::timeout(PATIENCE, answer.chunk()).await;
            let piece = piece.map_err(|_| self.unreachable(&"it stopped in the middle"))?;
            let Some(piece) = piece.map_err(|error| self.unreachable(&reason(error)))? else {
                return Ok(Some(bytes));
            };
            if (bytes.len() + piece.len()) as u64 > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
    }

    fn unknown(&self) -> HubError {
        let detail = format!(
            "the registry has no image {}, or does not show it to strangers; check name and tag, or send the image \
             with `oci:` or `docker-archive:`",
            self.text
        );
        HubError::refused(Code::UnknownImage, detail)
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> HubError {
        let registry = self.reference.host();
        let detail = format!(
            "the registry {registry} does not answer for the image {}: {reason}; try again later",
            self.text
        );
        HubError::refused(Code::UnreachableRegistry, detail)
    }

    fn wrong(&self, expected: &str) -> HubError {
        let detail = format!(
            "the registry answers for the image {} with something else than {expected}; do not use this registry",
            self.text
        );
        HubError::refused(Code::WrongDigest, detail)
    }

    fn unusable(&self, reason: &str) -> HubError {
        let detail =
            format!("the manifest of the image {} cannot be used: {reason}; name another image", self.text);
        HubError::refused(Code::UnknownImage, detail)
    }
}

/// The first entry of an index for each architecture, as the image specification asks.
fn choose(entries: &[Descriptor], wanted: Option<Arch>) -> Vec<(Arch, Hash)> {
    let known = |arch: Arch| {
        let is_it =
            |entry: &&Descriptor| entry.platform.as_ref().and_then(super::Platform::arch) == Some(arch);
        Some((arch, entries.iter().find(is_it)?.sha256()?))
    };
    Arch::ALL
        .into_iter()
        .filter(|arch| wanted.is_none_or(|wanted| wanted == *arch))
        .filter_map(known)
        .collect()
}
