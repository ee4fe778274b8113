//! What is streamed as server-sent events: changes, and the output of tasks.
//!
//! Both streams send a comment at least every 15 seconds, so that a client notices a dead connection.
//!
//! `/v1/jobs/{id}/events` and `/v1/events` send events named [`CHANGE`] with a [`Change`] each: the whole of what
//! changed, so that one that is missed or doubled does no harm. The job's stream begins with the job and its tasks
//! as they are, and ends after the job has ended. [`LAGGED`] says that some were skipped: fetch again.
//!
//! `/v1/jobs/{id}/logs` sends events named [`LOG`] with a [`LogChunk`] each, and [`END`] when no more will come:
//! without `follow=true`, after what there is; with it, after the job has ended and everything was sent. A client
//! that lost its connection asks again and skips what it has by assignment, stream and offset.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    device::Device,
    job::Job,
    task::{Assignment, Task},
    text::{AssignmentIdText, JobIdText, StreamText, TaskIdText},
};

/// The name of events that carry a [`Change`].
pub const CHANGE: &str = "change";
/// The name of the event that says that some were skipped; its data is empty.
pub const LAGGED: &str = "lagged";
/// The name of events that carry a [`LogChunk`].
pub const LOG: &str = "log";
/// The name of the event after which nothing comes; its data is empty.
pub const END: &str = "end";

/// What has changed, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Change {
    /// A job.
    Job {
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// It.
        job: Job,
    },
    /// A task.
    Task {
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// Its job.
        job: JobIdText,
        /// It, with its assignments.
        task: Box<Task>,
    },
    /// An assignment.
    Assignment {
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// Its job.
        job: JobIdText,
        /// Its task.
        task: TaskIdText,
        /// Its task's index.
        index: u32,
        /// It.
        assignment: Box<Assignment>,
    },
    /// A device.
    Device {
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// It.
        device: Box<Device>,
    },
}

/// A piece of a task's output. Without verification it comes as it is written; with replication, when the commits
/// are closed, from a result that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// The task's index.
    pub index: u32,
    /// Whose output: where a task is assigned again, its output begins again.
    pub assignment: AssignmentIdText,
    /// Which of its outputs.
    pub stream: StreamText,
    /// Where in the stream it begins, in bytes. Gaps are output that is lost or beyond the limit.
    pub offset: u64,
    /// What was written, in Base64 (RFC 4648 section 4, padded): output need not be text.
    pub data: String,
}

/// The query of `GET /v1/jobs/{id}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only of the task with this index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Only this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamText>,
    /// Whether to go on until the job ends.
    #[serde(default)]
    pub follow: bool,
}
