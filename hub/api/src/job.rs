//! Jobs: what a buyer submits, and what has become of it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::ToSchema;

use crate::{
    task::Task,
    text::{AmountText, ArchText, HashText, JobIdText, NetworkText},
    word::words,
};

/// Most tasks of one job.
pub const MAX_TASKS: u32 = 100_000;
/// Most replicas of one task that `replicate:N` may ask for.
pub const MAX_REPLICAS: u8 = 16;

/// `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What to run.
    pub image: ImageSpec,
    /// Replaces the image's own entry point, where it is not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Replaces the image's own command, where it is not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Over the image's own environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Instead of the image's own working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How many tasks, 1 to [`MAX_TASKS`]. Each sees its number from 0 in `SOSNA_TASK_INDEX`, and this in
    /// `SOSNA_TASK_COUNT`.
    #[serde(default = "one")]
    pub tasks: u32,
    /// What each task may use.
    pub resources: Needs,
    /// How long each task may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many bytes of each output stream are kept; the hub's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// What each task sees of the network.
    #[serde(default = "no_network")]
    pub network: NetworkText,
    /// Files that each task is given, read-only. Their content is in the hub's store before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputFile>,
    /// Absolute paths in the container that make up each task's result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Whether standard output belongs to the result. Where absent: where there are no outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_counts: Option<bool>,
    /// How results are verified.
    #[serde(default)]
    pub verification: Verification,
    /// Only devices of this architecture. Where absent, any that the image has a platform for; all replicas of a
    /// task have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<ArchText>,
    /// Only devices whose label `region` has this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether all replicas of a task run on one class, because results must be equal bit for bit. Where absent:
    /// yes with replication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_class: Option<bool>,
    /// The most that the whole job may cost, every replica and repetition included. Where absent, the hub
    /// reserves what the dearest suitable devices would cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<AmountText>,
}

const fn one() -> u32 {
    1
}

const fn no_network() -> NetworkText {
    crate::Text(sosna_protocol::message::work::Network::None)
}

/// Which image: `{"reference": "…"}` or `{"content": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ImageSpec {
    /// A registry reference: `host[:port]/name[:tag][@sha256:…]`. The hub resolves it to a digest once.
    Reference(String),
    /// An image whose manifest, configuration and layers are in the hub's content store.
    Content(ContentImage),
}

/// An image in the hub's content store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentImage {
    /// The SHA-256 of the manifest of one platform (OCI image manifest or Docker's, never an index).
    pub manifest: HashText,
    /// That platform's architecture.
    pub platform: ArchText,
    /// What to call it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Display for ImageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => f.write_str(reference),
            Self::Content(ContentImage { name: Some(name), .. }) => f.write_str(name),
            Self::Content(ContentImage { manifest, .. }) => write!(f, "sha256:{manifest}"),
        }
    }
}

/// What a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Thousandths of a processor core.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk that may be written.
    pub disk: u64,
    /// Files and folders that may be made; the hub's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// Processes and threads; the hub's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// A file that tasks are given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Its content.
    pub sha256: HashText,
    /// Bytes.
    pub length: u64,
    /// Absolute path in the container.
    pub destination: String,
}

/// How results are verified: `none`, or `replicate:N` with N devices of different owners that must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Verification {
    /// The first result counts.
    #[default]
    None,
    /// So many devices must find the same, 2 to [`MAX_REPLICAS`].
    Replicate(u8),
}

/// A text that names no verification policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a verification is `none`, or `replicate:N` with N from 2 to {MAX_REPLICAS}")]
pub struct NotVerification;

impl Verification {
    /// How many devices must agree.
    #[must_use]
    pub const fn quorum(self) -> u8 {
        match self {
            Self::None => 1,
            Self::Replicate(replicas) => replicas,
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Replicate(replicas) => f.pad(&format!("replicate:{replicas}")),
        }
    }
}

impl FromStr for Verification {
    type Err = NotVerification;

    fn from_str(text: &str) -> Result<Self, NotVerification> {
        if text == "none" {
            return Ok(Self::None);
        }
        let digits = text.strip_prefix("replicate:").ok_or(NotVerification)?;
        match digits.parse() {
            Ok(replicas @ 2..=MAX_REPLICAS) if !digits.starts_with(['+', '0']) => {
                Ok(Self::Replicate(replicas))
            }
            _ => Err(NotVerification),
        }
    }
}

