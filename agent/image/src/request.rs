//! What a caller asks for: one manifest by digest, for one platform, from sources in the order of preference.

use std::{fmt, sync::Arc};

use sosna_registry::{Digest, RegistryAuth};

use crate::config::Platform;

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Compressed bytes on this device.
    pub done: u64,
    /// Compressed bytes of all layers that had to come, as the manifest says.
    pub total: u64,
}

/// One image to be made ready.
#[derive(Clone)]
pub struct ImageRequest {
    /// The manifest's digest: whatever the sources say, these bytes and no others.
    pub manifest_digest: Digest,
    /// What the image must be built for.
    pub platform: Platform,
    /// Where to look, in this order.
    pub sources: Vec<Source>,
    /// More compressed bytes than these are not fetched for its layers; what is here already costs nothing.
    pub most_bytes: Option<u64>,
    /// Called now and then while layers come; must return quickly.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

/// A place that may have an image's content. None of them is trusted.
#[derive(Debug, Clone)]
pub enum Source {
    /// An OCI registry.
    Registry {
        /// `name`, `user/name` or `host:port/name`; a tag is ignored.
        reference: String,
        /// How to sign in.
        auth: RegistryAuth,
    },
    /// A content server that answers `GET <base_url>/sha256/<hex>`, with ranges.
    Content {
        /// Without the trailing slash.
        base_url: String,
        /// Brings the device's own certificate along.
        client: reqwest::Client,
    },
}

// === impl Source ===

impl Source {
    /// An anonymous registry source.
    pub fn registry(reference: impl Into<String>) -> Self {
        Self::Registry { reference: reference.into(), auth: RegistryAuth::Anonymous }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { reference, .. } => write!(f, "registry {reference}"),
            Self::Content { base_url, .. } => write!(f, "content server {base_url}"),
        }
    }
}

// === impl ImageRequest ===

impl fmt::Debug for ImageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageRequest")
            .field("manifest_digest", &self.manifest_digest)
            .field("platform", &self.platform)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}
