//! Runs a program with its output going, line by line, to a log and to whoever watches.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for output that a process left behind may still hold open.
const GRACE: Duration = Duration::from_secs(3);

/// All output of a stage, in memory and in a file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    lines: Vec<String>,
}

impl Log {
    /// Begins the log at `path`, replacing an older one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(Self { path: path.to_path_buf(), file: File::create(path)?, lines: Vec::new() })
    }

    /// Adds a line.
    pub fn line(&mut self, line: &str) {
        // A full disk must not hide the stage's own result; the lines in memory remain.
        let _ = writeln!(self.file, "{line}");
        self.lines.push(line.to_owned());
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `cargo`, freed of what the cargo that started this program put into the environment for it.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clean(&mut command);
    command
}

/// Removes from a command's environment what an outer cargo put there: a crate that watches such a variable
/// would otherwise be built twice, once by hand and once from here.
pub fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_PRIMARY_"]
            .iter()
            .any(|p| text.starts_with(p))
        {
            command.env_remove(&name);
        }
    }
    command.env("CARGO_TERM_COLOR", "never").env("CARGO_TERM_PROGRESS_WHEN", "never");
}

/// Runs the command to its end without input. Each line of either output goes to the log and to `watch`.
/// After `limit` the command is killed, which its exit status shows.
///
/// # Errors
/// When the command cannot be started or waited for.
pub fn run(
    command: &mut Command,
    limit: Option<Duration>,
    log: &mut Log,
    mut watch: impl FnMut(&str),
) -> io::Result<ExitStatus> {
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    log.line(&format!("$ {} {}", command.get_program().to_string_lossy(), args.join(" ")));
    let (reader, writer) = io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command still holds our copies of the pipe's writing end: the reader would never see its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(text).is_err() {
                break;
            }
        }
    });

    let begun = Instant::now();
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                log.line(&line);
                watch(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        match ended {
            None => ended = child.try_wait()?.map(|status| (status, Instant::now())),
            Some((_, at)) if at.elapsed() > GRACE => {
                log.line("a process that the command left behind still holds its output open");
                break;
            }
            Some(_) => {}
        }
        if ended.is_none() && limit.is_some_and(|l| begun.elapsed() > l) {
            log.line("killed: it did not end within its time limit");
            child.kill()?;
        }
    }
    match ended {
        Some((status, _)) => Ok(status),
        None => child.wait(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sh(script: &str, limit: Option<Duration>) -> (ExitStatus, Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::begin(&dir.path().join("log")).unwrap();
        let mut seen = Vec::new();
        let status =
            run(Command::new("sh").args(["-c", script]), limit, &mut log, |l| seen.push(l.to_owned()))
                .unwrap();
        let written = fs::read_to_string(log.path()).unwrap();
        assert_eq!(written.lines().collect::<Vec<_>>(), log.lines());
        (status, log.lines().to_vec(), seen)
    }

    #[test]
    fn both_outputs_are_logged_and_the_code_told() {
        let (status, lines, seen) = sh("echo a; echo b >&2; exit 7", None);
        assert_eq!(status.code(), Some(7));
        assert_eq!(seen, ["a", "b"]);
        assert_eq!(lines.len(), 3, "and the command itself");
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let begun = Instant::now();
        let (status, lines, _) = sh("exec sleep 60", Some(Duration::from_millis(200)));
        assert!(!status.success());
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(lines.iter().any(|l| l.contains("time limit")));
    }

    #[test]
    fn a_child_left_behind_does_not_hold_us() {
        let begun = Instant::now();
        let (status, lines, _) = sh("sleep 12 & echo done", None);
        assert!(status.success());
        assert!(begun.elapsed() < Duration::from_secs(11));
        assert!(lines.iter().any(|l| l.contains("left behind")));
    }
}