impl Serialize for Verification {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Verification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Verification {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("how results are verified: `none`, or `replicate:N`"))
            .pattern(Some("^(none|replicate:([2-9]|1[0-6]))$"))
            .examples(["none", "replicate:2"])
            .into()
    }
}

impl ToSchema for Verification {}

words! {
    /// How a job stands.
    pub enum JobState {
        /// No task has been accepted by a device yet.
        Queued = "queued",
        /// Some have.
        Running = "running",
        /// Every task succeeded.
        Succeeded = "succeeded",
        /// Every task has ended, and at least one did not succeed.
        Failed = "failed",
        /// Its buyer or the operator stopped it.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its name within the hub.
    pub id: JobIdText,
    /// For people.
    pub name: Option<String>,
    /// Who pays: a user's name.
    pub buyer: String,
    /// How it stands.
    pub state: JobState,
    /// The image as it was asked for.
    pub image: String,
    /// How results are verified.
    pub verification: Verification,
    /// How its tasks stand.
    pub counts: TaskCounts,
    /// What it costs.
    pub price: JobPrice,
    /// When it was submitted.
    pub created_ms: u64,
    /// When its last task ended.
    pub finished_ms: Option<u64>,
    /// What a person should know, where something is not as wished, and what to do next.
    pub explanation: Option<String>,
}

/// How many tasks are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TaskCounts {
    /// All.
    pub total: u32,
    /// No device has accepted it.
    pub queued: u32,
    /// Some device has, and it is not decided.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended badly.
    pub failed: u32,
    /// Stopped.
    pub cancelled: u32,
}

/// What a job costs its buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct JobPrice {
    /// The most that the buyer agreed to, if they said so.
    pub max: Option<AmountText>,
    /// Held back from the buyer's credit for what is not decided yet.
    pub reserved: AmountText,
    /// Owed to devices.
    pub spent: AmountText,
}

/// `GET /v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// The job as in lists.
    #[serde(flatten)]
    pub job: Job,
    /// As it was submitted.
    pub spec: NewJob,
    /// Its tasks by index.
    pub tasks: Vec<Task>,
}

/// `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// The value of `before` that continues the list; `null` at its end.
    pub next: Option<JobIdText>,
}

/// The query of `GET /v1/jobs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// Only these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// At most so many, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those submitted before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<JobIdText>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_shortest_job_has_defaults() {
        let json = r#"{"image":{"reference":"registry.test/povray:1"},
            "resources":{"cpu_millis":1000,"memory":268435456,"disk":0},"timeout_ms":60000}"#;
        let job: NewJob = serde_json::from_str(json).unwrap();
        assert_eq!((job.tasks, job.verification), (1, Verification::None));
        assert_eq!(job.network.word(), "none");
        let again = serde_json::to_string(&job).unwrap();
        assert!(!again.contains("null"), "{again}");
        assert_eq!(serde_json::from_str::<NewJob>(&again).unwrap(), job);
        let unknown = json.replacen("\"timeout_ms\"", "\"taks\":3,\"timeout_ms\"", 1);
        assert!(serde_json::from_str::<NewJob>(&unknown).unwrap_err().to_string().contains("taks"));
    }

    #[test]
    fn images_are_written_in_one_of_two_forms() {
        let manifest = sosna_protocol::hash::sha256(b"manifest").into();
        let platform = sosna_protocol::resources::Arch::Aarch64.into();
        let image = ImageSpec::Content(ContentImage { manifest, platform, name: None });
        let json = serde_json::to_value(&image).unwrap();
        assert_eq!(json["content"]["platform"], "arm64");
        assert_eq!(serde_json::from_value::<ImageSpec>(json).unwrap(), image);
    }

    #[test]
    fn verifications_are_words() {
        for text in ["none", "replicate:2", "replicate:16"] {
            assert_eq!(text.parse::<Verification>().unwrap().to_string(), text);
        }
        for text in ["replicate", "replicate:1", "replicate:17", "replicate:+2", "replicate:02", "audit", ""]
        {
            assert!(text.parse::<Verification>().is_err(), "{text}");
        }
    }
}
