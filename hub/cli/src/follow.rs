//! Follows a job: its changes and its output as they come, over connections that may break and a hub that may be
//! started anew, until the job has ended.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use indicatif::ProgressBar;
use sosna_api::{
    event::{self, Change, LogChunk},
    job::{Job, JobDetail, TaskCounts},
    route,
    task::{AssignmentState, Task, TaskState},
};
use sosna_host::retry::Backoff;
use sosna_protocol::{identity::AssignmentId, identity::JobId, message::log::Stream};
use tokio::sync::mpsc;

use crate::{client, client::Hub, error::Error, output};

/// A hub that does not answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long output may come after its job's end.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// A line without an end is cut here, so that it does not grow for ever.
const MAX_LINE: usize = 64 << 10;

/// How the waiting ended.
#[derive(Debug)]
pub enum Ended {
    /// The job has ended.
    Job(Box<JobDetail>),
    /// The person does not want to wait any longer; the job goes on.
    Interrupted,
}

enum News {
    Change(Change),
    Log(LogChunk),
    Over(Result<(), Error>),
}

/// Waits for a job's end, showing its progress, and its output where `with_logs` says so.
///
/// # Errors
/// [`Error`].
pub async fn job(hub: &Hub, job: &Job, with_logs: bool) -> Result<Ended, Error> {
    let (sender, mut news) = mpsc::channel(256);
    let (change_sender, log_sender) = (sender.clone(), sender);
    let (change_hub, log_hub, id) = (hub.clone(), hub.clone(), job.id.0);
    // Tasks end by themselves when nobody listens any more.
    tokio::spawn(async move {
        let done = changes(&change_hub, id, &change_sender).await;
        let _ = change_sender.send(News::Over(done)).await;
    });
    if with_logs {
        tokio::spawn(async move {
            let path =
                client::query(&route::fill(route::JOB_LOGS, id), &[("follow", Some("true".to_owned()))]);
            let done = logs(&log_hub, &path, true, |chunk| {
                let sender = log_sender.clone();
                async move {
                    let _ = sender.send(News::Log(chunk)).await;
                    Ok(())
                }
            })
            .await;
            let _ = log_sender.send(News::Over(done)).await;
        });
    } else {
        drop(log_sender);
    }

    let mut screen = Screen::new(job);
    let mut printer = Printer::new(job.counts.total > 1);
    let mut open = if with_logs { 2 } else { 1 };
    let mut ended: Option<tokio::time::Instant> = None;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    while open > 0 {
        let deadline = ended.map(|at| at + LAST_WORDS);
        tokio::select! {
            _ = &mut interrupt => {
                screen.finish();
                return Ok(Ended::Interrupted);
            }
            () = until(deadline) => break,
            one = news.recv() => match one {
                None => break,
                Some(News::Change(change)) => {
                    if matches!(&change, Change::Job { job, .. } if job.state.is_final()) {
                        ended = Some(tokio::time::Instant::now());
                    }
                    screen.change(change);
                }
                Some(News::Log(chunk)) => printer.print(&chunk)?,
                Some(News::Over(Ok(()))) => open -= 1,
                Some(News::Over(Err(error))) => {
                    screen.finish();
                    return Err(error);
                }
            },
        }
    }
    printer.finish()?;
    screen.finish();
    hub.get(&route::fill(route::JOB, id)).await.map(|detail| Ended::Job(Box::new(detail)))
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tells every change of a job until it has ended.
async fn changes(hub: &Hub, id: JobId, to: &mpsc::Sender<News>) -> Result<(), Error> {
    let path = route::fill(route::JOB_EVENTS, id);
    let mut persistence = Persistence::new();
    loop {
        let broken = match hub.events(&path).await {
            Err(error) => error,
            Ok(mut events) => loop {
                match events.next().await {
                    Err(error) => break error,
                    Ok(None) => break hub.silent("it closed the connection"),
                    Ok(Some(event)) => {
                        persistence.reset();
                        if event.name == event::LAGGED {
                            // The next connection begins with everything as it is.
                            break hub.silent("it could not keep up");
                        }
                        // Changes that a newer hub may tell and that we do not know are no reason to stop.
                        let Ok(change) = serde_json::from_str::<Change>(&event.data) else { continue };
                        let is_last = matches!(&change, Change::Job { job, .. } if job.state.is_final());
                        if to.send(News::Change(change)).await.is_err() || is_last {
                            return Ok(());
                        }
                    }
                }
            },
        };
        persistence.wait(broken).await?;
    }
}

/// Tells a job's output until its end; with `follow`, over broken connections.
///
/// # Errors
/// [`Error`], the sink's too.
pub async fn logs<F: Future<Output = Result<(), Error>>>(
    hub: &Hub,
    path: &str,
    follow: bool,
    mut sink: impl FnMut(LogChunk) -> F,
) -> Result<(), Error> {
    let mut persistence = Persistence::new();
    loop {
        let broken = match hub.events(path).await {
            Err(error) => error,
            Ok(mut events) => loop {
                match events.next().await {
                    Err(error) => break error,
                    Ok(None) if !follow => return Ok(()),
                    Ok(None) => break hub.silent("it closed the connection"),
                    Ok(Some(event)) => {
                        persistence.reset();
                        match event.name.as_str() {
                            event::END => return Ok(()),
                            event::LOG => {
                                let unreadable = |error| hub.unreadable_event(path, error);
                                sink(serde_json::from_str(&event.data).map_err(unreadable)?).await?;
                            }
                            _ => {}
                        }
                    }
                }
            },
        };
        if !follow {
            return Err(broken);
        }
        persistence.wait(broken).await?;
    }
}

/// Comes back to a hub that does not answer, for a while.
struct Persistence {
    backoff: Backoff,
    since: Option<Instant>,
}

impl Persistence {
    fn new() -> Self {
        Self { backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(5)), since: None }
    }

    fn reset(&mut self) {
        self.backoff.reset();
        self.since = None;
    }

    async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let passing = match &error {
            Error::NoAnswer { .. } => true,
            Error::Problem(problem) => problem.code.is_passing(),
            _ => false,
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        if !passing || since.elapsed() > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(self.backoff.wait()).await;
        Ok(())
    }
}

