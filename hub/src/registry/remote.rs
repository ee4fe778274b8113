//! Images in registries (OCI distribution specification, "Pulling manifests").

use std::{net::IpAddr, time::Duration};

use futures_util::StreamExt as _;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    manifest::{
        IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
        OCI_IMAGE_MEDIA_TYPE,
    },
    secrets::RegistryAuth,
};
use sosna_api::Code;
use sosna_protocol::{Hash, hash::sha256, resources::Arch};

use super::{Configuration, Descriptor, MAX_MANIFEST, Manifest, Resolved, refused, sha256_of};
use crate::{
    error::HubError,
    hub::Hub,
    job::{ResolvedImage, Source},
};

/// How long a registry may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the whole may take.
const MOST: Duration = Duration::from_secs(60);

const ACCEPTED: &[&str] = &[
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// A registry, and what it is asked for.
struct Asking<'a> {
    client: Client,
    text: &'a str,
    reference: Reference,
}

pub(super) async fn resolve(_hub: &Hub, text: &str, arch: Option<Arch>) -> Result<Resolved, HubError> {
    let reference: Reference = text.parse().map_err(|error| {
        let form = "a reference is `host[:port]/name[:tag][@sha256:…]`";
        HubError::refused(Code::Invalid, format!("`{text}` is no image reference ({error}); {form}"))
    })?;
    if reference.digest().is_some_and(|digest| sha256_of(digest).is_none()) {
        return refused(
            Code::Invalid,
            format!("`{text}` names a digest that is no SHA-256; use the image's SHA-256"),
        );
    }
    let client = client(reference.resolve_registry())?;
    let asking = Asking { client, text, reference };
    tokio::time::timeout(MOST, asking.resolve(arch))
        .await
        .unwrap_or_else(|_| Err(asking.unreachable(&"it takes too long")))
}

fn client(registry: &str) -> Result<Client, HubError> {
    // Whoever can change what goes over loopback rules this machine anyway. Elsewhere a registry without TLS
    // would let the network choose what runs.
    let protocol = if is_loopback(registry) {
        ClientProtocol::HttpsExcept(vec![registry.to_owned()])
    } else {
        ClientProtocol::Https
    };
    let config = ClientConfig {
        protocol,
        platform_resolver: None,
        connect_timeout: Some(PATIENCE),
        read_timeout: Some(PATIENCE),
        user_agent: concat!("sosna-hub/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| HubError::internal("no registry client could be made", error))
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

// === impl Asking ===

impl Asking<'_> {
    async fn resolve(&self, wanted: Option<Arch>) -> Result<Resolved, HubError> {
        let (bytes, digest) = self.manifest(&self.reference).await?;
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
        let source = format!("{}/{}", self.reference.registry(), self.reference.repository());
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
        let blob = self.client.pull_blob_stream(&self.reference, config.digest.as_str()).await;
        let mut blob = blob.map_err(|error| self.failed(error))?.stream;
        let mut bytes = Vec::new();
        while let Some(piece) = blob.next().await {
            let piece = piece.map_err(|error| self.unreachable(&error))?;
            if (bytes.len() + piece.len()) as u64 > config.size {
                return Err(self.wrong(&config.digest));
            }
            bytes.extend_from_slice(&piece);
        }
        if sha256(&bytes) != name {
            return Err(self.wrong(&config.digest));
        }
        let found: Configuration = serde_json::from_slice(&bytes)
            .map_err(|error| self.unusable(&format!("its configuration: {error}")))?;
        let arch = found.platform.arch().filter(|arch| wanted.is_none_or(|wanted| wanted == *arch));
        Ok(arch.map(|arch| (arch, digest)).into_iter().collect())
    }

    /// A manifest's bytes, and the digest that they really have.
    async fn manifest(&self, reference: &Reference) -> Result<(bytes::Bytes, Hash), HubError> {
        let answer = self.client.pull_manifest_raw(reference, &RegistryAuth::Anonymous, ACCEPTED).await;
        let (bytes, said) = answer.map_err(|error| self.failed(error))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(self.unusable("it is too long"));
        }
        let digest = sha256(&bytes);
        let expected = [reference.digest(), Some(said.as_str())];
        match expected.into_iter().flatten().find(|one| sha256_of(one) != Some(digest)) {
            Some(expected) => Err(self.wrong(expected)),
            None => Ok((bytes, digest)),
        }
    }

    fn failed(&self, error: OciDistributionError) -> HubError {
        let unknown = || {
            let detail = format!(
                "the registry has no image {}, or does not show it to strangers; check name and tag, or send the image \
                 with `oci:` or `docker-archive:`",
                self.text
            );
            HubError::refused(Code::UnknownImage, detail)
        };
        match error {
            OciDistributionError::DigestError(_) => {
                self.wrong(self.reference.digest().unwrap_or("its digest"))
            }
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401 | 403 | 404, .. } => unknown(),
            OciDistributionError::RegistryError { envelope, .. }
                if envelope.errors.iter().all(|one| one.code != OciErrorCode::Toomanyrequests) =>
            {
                unknown()
            }
            error => self.unreachable(&sosna_host::report::line(&error)),
        }
    }

    fn unreachable(&self, reason: &dyn std::fmt::Display) -> HubError {
        let registry = self.reference.registry();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for registry in ["localhost:5000", "127.0.0.1:5000", "127.0.0.1", "[::1]:5000", "localhost"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["localhost.example:5000", "10.0.0.1:5000", "registry.example", "127.0.0.1.example"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
