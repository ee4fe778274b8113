//! The agent as a child process: started, started again with growing pauses, its words kept.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    sys::wait::WaitStatus,
    unistd::Pid,
};

const LOG: &str = "/run/log/agent.log";
/// In memory: two files of this size at most.
const LARGEST_LOG: u64 = 1 << 20;
const LONGEST_LINE: u64 = 8192;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After this long the next end counts as the first.
const GOOD_RUN: Duration = Duration::from_secs(600);

/// What is started, and how it goes.
#[derive(Debug)]
pub(super) struct Child {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    state: State,
    backoff: Backoff,
    words: Words,
}

#[derive(Debug)]
enum State {
    Running { pid: Pid, since: Instant },
    Waiting { until: Instant },
}

/// The last lines of what a process said.
pub(crate) type Words = Arc<Mutex<VecDeque<String>>>;

/// The pauses between an end and the next start.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

// === impl Child ===

impl Child {
    pub(super) fn new(
        program: PathBuf,
        arguments: Vec<OsString>,
        environment: Vec<(String, String)>,
    ) -> Self {
        Self {
            program,
            arguments,
            environment,
            state: State::Waiting { until: Instant::now() },
            backoff: Backoff::new(),
            words: Words::default(),
        }
    }

    /// How long until [`Self::start_if_due`] has something to do.
    pub(super) fn due_in(&self) -> Option<Duration> {
        match self.state {
            State::Running { .. } => None,
            State::Waiting { until } => Some(until.saturating_duration_since(Instant::now())),
        }
    }

    /// Starts it if the pause is over. What cannot be started is tried again like what has ended.
    pub(super) fn start_if_due(&mut self) -> Option<io::Result<Pid>> {
        if self.due_in()? > Duration::ZERO {
            return None;
        }
        let started = self.start();
        self.state = match &started {
            Ok(pid) => State::Running { pid: *pid, since: Instant::now() },
            Err(_) => State::Waiting { until: Instant::now() + self.backoff.ended(Duration::ZERO) },
        };
        Some(started)
    }

    fn start(&self) -> io::Result<Pid> {
        let (reader, writer) = io::pipe()?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()?;
        let words = Arc::clone(&self.words);
        // It ends with the last process that holds the other end.
        let listen = move || keep(reader, Path::new(LOG), &words);
        thread::Builder::new().name("agent-log".into()).stack_size(128 * 1024).spawn(listen)?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // Its end is noted with everybody else's: PID 1 waits for all.
        drop(child);
        Ok(Pid::from_raw(pid))
    }

    /// Notes that a process has ended. If it was the agent: how, and the pause until it is started again.
    pub(super) fn ended(&mut self, status: WaitStatus) -> Option<(String, Duration)> {
        let State::Running { pid, since } = self.state else { return None };
        let how = match status {
            WaitStatus::Exited(ended, code) if ended == pid => format!("with code {code}"),
            WaitStatus::Signaled(ended, signal, _) if ended == pid => format!("by {signal}"),
            _ => return None,
        };
        let pause = self.backoff.ended(since.elapsed());
        self.state = State::Waiting { until: Instant::now() + pause };
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let last = words.back().map(|line| format!("; its last words: {line}")).unwrap_or_default();
        Some((how + &last, pause))
    }

    /// Asks it to end; tells whether there is anybody to ask.
    pub(super) fn stop(&self) -> bool {
        match self.state {
            State::Running { pid, .. } => kill(pid, Signal::SIGTERM).is_ok(),
            State::Waiting { .. } => false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

// === impl Backoff ===

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// The pause after a run that took `ran`.
    pub(crate) fn ended(&mut self, ran: Duration) -> Duration {
        if ran >= GOOD_RUN {
            self.next = FIRST_PAUSE;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Copies what a process says into a file in memory, bounded, until nobody is left to say anything.
pub(crate) fn keep(from: io::PipeReader, path: &Path, words: &Mutex<VecDeque<String>>) {
    let mut from = BufReader::new(from);
    let mut log = open(path);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok((file, length)) = &mut log {
            *length += line.len() as u64;
            // A full memory costs the log, never the process.
            let _ = file.write_all(&line);
            if *length > LARGEST_LOG {
                let _ = fs::rename(path, path.with_extension("log.1"));
                log = open(path);
            }
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() {
            words.push_back(text);
        }
        while words.len() > 4 {
            words.pop_front();
        }
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_a_good_run_forgives() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..8).map(|_| backoff.ended(Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.ended(GOOD_RUN), FIRST_PAUSE);
    }

    #[test]
    fn words_are_kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/agent.log");
        let (reader, mut writer) = io::pipe().unwrap();
        let words = Words::default();
        let kept = thread::spawn({
            let (path, words) = (path.clone(), Arc::clone(&words));
            move || keep(reader, &path, &words)
        });
        for number in 0..300 {
            writeln!(writer, "{number} {}", "x".repeat(8000)).unwrap();
        }
        writeln!(writer, "the end").unwrap();
        drop(writer);
        kept.join().unwrap();
        assert_eq!(words.lock().unwrap().back().unwrap(), "the end");
        assert!(words.lock().unwrap().len() <= 4);
        let sizes = [path.clone(), path.with_extension("log.1")].map(|p| fs::metadata(p).unwrap().len());
        assert!(sizes.iter().all(|size| *size <= LARGEST_LOG + LONGEST_LINE), "{sizes:?}");
    }
}
