//! `sosna run` and `sosna submit`: brings image and inputs to the hub, submits, follows, and ends as the job ends.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use sosna_api::{
    job::{ContentImage, ImageSpec, Job, JobDetail, JobState, Needs, NewJob},
    route,
    task::{Task, TaskState},
};
use sosna_host::report::Exit;

use crate::{
    args::{FollowArgs, RunArgs, SubmitArgs},
    client::IdempotencyKey,
    connect::ConnectArgs,
    error::Error,
    follow::{self, Ended},
    image::{ImageArg, LocalImage},
    job::{self, Draft, InputArg},
    output, upload,
};

/// What shells say about a command that was interrupted.
const INTERRUPTED: u8 = 130;

pub(super) async fn run(connect: &ConnectArgs, args: RunArgs) -> Result<ExitCode, Error> {
    let follow = args.follow;
    act(connect, draft(args), follow).await
}

pub(super) async fn submit(connect: &ConnectArgs, args: &SubmitArgs) -> Result<ExitCode, Error> {
    act(connect, job::read(&args.file)?, args.follow).await
}

fn draft(args: RunArgs) -> Draft {
    let spec = NewJob {
        name: args.name,
        image: ImageSpec::Reference(args.image.to_string()),
        entrypoint: args.entrypoint.into_iter().collect(),
        command: args.command,
        env: args.env.into_iter().collect::<BTreeMap<_, _>>(),
        working_dir: args.workdir,
        tasks: args.tasks,
        resources: Needs {
            cpu_millis: args.cpu,
            memory: args.memory,
            disk: args.disk,
            inodes: args.inodes,
            pids: args.pids,
        },
        timeout_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
        log_bytes: args.log,
        network: args.network,
        inputs: Vec::new(),
        outputs: args.output,
        stdout_counts: args.stdout_counts,
        verification: args.verify,
        arch: args.arch,
        region: args.region,
        exact_class: args.exact_class,
        max_price: args.max_price,
    };
    Draft { image: args.image, arch: args.arch.map(|arch| arch.0), inputs: args.input, spec }
}

async fn act(connect: &ConnectArgs, draft: Draft, follow: FollowArgs) -> Result<ExitCode, Error> {
    let hub = super::hub(connect)?;
    let Draft { image, arch, inputs, mut spec } = draft;
    let called = name(&image);
    // Everything is read and compared before anything is sent.
    let read = move || -> Result<_, Error> { Ok((image.open(arch)?, InputArg::open(&inputs)?)) };
    let (local, inputs) = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| Error::Failed("reading image and inputs failed".to_owned()))??;

    let mut blobs: Vec<_> = inputs.iter().map(|input| input.blob.clone()).collect();
    if let Some(LocalImage { manifest, platform, blobs: mut pieces }) = local {
        let last = pieces.pop();
        blobs.extend(pieces);
        upload::missing(&hub, &blobs).await?;
        // Where the manifest is, the rest is.
        upload::missing(&hub, last.as_slice()).await?;
        let (manifest, platform) = (manifest.into(), platform.into());
        spec.image = ImageSpec::Content(ContentImage { manifest, platform, name: Some(called) });
    } else {
        upload::missing(&hub, &blobs).await?;
    }
    spec.inputs = inputs.into_iter().map(|input| input.file).collect();

    let job: Job = hub.create(route::JOBS, &spec, &IdempotencyKey::random()).await?;
    if follow.detach {
        if follow.json {
            output::json(&job)?
        } else {
            output::line(&job.id.to_string())?
        }
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&format!("job {}", job.id));
    match follow::job(&hub, &job, !follow.json).await? {
        Ended::Interrupted => {
            let id = job.id;
            output::note(&format!(
                "the job goes on: `sosna logs {id} -f` follows it, `sosna cancel {id}` stops it"
            ));
            Ok(ExitCode::from(INTERRUPTED))
        }
        Ended::Job(detail) => {
            if follow.json {
                output::json(&detail)?;
            }
            summary(&detail);
            Ok(exit(&detail))
        }
    }
}

/// How a local image is called at the hub: without the folders that it lies in here, which are nobody's business.
fn name(image: &ImageArg) -> String {
    let last = |kind: &str, path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        format!("{kind}:{}", name.unwrap_or_else(|| "image".to_owned()))
    };
    match image {
        ImageArg::Reference(reference) => reference.clone(),
        ImageArg::Layout(path) => last("oci", path),
        ImageArg::LayoutArchive(path) => last("oci-archive", path),
        ImageArg::DockerArchive(path) => last("docker-archive", path),
    }
}

fn summary(detail: &JobDetail) {
    let JobDetail { job, spec, tasks } = detail;
    let counts = &job.counts;
    let reason = job.explanation.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    output::note(&format!(
        "job {} {}{reason}; {} of {} tasks succeeded, {} SNM",
        job.id, job.state, counts.succeeded, counts.total, job.price.spent
    ));
    let failed = || tasks.iter().filter(|task| task.state == TaskState::Failed);
    for task in failed().take(10) {
        output::note(&format!("  task {}: {}", task.index, ending(task)));
    }
    if failed().count() > 10 {
        output::note(&format!("  and {} more; `sosna job {}` shows them", failed().count() - 10, job.id));
    }
    if !spec.outputs.is_empty() && tasks.iter().any(|task| task.manifest.is_some()) {
        output::note(&format!("`sosna results {} -o DIR` fetches the outputs", job.id));
    }
}

fn ending(task: &Task) -> String {
    let cause = task.cause.map(|cause| cause.to_string());
    let code = task.exit_code.map(|code| format!("exit code {code}"));
    let parts: Vec<String> = [cause, code, task.explanation.clone()].into_iter().flatten().collect();
    if parts.is_empty() { "no result".to_owned() } else { parts.join(", ") }
}

/// The first failing task's own code; 1 where there is none.
fn exit(detail: &JobDetail) -> ExitCode {
    if detail.job.state == JobState::Succeeded {
        return ExitCode::SUCCESS;
    }
    let mut failed: Vec<&Task> = detail.tasks.iter().filter(|task| task.state == TaskState::Failed).collect();
    failed.sort_by_key(|task| task.index);
    match failed.first().and_then(|task| task.exit_code).filter(|code| *code != 0) {
        Some(code) => ExitCode::from(code),
        None => Exit::Failed.into(),
    }
}
