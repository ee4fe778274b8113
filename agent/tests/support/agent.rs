//! The real program, as a process.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
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
    command.env("SOSNA_AGENT_LIMITS_DISK", "256MiB");
    command.env("SOSNA_AGENT_LIMITS_IMAGES", "256MiB");
    if let Some(token) = token {
        command.arg("--join").arg(token);
    }
    command
}

impl Agent {
    pub fn start(data: &Path, token: Option<&str>) -> Self {
        let process = run(data, token).stdin(Stdio::null()).spawn().unwrap();
        Self { data: data.to_owned(), process }
    }

    /// Runs it until it ends by itself.
    pub fn run_to_end(data: &Path, token: Option<&str>) -> Output {
        run(data, token).stdin(Stdio::null()).output().unwrap()
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
