//! Which bytes an image's name means, settled once for all replicas of all tasks of a job.
//!
//! A registry is asked for manifests only: layers go from it to devices. It must never trust a registry for what
//! a digest says, nor speak to one without TLS beyond this machine.

mod content;
mod remote;

pub(crate) use remote::PATIENCE;

use serde::Deserialize;
use sosna_api::{Code, job::ImageSpec};
use sosna_protocol::{Hash, resources::Arch};

use crate::{error::HubError, hub::Hub, job::ResolvedImage};

/// The largest manifest, index or configuration that is looked at (the distribution specification asks for 4 MiB).
const MAX_MANIFEST: u64 = 4 << 20;
/// Most layers of an image.
const MAX_LAYERS: usize = 512;

/// An image, settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// One for each architecture that it can run on.
    pub images: Vec<ResolvedImage>,
    /// What devices may read of it from the hub's content store.
    pub content: Vec<Hash>,
}

/// Settles which manifests an image in a registry is, for one architecture or for all that there are; `None` for one
/// in the hub's own store.
///
/// # Errors
/// [`Code::UnknownImage`], [`Code::UnreachableRegistry`], [`Code::WrongDigest`], [`Code::Invalid`]; each names the
/// image and what to do.
pub async fn resolve(hub: &Hub, image: &ImageSpec, arch: Option<Arch>) -> Result<Option<Resolved>, HubError> {
    match image {
        ImageSpec::Reference(reference) => remote::resolve(hub, reference, arch).await.map(Some),
        ImageSpec::Content(_) => Ok(None),
    }
}

/// The same for an image that a buyer has sent to the hub's own store. What it consists of may be collected until a
/// job names it: the caller sees to that.
///
/// # Errors
/// [`Code::MissingContent`], [`Code::UnknownImage`], [`Code::Invalid`].
pub(crate) async fn resolve_here(
    hub: &Hub,
    buyer: &str,
    image: &ImageSpec,
    arch: Option<Arch>,
) -> Result<Resolved, HubError> {
    match image {
        ImageSpec::Content(image) => content::resolve(hub, buyer, image, arch).await,
        ImageSpec::Reference(name) => {
            refused(Code::Invalid, format!("the image {name} is not one of the hub's own store"))
        }
    }
}

/// A manifest or index: the fields that are needed, of OCI's form and of Docker's, which agree in them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// What a manifest says of a part (image-spec, "OCI Content Descriptors").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

/// For which machines a manifest is.
#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

/// The fields of an image's configuration that are needed.
#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(flatten)]
    platform: Platform,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a manifest or index; the error says what is wrong with it.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.schema_version != 2 {
            return Err(format!("its schema version is {}, not 2", manifest.schema_version));
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(format!("it has {} layers; {MAX_LAYERS} are the most", manifest.layers.len()));
        }
        if manifest.manifests.is_none() && (manifest.config.is_none() || manifest.layers.is_empty()) {
            return Err("it names no configuration or no layers".to_owned());
        }
        Ok(manifest)
    }
}

// === impl Descriptor ===

impl Descriptor {
    fn sha256(&self) -> Option<Hash> {
        sha256_of(&self.digest)
    }
}

// === impl Platform ===

impl Platform {
    /// The architecture that devices know it by; `None` for other systems and older processors.
    fn arch(&self) -> Option<Arch> {
        let arch = Arch::from_oci(&self.architecture).filter(|_| self.os == "linux")?;
        // Without a variant, 32-bit ARM means version 7 (containerd's platforms package, "Normalization").
        let runs = arch != Arch::Armv7 || matches!(self.variant.as_deref(), None | Some("" | "v7"));
        runs.then_some(arch)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .filter(|variant| !variant.is_empty())
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

fn sha256_of(digest: &str) -> Option<Hash> {
    digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?.parse().ok()
}

fn refused<T>(code: Code, detail: String) -> Result<T, HubError> {
    Err(HubError::refused(code, detail))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn platforms_are_architectures_of_linux() {
        let platform = |os: &str, architecture: &str, variant: Option<&str>| {
            let (os, architecture) = (os.to_owned(), architecture.to_owned());
            Platform { architecture, os, variant: variant.map(str::to_owned) }.arch()
        };
        assert_eq!(platform("linux", "amd64", None), Some(Arch::X86_64));
        assert_eq!(platform("linux", "arm64", Some("v8")), Some(Arch::Aarch64));
        assert_eq!(platform("linux", "arm", Some("v7")), Some(Arch::Armv7));
        assert_eq!(platform("linux", "arm", Some("v6")), None);
        assert_eq!(platform("windows", "amd64", None), None);
        assert_eq!(platform("unknown", "unknown", None), None);
    }

    #[test]
    fn manifests_without_parts_are_refused() {
        assert!(Manifest::read(b"{}").is_err());
        assert!(Manifest::read(br#"{"schemaVersion":1}"#).is_err());
        assert!(Manifest::read(br#"{"schemaVersion":2}"#).unwrap_err().contains("no configuration"));
        assert!(Manifest::read(br#"{"schemaVersion":2,"manifests":[]}"#).is_ok());
        assert_eq!(sha256_of("sha256:00"), None);
        assert_eq!(sha256_of(&format!("sha256:{}", "0".repeat(64))), Some(Hash::ZERO));
    }
}
