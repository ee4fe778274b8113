//! An assignment read back from its signed frame, owned, as the driver works with it.

use sosna_layers::RunConfig;
use sosna_protocol::{
    Amount, Hash,
    eip712::Domain,
    frame::Frame,
    identity::{AssignmentId, JobId, TaskId},
    message::work::{Assign, Down, SourceKind},
};
use sosna_runtime::{ContainerId, ContainerSpec, Limits, Network, RuntimeError, UserSpec};

use super::decide::{limits, texts};

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) assignment: AssignmentId,
    pub(crate) task: TaskId,
    pub(crate) job: JobId,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) price: Amount,
    pub(crate) domain: Domain,
    pub(crate) image: Hash,
    pub(crate) sources: Vec<(SourceKind, String)>,
    pub(crate) inputs: Vec<PlannedInput>,
    pub(crate) stdout_counts: bool,
    pub(crate) commits: bool,
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
    working_dir: String,
    outputs: Vec<String>,
    limits: Limits,
}

/// A file that the task is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedInput {
    pub(crate) sha256: Hash,
    pub(crate) length: u64,
    pub(crate) destination: String,
}

// === impl Plan ===

impl Plan {
    /// Reads a stored frame; `None` where it is no assignment.
    pub(crate) fn of_frame(bytes: &[u8]) -> Option<Self> {
        let frame = Frame::decode(bytes).ok()?;
        match Down::read(&frame).ok()? {
            Down::Assign(assign) => Some(Self::of(&assign)),
            Down::Cancel(_) | Down::Renewed(_) => None,
        }
    }

    fn of(assign: &Assign<'_>) -> Self {
        Self {
            assignment: assign.assignment,
            task: assign.task,
            job: assign.job,
            index: assign.index,
            count: assign.count,
            price: assign.price,
            domain: assign.domain(),
            image: assign.image,
            sources: assign.sources.iter().map(|source| (source.kind, (*source.name).to_owned())).collect(),
            inputs: assign
                .inputs
                .iter()
                .map(|input| PlannedInput {
                    sha256: input.sha256,
                    length: input.length,
                    destination: (*input.destination).to_owned(),
                })
                .collect(),
            stdout_counts: assign.stdout_counts,
            commits: assign.commits,
            entrypoint: texts(&assign.entrypoint),
            command: texts(&assign.command),
            environment: texts(&assign.environment),
            working_dir: (*assign.working_dir).to_owned(),
            outputs: texts(&assign.outputs),
            limits: limits(assign),
        }
    }

    /// The container's name.
    pub(crate) fn container(&self) -> ContainerId {
        container(&self.assignment)
    }

    /// The container for this plan and image.
    ///
    /// # Errors
    /// [`RuntimeError::BadSpec`] where image and assignment together make no container.
    pub(crate) fn spec(
        &self,
        layers: Vec<std::path::PathBuf>,
        config: &RunConfig,
        (user, home): (UserSpec, Option<String>),
        inputs: Vec<sosna_runtime::Input>,
    ) -> Result<ContainerSpec, RuntimeError> {
        let spec = ContainerSpec {
            id: self.container(),
            layers,
            args: self.arguments(config),
            env: self.env(config, home),
            cwd: match (self.working_dir.as_str(), config.working_dir.as_deref()) {
                ("", Some(image)) if image.starts_with('/') => image.to_owned(),
                ("", Some(image)) => format!("/{image}"),
                ("", None) => "/".to_owned(),
                (own, _) => own.to_owned(),
            },
            user,
            limits: self.limits.clone(),
            inputs,
            outputs: self.outputs.clone(),
            network: Network::None,
            read_only_root: true,
            hostname: String::new(),
        };
        spec.validate()?;
        Ok(spec)
    }

    /// As container engines do: an entry point of one's own also replaces the image's command.
    fn arguments(&self, config: &RunConfig) -> Vec<String> {
        let (entrypoint, default) = match self.entrypoint.is_empty() {
            true => (&config.entrypoint, config.cmd.as_slice()),
            false => (&self.entrypoint, [].as_slice()),
        };
        let command = if self.command.is_empty() { default } else { &self.command };
        entrypoint.iter().chain(command).cloned().collect()
    }

    /// The image's own, over it the assignment's, over both what the protocol promises.
    fn env(&self, config: &RunConfig, home: Option<String>) -> Vec<String> {
        let mut all: Vec<(String, String)> =
            vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())];
        if let Some(home) = home {
            all.push(("HOME".into(), home));
        }
        let promised = [
            format!("SOSNA_JOB_ID={}", self.job),
            format!("SOSNA_TASK_ID={}", self.task),
            format!("SOSNA_TASK_INDEX={}", self.index),
            format!("SOSNA_TASK_COUNT={}", self.count),
        ];
        let entries = config.env.iter().chain(&self.environment).chain(&promised);
        for (name, value) in
            entries.filter_map(|entry| entry.split_once('=')).filter(|(name, _)| !name.is_empty())
        {
            match all.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => value.clone_into(old),
                None => all.push((name.to_owned(), value.to_owned())),
            }
        }
        all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// The name of an assignment's container.
pub(crate) fn container(assignment: &AssignmentId) -> ContainerId {
    ContainerId::new(assignment.to_string()).expect("32 hexadecimal digits are a container's name")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::codec::{Bounded, List, Text};

    use super::*;
    use crate::task::decide::tests::sample;

    fn image() -> RunConfig {
        RunConfig {
            entrypoint: vec!["/bin/sh".into(), "-c".into()],
            cmd: vec!["echo hello".into()],
            env: vec!["PATH=/opt".into(), "A=image".into(), "SOSNA_TASK_INDEX=9".into()],
            working_dir: Some("/srv".into()),
            ..RunConfig::default()
        }
    }

    fn spec(plan: &Plan) -> ContainerSpec {
        plan.spec(vec!["/layer".into()], &image(), (UserSpec::default(), Some("/root".into())), vec![])
            .unwrap()
    }

    #[test]
    fn the_images_own_is_the_default() {
        let spec = spec(&Plan::of(&sample()));
        assert_eq!(spec.args, ["/bin/sh", "-c", "echo hello"]);
        assert_eq!(spec.cwd, "/srv");
        assert!(spec.env.contains(&"PATH=/opt".to_owned()) && spec.env.contains(&"HOME=/root".to_owned()));
        assert!(spec.env.contains(&"SOSNA_TASK_INDEX=0".to_owned()), "what is promised wins: {:?}", spec.env);
        assert!(spec.env.contains(&"SOSNA_TASK_COUNT=1".to_owned()));
        assert!(spec.env.contains(&format!("SOSNA_JOB_ID={}", sample().job)));
    }

    #[test]
    fn the_assignment_replaces_parts() {
        let command: &[Text<'_, 4096>] = &[Bounded("env")];
        let environment: &[Text<'_, 4096>] = &[Bounded("A=own")];
        let mut assign = sample();
        assign.command = List::new(command);
        assign.environment = List::new(environment);
        assign.working_dir = Bounded("/work");
        let one = spec(&Plan::of(&assign));
        assert_eq!(one.args, ["/bin/sh", "-c", "env"]);
        assert_eq!(one.cwd, "/work");
        assert!(one.env.contains(&"A=own".to_owned()) && !one.env.contains(&"A=image".to_owned()));
        assign.entrypoint = List::new(command);
        assign.command = List::default();
        assert_eq!(spec(&Plan::of(&assign)).args, ["env"], "the image's command belongs to its entry point");
    }
}
