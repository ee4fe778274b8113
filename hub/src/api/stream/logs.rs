//! The output of tasks: live where nothing is replicated, and what counts once it does.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use axum::{extract::State, response::Response};
use data_encoding::BASE64;
use sosna_api::{
    event::{END, LOG, LogChunk, LogQuery},
    text::JobIdText,
};
use sosna_protocol::{
    Hash,
    identity::{AssignmentId, JobId, TaskId},
    message::log::Stream,
};
use sosna_store::Task;
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::broadcast::{Receiver, error::RecvError},
};

use super::{End, Listener, answer};
use crate::{
    api::{
        Caller, Failure, Served,
        extract::{Named, Params},
        view,
    },
    error::HubError,
    hub::{Event, Hub},
};

/// Bytes in one event.
const PIECE: u64 = 32 * 1024;

/// `GET /v1/jobs/{id}/logs`.
pub(in crate::api) async fn logs(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(id): Named<JobIdText>,
    Params(query): Params<LogQuery>,
) -> Result<Response, Failure> {
    let hub = served.hub.clone();
    let events = hub.watch();
    let job = hub.store.read(|tx| Box::pin(async move { caller.own(tx.job(&id).await?) })).await?;
    let live = !view::spec_of(&job)?.commits();
    let telling = Telling {
        hub,
        job: *id,
        live,
        query,
        told: HashMap::new(),
        done: HashSet::new(),
        complete: HashSet::new(),
    };
    answer(&served, |listener| telling.run(events, listener))
}

/// Whose output may be complete now. Looking at all tasks for each of many would take long.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// Every task's.
    All,
    /// This one's, or every one's if the job has ended.
    One(TaskId),
    /// Every task's, but only if the job has ended.
    IfEnded,
}

/// What has been told so far.
struct Telling {
    hub: Arc<Hub>,
    job: JobId,
    /// Whether output may be shown while tasks run.
    live: bool,
    query: LogQuery,
    told: HashMap<(AssignmentId, Stream), Vec<Range<u64>>>,
    done: HashSet<TaskId>,
    complete: HashSet<AssignmentId>,
}

// === impl Telling ===

impl Telling {
    async fn run(mut self, mut events: Receiver<Event>, listener: Listener) -> Result<(), End> {
        let mut ended = self.finished(Which::All, &listener).await?;
        while self.query.follow && !ended {
            match events.recv().await {
                Ok(Event::Log { job, index, assignment, stream, offset, bytes }) if job == self.job => {
                    if self.live && self.wants(index, stream) && !self.complete.contains(&assignment) {
                        let end = offset + bytes.len() as u64;
                        self.told.entry((assignment, stream)).or_default().push(offset..end);
                        chunk(&listener, index, assignment, stream, offset, &bytes).await?;
                    }
                }
                Ok(Event::Task(job, task)) if job == self.job => {
                    ended = self.finished(Which::One(task), &listener).await?;
                }
                Ok(Event::Job(job)) if job == self.job => {
                    ended = self.finished(Which::IfEnded, &listener).await?;
                }
                // What was missed comes from the results.
                Err(RecvError::Lagged(_)) => ended = self.finished(Which::All, &listener).await?,
                Err(RecvError::Closed) => return Ok(()),
                Ok(_) => {}
            }
        }
        listener.mark(END).await
    }

    fn wants(&self, index: u32, stream: Stream) -> bool {
        self.query.task.is_none_or(|task| task == index)
            && self.query.stream.is_none_or(|wanted| *wanted == stream)
    }

    /// Tells the output of tasks that have ended since; says whether the job has.
    async fn finished(&mut self, which: Which, listener: &Listener) -> Result<bool, End> {
        let id = self.job;
        let (ended, tasks) = self
            .hub
            .store
            .read(|tx| {
                Box::pin(async move {
                    let job = tx.job(&id).await?.ok_or_else(|| HubError::not_found("job"))?;
                    let ended = job.state.is_final();
                    let tasks = match which {
                        Which::One(task) if !ended => tx.task(&task).await?.into_iter().collect(),
                        Which::IfEnded if !ended => Vec::new(),
                        _ => tx.tasks_of(&id).await?,
                    };
                    Ok::<_, HubError>((ended, tasks))
                })
            })
            .await?;
        for task in tasks {
            if task.ended_ms.is_some() && self.done.insert(task.id) {
                self.result(&task, listener).await?;
            }
        }
        Ok(ended)
    }

