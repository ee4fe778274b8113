//! The command line of an OCI runtime, as runc, crun and youki have it, over the same walls as the shim's: so that
//! other people's tools and conformance suites can drive them.
//!
//! Must only run in a process with one thread. Seccomp filters come with no_new_privs, also where a bundle does not
//! ask for it. What a bundle asks for and we cannot do is an error, never ignored.

mod create;
mod exec;
mod manage;

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use libcontainer::container::Container;
use liboci_cli::{CommonCmd, GlobalOpts, StandardCmd};
use serde_json::json;

use crate::{
    error::{RuntimeError, chain},
    seccomp::SeccompError,
};

/// Create, start, inspect and delete containers from OCI bundles.
#[derive(Debug, Parser)]
#[command(name = "oci", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: GlobalOpts,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Standard(Box<StandardCmd>),
    #[command(flatten)]
    Common(Box<CommonCmd>),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum OciError {
    #[error("container '{0}' does not exist")]
    NoContainer(String),
    #[error("the bundle's {what} cannot be used: {problem}")]
    Bundle { what: &'static str, problem: String },
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// From the container's own process: what it could not execute, with the shell's exit code.
    #[error("{1}")]
    Program(i32, String),
    #[error("cannot honour the bundle's seccomp section")]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Container(#[from] libcontainer::error::LibcontainerError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
}

type Result<T, E = OciError> = std::result::Result<T, E>;

/// What a failed system call was for.
trait During<T> {
    fn during(self, what: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: &'static str) -> Result<T> {
        self.map_err(|e| OciError::Io(what, e.into()))
    }
}

/// Does what the arguments (without the program's own name) say. The exit code is the container's for `run` and
/// `exec`, else 0 or 1. Call it from `main` before any thread is started.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from([OsString::from("oci")].into_iter().chain(args)) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::from(e.use_stderr()));
        }
    };
    let root = cli.global.root.clone().unwrap_or_else(default_root);
    match dispatch(cli.command, &root, cli.global.systemd_cgroup) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            let message = chain(&error);
            eprintln!("error: {message}");
            if let Some(path) = &cli.global.log {
                let _ = log(path, cli.global.log_format.as_deref() == Some("json"), &message);
            }
            let code = if let OciError::Program(code, _) = error { code } else { 1 };
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
    }
}

fn dispatch(command: Command, root: &Path, systemd: bool) -> Result<i32> {
    if systemd {
        return Err(OciError::Unsupported("--systemd-cgroup (cgroups are managed directly)"));
    }
    match command {
        Command::Standard(command) => match *command {
            StandardCmd::Create(args) => create::create(&args, root).map(|()| 0),
            StandardCmd::Start(args) => create::start(&args.container_id, root).map(|()| 0),
            StandardCmd::State(args) => manage::state(&args.container_id, root).map(|()| 0),
            StandardCmd::Kill(args) => manage::kill(&args, root).map(|()| 0),
            StandardCmd::Delete(args) => manage::delete(&args, root).map(|()| 0),
        },
        Command::Common(command) => match *command {
            CommonCmd::Run(args) => create::run(&args, root),
            CommonCmd::Exec(args) => exec::exec(&args, root),
            CommonCmd::List(args) => manage::list(&args, root).map(|()| 0),
            CommonCmd::Ps(args) => manage::ps(&args, root).map(|()| 0),
            CommonCmd::Pause(args) => Ok(load(&args.container_id, root)?.pause().map(|()| 0)?),
            CommonCmd::Resume(args) => Ok(load(&args.container_id, root)?.resume().map(|()| 0)?),
            CommonCmd::Update(args) => manage::update(&args, root).map(|()| 0),
            CommonCmd::Features(_) => manage::features().map(|()| 0),
            CommonCmd::Spec(args) => manage::spec(&args).map(|()| 0),
            CommonCmd::Checkpointt(_) => Err(OciError::Unsupported("checkpoint")),
            CommonCmd::Events(_) => Err(OciError::Unsupported("events")),
        },
    }
}

/// Where runtimes keep their state by default: gone after a reboot, as the containers are.
fn default_root() -> PathBuf {
    let of_user = || env::var_os("XDG_RUNTIME_DIR").map(|d| PathBuf::from(d).join("sosna-oci"));
    let root = if nix::unistd::geteuid().is_root() { None } else { of_user() };
    root.unwrap_or_else(|| "/run/sosna-oci".into())
}

/// A container's state. Its id is checked, because it becomes a path.
fn load(id: &str, root: &Path) -> Result<Container> {
    let folder = container_dir(id, root)?;
    if !folder.join("state.json").exists() {
        return Err(OciError::NoContainer(id.to_owned()));
    }
    Ok(Container::load(folder)?)
}

fn container_dir(id: &str, root: &Path) -> Result<PathBuf> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.starts_with('.') || id.len() > 1024 || !id.chars().all(fits) {
        let problem = "use letters, digits, '_', '+', '-' and '.', not first a '.'".to_owned();
        return Err(OciError::Bundle { what: "container id", problem });
    }
    Ok(root.join(id))
}

/// Adds a line to the log that the caller reads our errors from, in runc's form.
fn log(path: &Path, as_json: bool, message: &str) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    let time = rfc3339(crate::record::now_ms() / 1000);
    if as_json {
        writeln!(file, "{}", json!({ "level": "error", "msg": message, "time": time }))
    } else {
        writeln!(file, "time={time} level=error msg={message:?}")
    }
}

/// Unix seconds as a date (civil-from-days after Howard Hinnant's "chrono-compatible date algorithms").
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["oci", "--root", "/r", "run", "-b", "/b", "x"]).is_ok());
        assert!(Cli::try_parse_from(["oci", "kill", "x", "TERM"]).is_ok());
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        for id in ["..", "../x", "a/b", "", ".hidden"] {
            assert!(container_dir(id, Path::new("/r")).is_err(), "{id}");
        }
        assert_eq!(container_dir("a.b-1", Path::new("/r")).unwrap(), Path::new("/r/a.b-1"));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
