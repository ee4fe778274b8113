//! `sosna jobs`, `job`, `logs`, `results`, `cancel`.

use std::path::PathBuf;

use sosna_api::{
    job::{Job, JobDetail, JobList},
    route,
    task::Task,
    text::JobIdText,
};
use sosna_protocol::{hash::NotHex, identity::JobId};

use crate::{
    args::{CancelArgs, JobArgs, JobsArgs, LogsArgs, ResultsArgs},
    client::{self, Hub},
    error::Error,
    follow::{self, Printer},
    output,
    quantity::show_size,
    results::{self, ResultsError},
    show,
};

/// How many of the newest jobs are searched for an id's beginning.
const SEARCHED: u32 = 1000;

pub(super) async fn list(hub: &Hub, args: &JobsArgs) -> Result<(), Error> {
    let pairs =
        [("state", args.state.map(|state| state.to_string())), ("limit", Some(args.limit.to_string()))];
    let list: JobList = hub.get(&client::query(route::JOBS, &pairs)).await?;
    if args.json { output::json(&list) } else { output::line(&show::jobs(&list.jobs)) }
}

pub(super) async fn show(hub: &Hub, args: &JobArgs) -> Result<(), Error> {
    let detail = detail(hub, &args.id).await?;
    if args.json { output::json(&detail) } else { output::line(&show::job(&detail)) }
}

pub(super) async fn logs(hub: &Hub, args: &LogsArgs) -> Result<(), Error> {
    let detail = detail(hub, &args.id).await?;
    if let Some(index) = args.task {
        task(&detail, index)?;
    }
    let pairs = [
        ("task", args.task.map(|index| index.to_string())),
        ("stream", args.stream.map(|stream| stream.to_string())),
        ("follow", args.follow.then(|| "true".to_owned())),
    ];
    let path = client::query(&route::fill(route::JOB_LOGS, detail.job.id), &pairs);
    let printer = std::cell::RefCell::new(Printer::new(detail.job.counts.total > 1 && args.task.is_none()));
    follow::logs(hub, &path, args.follow, |chunk| {
        let printed = if args.json {
            let line = serde_json::to_string(&chunk).expect("the interface's types are JSON");
            output::line(&line)
        } else {
            printer.borrow_mut().print(&chunk)
        };
        async { printed }
    })
    .await?;
    printer.borrow_mut().finish()
}

pub(super) async fn results(hub: &Hub, args: &ResultsArgs) -> Result<(), Error> {
    let detail = detail(hub, &args.id).await?;
    let chosen: Vec<&Task> = match args.task {
        Some(index) => vec![task(&detail, index)?],
        None => detail.tasks.iter().collect(),
    };
    let id = detail.job.id;
    let root = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("results-{id}")));
    let alone = chosen.len() == 1;
    let (there, absent): (Vec<&Task>, Vec<&Task>) =
        chosen.into_iter().partition(|task| task.manifest.is_some());
    if there.is_empty() {
        let what = format!("job {id} is {} and has no results; `sosna job {id}` says more", detail.job.state);
        return Err(ResultsError::Missing(what).into());
    }
    let folder = |task: &Task| if alone { root.clone() } else { root.join(task.index.to_string()) };
    let targets: Vec<_> = there.into_iter().map(|task| (task, folder(task))).collect();
    let written = results::fetch(hub, &targets).await?;
    for task in absent {
        output::note(&format!("task {} is {} and has no result", task.index, task.state));
    }
    if args.json {
        return output::json(&written);
    }
    let (files, bytes) =
        written.iter().fold((0, 0), |(files, bytes), one| (files + one.files, bytes + one.bytes));
    let size = show_size(bytes);
    output::line(&format!("{} tasks, {files} files, {size}, verified, in {}", written.len(), root.display()))
}

pub(super) async fn cancel(hub: &Hub, args: &CancelArgs) -> Result<(), Error> {
    let id = resolve(hub, &args.id).await?;
    let nothing = serde_json::json!({});
    let job: Job = hub.post(&route::fill(route::JOB_CANCEL, id), &nothing).await?;
    if args.json { output::json(&job) } else { output::line(&format!("job {} {}", job.id, job.state)) }
}

async fn detail(hub: &Hub, text: &str) -> Result<JobDetail, Error> {
    let id = resolve(hub, text).await?;
    hub.get(&route::fill(route::JOB, id)).await
}

fn task(detail: &JobDetail, index: u32) -> Result<&Task, Error> {
    let missing = || {
        let count = detail.job.counts.total;
        Error::NotFound(format!("job {} has no task {index}; it has {count}, from 0", detail.job.id))
    };
    detail.tasks.iter().find(|task| task.index == index).ok_or_else(missing)
}

/// A job's id, or the only one among the newest jobs that begins so.
async fn resolve(hub: &Hub, text: &str) -> Result<JobIdText, Error> {
    let whole: Result<JobId, NotHex> = text.parse();
    if let Ok(id) = whole {
        return Ok(id.into());
    }
    let start = text.to_ascii_lowercase();
    if start.len() < 4 || !start.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let how = "is no job's id; give all of it, or at least its first 4 digits (`sosna jobs`)";
        return Err(Error::Usage(format!("`{text}` {how}")));
    }
    let list: JobList =
        hub.get(&client::query(route::JOBS, &[("limit", Some(SEARCHED.to_string()))])).await?;
    let mut fitting = list.jobs.iter().map(|job| job.id).filter(|id| id.to_string().starts_with(&start));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => {
            Err(Error::NotFound(format!("no job's id begins with {start}; `sosna jobs` lists them")))
        }
        (Some(_), Some(_)) => {
            Err(Error::Usage(format!("more than one job's id begins with {start}; give more of it")))
        }
    }
}
