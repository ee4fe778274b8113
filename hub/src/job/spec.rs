//! What a job runs, with everything settled that the buyer left open: the form that is stored and that every
//! replica follows.

use serde::{Deserialize, Serialize};
use sosna_api::{
    job::{NewJob, Verification},
    text::{ArchText, HashText},
};
use sosna_protocol::{
    Hash,
    resources::{Arch, Resources},
};

/// A job's specification, settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// As it was submitted, defaults filled in.
    pub request: NewJob,
    /// The image, one entry for each architecture that it can run on.
    pub images: Vec<ResolvedImage>,
}

/// An image for one architecture, by digest: all replicas run the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// For which machines.
    pub arch: ArchText,
    /// The manifest's SHA-256.
    pub manifest: HashText,
    /// Where its parts are.
    pub source: Source,
}

/// Where an image's parts are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In a registry, under this name (host and repository).
    Registry(String),
    /// In the hub's content store.
    Hub,
}

impl JobSpec {
    /// Reads a stored specification; `None` where it is none (a damaged store).
    #[must_use]
    pub fn read(stored: &str) -> Option<Self> {
        serde_json::from_str(stored)
            .inspect_err(|error| tracing::error!(%error, "a job's specification cannot be read"))
            .ok()
    }

    /// The form that is stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a specification has string keys only")
    }

    /// What each task may use.
    #[must_use]
    pub fn resources(&self) -> Resources {
        let needs = &self.request.resources;
        Resources {
            cpu_millis: needs.cpu_millis,
            memory: needs.memory,
            disk: needs.disk,
            inodes: needs.inodes.unwrap_or_default(),
            pids: needs.pids.unwrap_or_default(),
        }
    }

    /// How many replicas of each task must agree.
    #[must_use]
    pub const fn replicas(&self) -> u32 {
        self.request.verification.quorum() as u32
    }

    /// Whether devices commit before they show.
    #[must_use]
    pub const fn commits(&self) -> bool {
        matches!(self.request.verification, Verification::Replicate(_))
    }

    /// Whether all replicas of a task run on one class; `compared` where their results are.
    #[must_use]
    pub fn exact_class(&self, compared: bool) -> bool {
        self.request.exact_class.unwrap_or(compared)
    }

    /// The class of the image, by which devices' reputation is kept: a registry's repository without tag and digest,
    /// or the manifest of what was uploaded.
    #[must_use]
    pub fn image_class(&self) -> String {
        match self.images.first() {
            Some(ResolvedImage { source: Source::Registry(name), .. }) => name.clone(),
            Some(ResolvedImage { source: Source::Hub, manifest, .. }) => format!("sha256:{manifest}"),
            None => String::new(),
        }
    }

    /// Whether standard output belongs to the result: on request, or where there is nothing else.
    #[must_use]
    pub fn stdout_counts(&self) -> bool {
        self.request.stdout_counts.unwrap_or(self.request.outputs.is_empty())
    }

    /// The image for an architecture.
    #[must_use]
    pub fn image(&self, arch: Arch) -> Option<(Hash, &Source)> {
        let image = self.images.iter().find(|image| *image.arch == arch)?;
        Some((*image.manifest, &image.source))
    }
}