// === Printer ===

/// Writes output: as it is where one task writes, in lines with the task's number where many do.
#[derive(Debug)]
pub struct Printer {
    prefixed: bool,
    /// Up to where each stream of each assignment is written.
    offsets: HashMap<(AssignmentId, Stream), u64>,
    lines: HashMap<(u32, Stream), Vec<u8>>,
}

impl Printer {
    /// A printer for one task or many.
    #[must_use]
    pub fn new(prefixed: bool) -> Self {
        Self { prefixed, offsets: HashMap::new(), lines: HashMap::new() }
    }

    /// Writes what of a chunk is new.
    ///
    /// # Errors
    /// [`Error::Output`], and [`Error::Contradiction`] for what is not Base64.
    pub fn print(&mut self, chunk: &LogChunk) -> Result<(), Error> {
        let Some(bytes) = self.fresh(chunk)? else { return Ok(()) };
        let stream = chunk.stream.0;
        if !self.prefixed {
            return write(stream, &bytes);
        }
        let line = self.lines.entry((chunk.index, stream)).or_default();
        line.extend_from_slice(&bytes);
        let mut ready = Vec::new();
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(end + 1);
            prefix(&mut ready, chunk.index, line);
            *line = rest;
        }
        if line.len() > MAX_LINE {
            prefix(&mut ready, chunk.index, line);
            ready.push(b'\n');
            line.clear();
        }
        if ready.is_empty() { Ok(()) } else { write(stream, &ready) }
    }

    fn fresh(&mut self, chunk: &LogChunk) -> Result<Option<Vec<u8>>, Error> {
        let not_base64 = |_| Error::Contradiction("the hub sends output that is not Base64".to_owned());
        let mut bytes = BASE64.decode(chunk.data.as_bytes()).map_err(not_base64)?;
        let written = self.offsets.entry((chunk.assignment.0, chunk.stream.0)).or_default();
        let end = chunk.offset.saturating_add(bytes.len() as u64);
        if end <= *written {
            return Ok(None);
        }
        let known = usize::try_from(written.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        bytes.drain(..known.min(bytes.len()));
        *written = end;
        Ok(Some(bytes))
    }

    /// Writes what has no line end yet.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let mut rest: Vec<_> = self.lines.drain().filter(|(_, line)| !line.is_empty()).collect();
        rest.sort_by_key(|(of, _)| *of);
        for ((index, stream), line) in rest {
            let mut ready = Vec::new();
            prefix(&mut ready, index, &line);
            ready.push(b'\n');
            write(stream, &ready)?;
        }
        Ok(())
    }
}

