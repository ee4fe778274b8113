//! The real program, as a process.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub struct Agent {
    pub data: PathBuf,
    process: Child,
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sosna-agent"));
    command.env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("SOSNA_AGENT_LOG", std::env::var("SOSNA_AGENT_LOG").unwrap_or_else(|_| "info".into()));
    command
}

fn run(data: &Path, token: Option<&str>) -> Command {
    let mut command = program();
    command.arg("run").arg("--data").arg(data);
    command.env("SOSNA_AGENT_CONTAINERS_STATE", data.join("state"));
    command.env("SOSNA_AGENT_EXPOSURE_LIMIT", "100");
    command.env("SOSNA_AGENT_EXPOSURE_START", "100");
    command.env("SOSNA_AGENT_LIMITS_DISK", "256MiB");
    command.env("SOSNA_AGENT_LIMITS_IMAGES", "256MiB");
    if let Some(token) = token {
        command.arg("--join").arg(token);
    }
    command
}

/// Data folders of agents that were started: no frame has the key that is in one of them.
static STARTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// That a frame has no agent's key in it, as bytes or as text.
pub fn assert_no_key_in(frame: &[u8]) {
    for data in STARTED.lock().unwrap().iter() {
        let Ok(text) = std::fs::read(data.join("identity.key")) else { continue };
        let stored: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let hex = stored["key"].as_str().unwrap();
        let bytes = hex.parse::<sosna_protocol::Hash>().unwrap().0;
        let has = |needle: &[u8]| frame.windows(needle.len()).any(|window| window == needle);
        assert!(!has(&bytes) && !has(hex.as_bytes()), "a frame has the key of {}", data.display());
    }
}

impl Agent {
    pub fn start(data: &Path, token: Option<&str>) -> Self {
        STARTED.lock().unwrap().push(data.to_owned());
        let process = run(data, token).stdin(Stdio::null()).spawn().unwrap();
        Self { data: data.to_owned(), process }
    }

    /// Runs it until it ends by itself.
    pub fn run_to_end(data: &Path, token: Option<&str>) -> Output {
        run(data, token).stdin(Stdio::null()).output().unwrap()
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it ends by itself.
    pub fn end(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and how long it took.
    pub fn stop(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM).unwrap();
        let status = self.process.wait().unwrap();
        (status, began.elapsed())
    }

    pub fn status(&self) -> sosna_agent::status::Report {
        let output = program().args(["status", "--json", "--data"]).arg(&self.data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Kills the shims of a data folder, as a power cut would, and says how many there were.
pub fn kill_shims(data: &Path) -> usize {
    let folder = data.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let shims = processes.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.starts_with("sosna-shim") && line.contains(&folder)).then_some(pid)
    });
    shims.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap()).count()
}