    async fn result(&mut self, task: &Task, listener: &Listener) -> Result<(), End> {
        let Some(end) = task.end else { return Ok(()) };
        let id = task.id;
        let assignments = self
            .hub
            .store
            .read(|tx| Box::pin(async move { Ok::<_, HubError>(tx.assignments_of_task(&id).await?) }))
            .await?;
        let shown =
            |one: &&sosna_store::Assignment| one.revealed.is_some_and(|shown| shown.manifest == end.manifest);
        let Some(assignment) = assignments.iter().find(shown).map(|one| one.id) else { return Ok(()) };
        self.complete.insert(assignment);
        let manifest = match view::manifest(&self.hub, &end.manifest).await {
            Ok(manifest) => manifest,
            // Collected since: then there is nothing to tell.
            Err(HubError::Refused { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for (stream, blob) in [(Stream::Stdout, &manifest.stdout), (Stream::Stderr, &manifest.stderr)] {
            let Ok(name) = blob.name() else { continue };
            if !self.wants(task.place, stream) {
                continue;
            }
            let told = self.told.get(&(assignment, stream)).cloned().unwrap_or_default();
            for range in untold(told, blob.length) {
                self.piece(listener, &name, (task.place, assignment, stream), range).await?;
            }
        }
        Ok(())
    }

    async fn piece(
        &self,
        listener: &Listener,
        name: &Hash,
        (index, assignment, stream): (u32, AssignmentId, Stream),
        range: Range<u64>,
    ) -> Result<(), End> {
        let path = self.hub.content.path(name);
        let Ok(mut file) = tokio::fs::File::open(&path).await else { return Ok(()) };
        let failed = |error| HubError::from(sosna_host::file::FileError::of("read", &path)(error));
        file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(failed)?;
        let mut offset = range.start;
        while offset < range.end {
            let mut bytes = Vec::new();
            let length = PIECE.min(range.end - offset);
            (&mut file).take(length).read_to_end(&mut bytes).await.map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            chunk(listener, index, assignment, stream, offset, &bytes).await?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

async fn chunk(
    listener: &Listener,
    index: u32,
    assignment: AssignmentId,
    stream: Stream,
    offset: u64,
    bytes: &[u8],
) -> Result<(), End> {
    let data = BASE64.encode(bytes);
    let chunk = LogChunk { index, assignment: assignment.into(), stream: stream.into(), offset, data };
    listener.send(LOG, &chunk).await
}

/// What of `0..length` is in none of the ranges.
fn untold(mut told: Vec<Range<u64>>, length: u64) -> Vec<Range<u64>> {
    told.sort_by_key(|range| range.start);
    let mut gaps = Vec::new();
    let mut next = 0;
    for range in told {
        if range.start > next {
            gaps.push(next..range.start.min(length));
        }
        next = next.max(range.end);
    }
    if next < length {
        gaps.push(next..length);
    }
    gaps.retain(|gap| gap.start < gap.end);
    gaps
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "ranges are what these lists hold")]

    use super::untold;

    #[test]
    fn what_was_not_told_is_found() {
        assert_eq!(untold(vec![], 3), [0..3]);
        assert_eq!(untold(vec![0..3], 3), []);
        assert_eq!(untold(vec![4..6, 1..2], 10), [0..1, 2..4, 6..10]);
        assert_eq!(untold(vec![0..5, 2..3], 8), [5..8]);
        assert_eq!(untold(vec![5..9], 3), [0..3]);
        assert_eq!(untold(vec![], 0), []);
    }
}