fn prefix(into: &mut Vec<u8>, index: u32, line: &[u8]) {
    into.extend_from_slice(format!("[{index}] ").as_bytes());
    into.extend_from_slice(line);
}

fn write(stream: Stream, bytes: &[u8]) -> Result<(), Error> {
    match stream {
        Stream::Stdout => output::data(bytes),
        Stream::Stderr => {
            output::aside(bytes);
            Ok(())
        }
    }
}

// === Screen ===

/// Shows how a job's tasks stand: a bar on a terminal, lines elsewhere.
struct Screen {
    bar: ProgressBar,
    states: HashMap<u32, TaskState>,
    waiting: HashMap<u32, String>,
    /// What devices have said that they could not do.
    failures: HashSet<String>,
    spent: String,
}

impl Screen {
    fn new(job: &Job) -> Self {
        let bar = output::task_bar(u64::from(job.counts.total));
        Self {
            bar,
            states: HashMap::new(),
            waiting: HashMap::new(),
            failures: HashSet::new(),
            spent: String::new(),
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Job { job, .. } => {
                self.spent = format!("{} SNM", job.price.spent);
                self.draw(&job.counts);
            }
            Change::Task { task, .. } => self.task(&task),
            _ => {}
        }
    }

    fn task(&mut self, task: &Task) {
        let before = self.states.insert(task.index, task.state);
        if !output::is_live() && before != Some(task.state) && task.state != TaskState::Queued {
            let how = match (task.exit_code, task.cause) {
                (Some(code), Some(cause)) => format!(" ({cause}, exit code {code})"),
                (Some(code), None) => format!(" (exit code {code})"),
                (None, Some(cause)) => format!(" ({cause})"),
                (None, None) => String::new(),
            };
            output::note(&format!("task {}: {}{how}", task.index, task.state));
        }
        for failed in task.assignments.iter().filter(|one| one.state == AssignmentState::Failed) {
            let Some(why) = &failed.explanation else { continue };
            // Another device may find the same, and other tasks, too: once is enough. A task's own end says it anyway.
            if self.failures.insert(why.clone()) && task.state != TaskState::Failed {
                output::note(&format!("task {}: a device could not do it: {why}", task.index));
            }
        }
        let reason = task.unplaced_reason.as_ref().map(|reason| reason.explanation.clone());
        if let Some(reason) = reason {
            // Many tasks wait for the same reason: once is enough.
            if !self.waiting.values().any(|known| *known == reason) {
                output::note(&format!("task {} waits: {reason}", task.index));
            }
            self.waiting.insert(task.index, reason);
        }
    }

    fn draw(&self, counts: &TaskCounts) {
        self.bar.set_position(u64::from(counts.succeeded + counts.failed + counts.cancelled));
        let mut parts = Vec::new();
        for (count, word) in
            [(counts.running, "running"), (counts.queued, "queued"), (counts.failed, "failed")]
        {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        parts.push(self.spent.clone());
        self.bar.set_message(parts.join(", "));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn chunk(offset: u64, text: &[u8]) -> LogChunk {
        LogChunk {
            index: 0,
            assignment: AssignmentId([7; 16]).into(),
            stream: Stream::Stdout.into(),
            offset,
            data: BASE64.encode(text),
        }
    }

    #[test]
    fn what_was_written_is_not_written_again() {
        let mut printer = Printer::new(false);
        let mut fresh = |offset, text: &[u8]| printer.fresh(&chunk(offset, text)).unwrap();
        assert_eq!(fresh(0, b"abc").unwrap(), b"abc");
        assert_eq!(fresh(0, b"abc"), None);
        assert_eq!(fresh(1, b"bcde").unwrap(), b"de");
        assert_eq!(fresh(10, b"after a gap").unwrap(), b"after a gap");
        assert_eq!(fresh(5, b"fghij"), None);
        assert_eq!(fresh(u64::MAX, b"x").unwrap(), b"x");
        let damaged = LogChunk { data: "!".to_owned(), ..chunk(0, b"") };
        assert!(printer.fresh(&damaged).is_err());
    }
}
