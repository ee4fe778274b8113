//! Runs one container for each assignment: the shim, the OCI command line, limits, logs and outputs.
//!
//! The agent (tokio, many threads, no rights) never creates a container itself: [`Runtime`] has the agent's own binary
//! started again as a shim, single-threaded, which does it all and outlives the agent. So the binary's `main` calls
//! [`shim::run_if_requested`] before anything else. Everything below the runtime's folders is written by shims and
//! their like alone; the agent reads it.
//!
//! **Invariants.** No fork in a process with threads. No container without its seccomp profile in force. Nothing
//! that a container wrote is followed out of its root. A container, its mounts and its cgroup never outlive
//! [`Runtime::recover`]. What an agent asks for is believed no further than its own containers.

mod bundle;
mod cgroup;
mod durable;
mod enforcement;
mod error;
mod executor;
pub mod oci;
mod record;
mod runtime;
mod scratch;
pub mod seccomp;
mod settings;
pub mod shim;
mod source;
mod spec;
mod stage;
mod sys;
mod uids;

pub use crate::{
    cgroup::CgroupKind,
    enforcement::{DiskMethod, Enforcement, Missing, UserMapping},
    error::{Result, RuntimeError},
    record::{EndCause, ExitRecord, OutputEntry, OutputKind, Usage},
    runtime::{Phase, Runtime},
    settings::{Prepared, RuntimeConfig, Sources},
    spec::{ContainerId, ContainerSpec, Input, Limits, Network, UserSpec},
};

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
