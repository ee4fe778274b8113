//! An assignment as a device gets it: made anew from the store whenever it has to be said again.

use sosna_protocol::{
    codec::{Bounded, List, Text},
    message::work::{Assign, Input, MAX_TEXT, Source, SourceKind},
};
use sosna_store::{Assignment, Job, Task};

use crate::{
    error::HubError,
    hub::{Effect, Hub},
    job::{self, JobSpec},
};

/// The message that offers an assignment to its device.
pub(crate) fn offer(
    hub: &Hub,
    spec: &JobSpec,
    (job, count): (&Job, u32),
    task: &Task,
    assignment: &Assignment,
    class: sosna_protocol::resources::Class,
) -> Result<Effect, HubError> {
    let image = spec.image(class.arch);
    let (manifest, source) =
        image.ok_or(HubError::Internal("a task was placed where its image cannot run", None))?;
    let source = match source {
        job::Source::Registry(name) => Source { kind: SourceKind::Registry, name: Bounded(name) },
        job::Source::Hub => Source { kind: SourceKind::Hub, name: Bounded("") },
    };
    let request = &spec.request;
    // Owned here, borrowed by the message.
    let environment: Vec<String> = request.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let environment: Vec<_> = environment.iter().map(|pair| Bounded(pair.as_str())).collect();
    let (entrypoint, command, outputs) =
        (texts(&request.entrypoint), texts(&request.command), texts(&request.outputs));
    let inputs: Vec<Input<'_>> = request
        .inputs
        .iter()
        .map(|input| Input {
            sha256: input.sha256.0,
            length: input.length,
            destination: Bounded(&input.destination),
        })
        .collect();
    let sources = [source];
    let message = Assign {
        assignment: assignment.id,
        task: task.id,
        job: job.id,
        index: task.place,
        count,
        price: assignment.price,
        chain_id: hub.domain().chain_id,
        wallet: hub.domain().wallet,
        image: manifest,
        sources: List::new(&sources),
        entrypoint: List::new(&entrypoint),
        command: List::new(&command),
        environment: List::new(&environment),
        working_dir: Bounded(request.working_dir.as_deref().unwrap_or_default()),
        resources: spec.resources(),
        timeout_ms: request.timeout_ms,
        log_bytes: request.log_bytes.unwrap_or(hub.config.limits.log_bytes),
        network: request.network.0,
        inputs: List::new(&inputs),
        outputs: List::new(&outputs),
        stdout_counts: spec.stdout_counts(),
        commits: task.commits(),
        lease_until_ms: assignment.lease_until_ms,
    };
    Ok(Effect::send(assignment.device, &message)?)
}

fn texts(texts: &[String]) -> Vec<Text<'_, MAX_TEXT>> {
    texts.iter().map(|text| Bounded(text.as_str())).collect()
}
