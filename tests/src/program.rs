//! Programs of this workspace as processes: started with their output in a file, ended by their own number, and
//! waited for with a deadline. Never ends a process that it did not start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often something is looked at that cannot tell by itself.
pub const LOOK: Duration = Duration::from_millis(100);

/// How long a program may take to stop when it is asked to.
const FAREWELL: Duration = Duration::from_secs(15);

/// Where cargo put a program of this workspace: two folders above the test program, where both were built.
///
/// # Panics
/// Where it was not built.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().find(|above| above.join(name).is_file());
    let Some(folder) = folder else {
        panic!("{name} is not built; run `cargo build --workspace --all-targets` first");
    };
    folder.join(name)
}

/// A program that goes on until it is ended.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it prints is added to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.to_path_buf() }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed, since the first start with this log.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its end, if it has come.
    ///
    /// # Panics
    /// When the system does not tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "it did not end within {patience:?}:\n{}", self.said());
            thread::sleep(LOOK);
        }
    }

    /// SIGKILL: no time for anything.
    pub fn kill(mut self) {
        self.end();
    }

    /// A signal of those by which programs crash, and its end.
    ///
    /// # Panics
    /// When it goes on.
    pub fn crash(mut self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
        let status = self.wait(FAREWELL);
        assert!(!status.success(), "it did not crash ({status}):\n{}", self.said());
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Panics
    /// When it does not end, or not well.
    pub fn stop(mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let status = self.wait(FAREWELL);
        assert!(status.success(), "it did not stop well ({status}):\n{}", self.said());
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Done {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Done {
    /// Standard output of a command that must have gone well, without the white space around it.
    ///
    /// # Panics
    /// When it did not go well.
    #[must_use]
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self}");
        self.out.trim()
    }

    /// Asserts how it failed: exit code, and words that the message has.
    ///
    /// # Panics
    /// When it is otherwise.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        for word in words {
            assert!(self.err.contains(word), "the message does not say {word:?}: {self}");
        }
        assert!(!self.err.contains("panicked"), "{self}");
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

/// Runs a command to its end, its output in files of `folder`.
///
/// # Panics
/// When it does not end in time.
#[must_use]
pub fn run(command: &mut Command, folder: &Path, patience: Duration) -> Done {
    let out = tempfile::NamedTempFile::new_in(folder).unwrap();
    let err = tempfile::NamedTempFile::new_in(folder).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.reopen().unwrap())
        .stderr(err.reopen().unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let text = |file: &tempfile::NamedTempFile| {
        String::from_utf8_lossy(&fs::read(file.path()).unwrap_or_default()).into_owned()
    };
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Done { code: status.code(), out: text(&out), err: text(&err) };
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            let done = Done { code: None, out: text(&out), err: text(&err) };
            panic!("{command:?} did not end within {patience:?}: {done}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
