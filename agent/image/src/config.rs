//! The two JSON documents of an image, read leniently for what a device needs and strictly for what it relies on
//! (OCI image-spec, manifest.md and config.md; Docker's schema 2 has the same fields). Documents are parsed only
//! after their digest has been checked.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// More layers than overlayfs can stack (500) are of no use.
const MAX_LAYERS: usize = 500;

/// What an image was built for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// In Go's words: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// For example `v7`; none means any.
    #[serde(default)]
    pub variant: Option<String>,
}

/// How an image wants to be started (OCI image-spec, config.md, "config").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunConfig {
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the program itself when there is no entry point.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where to start; none means `/`.
    pub working_dir: Option<String>,
    /// As written in the image; see [`crate::resolve_user`].
    pub user: Option<String>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
}

/// A document that cannot be used, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentError(pub(crate) String);

/// The manifest, as far as needed.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// A reference to content.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The configuration, as far as needed.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) platform: Platform,
    pub(crate) run: RunConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, DocumentError> {
    Err(DocumentError(sentence.into()))
}

// === impl Platform ===

impl Platform {
    /// The platform that this program was compiled for, in the words of images.
    #[must_use]
    pub fn native() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            other => (other, None),
        };
        Self {
            os: std::env::consts::OS.into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Whether an image for `found` runs where `self` is expected. Variants count only when both name one; those that
    /// are levels (`v6`, `v7` of arm, `v2`, `v3` of amd64) run on every higher one too.
    #[must_use]
    pub fn accepts(&self, found: &Self) -> bool {
        let level = |variant: &str| variant.strip_prefix('v')?.parse::<u8>().ok();
        let variants = match (&self.variant, &found.variant) {
            (Some(expected), Some(found)) => match (level(expected), level(found)) {
                (Some(expected), Some(found)) => found <= expected,
                _ => expected == found,
            },
            _ => true,
        };
        self.os == found.os && self.architecture == found.architecture && variants
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

// === impl Manifest ===

impl Manifest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            schema_version: Option<u32>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let wrong = |error: serde_json::Error| DocumentError(format!("the manifest is malformed: {error}"));
        let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
        if head.manifests.is_some() && head.layers.is_none() {
            return refuse(
                "the digest names an index of several platforms; ask for the digest of this platform's manifest",
            );
        }
        if head.schema_version != Some(2) {
            return refuse(
                "the manifest is not of schema version 2; rebuild or push the image with a current tool",
            );
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        match manifest.layers.len() {
            0 => refuse("the manifest has no layers"),
            n if n > MAX_LAYERS => refuse(format!("the manifest has {n} layers, more than {MAX_LAYERS}")),
            _ => Ok(manifest),
        }
    }
}

// === impl Config ===

impl Config {
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(flatten)]
            platform: Platform,
            #[serde(default)]
            config: Option<Run>,
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            diff_ids: Vec<Digest>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Run {
            entrypoint: Option<Vec<String>>,
            cmd: Option<Vec<String>>,
            env: Option<Vec<String>>,
            working_dir: Option<String>,
            user: Option<String>,
            labels: Option<BTreeMap<String, String>>,
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError(format!("the configuration is malformed: {error}")))?;
        let diff_ids = document.rootfs.diff_ids;
        if diff_ids.len() != layers {
            return refuse(format!("the manifest has {layers} layers, the configuration {}", diff_ids.len()));
        }
        let run = document.config.unwrap_or_default();
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let run = RunConfig {
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: some(run.working_dir),
            user: some(run.user),
            labels: run.labels.unwrap_or_default(),
        };
        let texts =
            run.entrypoint.iter().chain(&run.cmd).chain(&run.env).chain(&run.working_dir).chain(&run.user);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return refuse("the configuration has a zero byte in a text that a program would be given");
        }
        Ok(Self { platform: document.platform, run, diff_ids })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_index_and_old_schemas_are_named() {
        let index = Manifest::parse(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap_err();
        assert!(index.to_string().contains("index of several platforms"), "{index}");
        let old = Manifest::parse(br#"{"schemaVersion":1,"layers":[],"config":{}}"#).unwrap_err();
        assert!(old.to_string().contains("schema version 2"), "{old}");
        assert!(Manifest::parse(b"[]").is_err());
        assert!(Manifest::parse(b"").is_err());
    }

    #[test]
    fn null_and_missing_parts_of_a_configuration_are_empty() {
        let text = br#"{"os":"linux","architecture":"arm","variant":"v7","config":{"Cmd":null,"User":""},
                        "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = Config::parse(text, 0).unwrap();
        assert_eq!(config.run, RunConfig::default());
        assert_eq!(config.platform.to_string(), "linux/arm/v7");
        assert!(Config::parse(text, 1).unwrap_err().to_string().contains("1 layers"));
    }

    #[test]
    fn variants_count_when_both_name_one() {
        let platform = |variant: Option<&str>| Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: variant.map(str::to_owned),
        };
        assert!(platform(None).accepts(&platform(Some("v7"))));
        assert!(platform(Some("v7")).accepts(&platform(None)));
        assert!(!platform(Some("v6")).accepts(&platform(Some("v7"))));
        assert!(platform(Some("v7")).accepts(&platform(Some("v6"))));
        assert!(!platform(Some("hard")).accepts(&platform(Some("soft"))));
    }
}
