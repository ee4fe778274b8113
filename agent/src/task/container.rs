//! The seam to the container runtime. The shipped program puts nothing between: a test build may wrap it, for
//! example to lie about what a container left behind.

use std::{fmt::Debug, future::Future, path::PathBuf, pin::Pin, time::Duration};

use sosna_runtime::{ContainerId, ContainerSpec, ExitRecord, Result, Runtime};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs containers that outlive the agent.
pub trait ContainerRuntime: Send + Sync + Debug {
    /// Starts a container; the same specification again is no second container.
    fn start<'a>(&'a self, spec: &'a ContainerSpec) -> BoxFuture<'a, Result<()>>;
    /// Waits for a container's end, also of one that an agent before us started.
    fn wait<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ExitRecord>>;
    /// Ends a container: politely, after `grace` by force.
    fn stop<'a>(&'a self, id: &'a ContainerId, grace: Duration) -> BoxFuture<'a, Result<()>>;
    /// Removes a container's folder with all that it left; ends it first where it runs.
    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;
    /// Settles containers whose shims died. Called once, at the start.
    fn recover(&self) -> BoxFuture<'_, Result<Vec<ContainerId>>>;
    /// Every container that there is.
    fn known(&self) -> Result<Vec<ContainerId>>;
    /// A container's folder: `stdout`, `stderr`, `outputs/`.
    fn folder(&self, id: &ContainerId) -> PathBuf;
    /// Limits and walls that do not hold here, each with its reason.
    fn missing_limits(&self) -> Vec<String>;
    /// Walls that hold here.
    fn walls(&self) -> Vec<String>;
}

impl ContainerRuntime for Runtime {
    fn start<'a>(&'a self, spec: &'a ContainerSpec) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::start(self, spec))
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ExitRecord>> {
        Box::pin(Self::wait(self, id))
    }

    fn stop<'a>(&'a self, id: &'a ContainerId, grace: Duration) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::stop(self, id, grace))
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(Self::remove(self, id))
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<ContainerId>>> {
        Box::pin(Self::recover(self))
    }

    fn known(&self) -> Result<Vec<ContainerId>> {
        self.ids()
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.task_dir(id)
    }

    fn missing_limits(&self) -> Vec<String> {
        self.enforcement()
            .missing
            .iter()
            .map(|missing| format!("{}: {}", missing.what, missing.reason))
            .collect()
    }

    fn walls(&self) -> Vec<String> {
        self.enforcement().walls().into_iter().map(str::to_owned).collect()
    }
}
