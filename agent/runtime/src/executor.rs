//! The last steps in a container's init: find the program, install the seccomp filters, execute. libcontainer
//! calls this after namespaces, pivot_root, ids and capabilities are done.
//!
//! Must never execute the program when a filter could not be installed.

use std::{
    collections::HashMap,
    env,
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{BorrowedFd, RawFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::Spec;

use crate::{seccomp::Compiled, sys};

/// The shell's code for a program that is not there.
pub(crate) const NOT_FOUND: i32 = 127;
/// The shell's code for a program that cannot be executed.
pub(crate) const NOT_EXECUTABLE: i32 = 126;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Executes the program of a specification under our filters.
#[derive(Clone, Debug)]
pub(crate) struct SeccompExecutor {
    /// What restricts the program.
    pub(crate) filters: Compiled,
    /// Where a failure is reported as `<exit code> <message>`; closes by itself when the program runs.
    pub(crate) report: Option<RawFd>,
    /// Whether the container dies with the process that started it.
    pub(crate) die_with_parent: bool,
}

impl SeccompExecutor {
    fn report(&self, code: i32, message: &str) {
        if let Some(fd) = self.report {
            // SAFETY: whoever made this executor keeps the descriptor open as long as the executor is used.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let _ = nix::unistd::write(fd, format!("{code} {message}").as_bytes());
        }
    }
}

impl Executor for SeccompExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let refuse = |code: i32, message: String| {
            self.report(code, &message);
            Err(ExecutorValidationError::ArgValidationError(message))
        };
        // Already here, so that a container that waits for its start does not outlive its shim.
        if self.die_with_parent
            && let Err(e) = sys::die_with_parent()
        {
            return refuse(NOT_EXECUTABLE, format!("cannot tie the container to its shim: {e}"));
        }
        match find(arguments(spec).first().map_or("", String::as_str), &spec_path(spec)) {
            Ok(_) => Ok(()),
            Err((code, message)) => refuse(code, message),
        }
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        let fits = |name: &str, value: &str| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        };
        let old: Vec<_> = env::vars_os().map(|(name, _)| name).collect();
        // SAFETY: a container's init has one thread: libcontainer is only ever used by processes with one.
        unsafe {
            old.iter().for_each(|name| env::remove_var(name));
            envs.iter().filter(|(n, v)| fits(n, v)).for_each(|(n, v)| env::set_var(n, v));
        }
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = arguments(spec);
        let name = args.first().map_or("", String::as_str);
        // All that allocates or opens files comes before the filters, which may forbid it.
        let program = find(name, &spec_path(spec)).map_err(|(code, message)| {
            self.report(code, &message);
            ExecutorError::Other(message)
        })?;
        let text = |t: &[u8]| CString::new(t).map_err(|_| ExecutorError::InvalidArg);
        let program_text = text(program.as_os_str().as_bytes())?;
        let argv = args.iter().map(|a| text(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        let join =
            |(n, v): (std::ffi::OsString, std::ffi::OsString)| [n.as_bytes(), b"=", v.as_bytes()].concat();
        let envp = env::vars_os().map(|pair| text(&join(pair))).collect::<Result<Vec<_>, _>>()?;

        let fail = |what: &str, error: io::Error| {
            let message = format!("{what}: {error}");
            self.report(NOT_EXECUTABLE, &message);
            Err(ExecutorError::Other(message))
        };
        // Rust ignores SIGPIPE and a create time-out leaves a handler; neither is the program's business.
        if let Err(e) = sys::default_signals() {
            return fail("cannot reset the signals", e);
        }
        if !self.filters.is_empty() {
            // A filter without no_new_privs could be kept on through a setuid program; so it is always set.
            if let Err(e) = nix::sys::prctl::set_no_new_privs() {
                return fail("cannot set no_new_privs", e.into());
            }
            if let Err(e) = self.filters.install() {
                return fail("cannot install the seccomp profile", e);
            }
        }
        let error = match nix::unistd::execve(&program_text, &argv, &envp) {
            Ok(never) => match never {},
            Err(e) => e,
        };
        // Whoever reads the reports may be gone (`create` ends before `start`): that must not change how we end.
        let _ = sys::ignore_broken_pipes();
        let code = if error == nix::errno::Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
        // ENOENT for a file that is there means that the interpreter it names is not.
        let message = match error {
            nix::errno::Errno::ENOENT => {
                format!("cannot execute '{name}': its interpreter or loader is missing")
            }
            nix::errno::Errno::ENOEXEC => {
                format!("cannot execute '{name}': it is not a program for this machine")
            }
            other => format!("cannot execute '{name}': {}", other.desc()),
        };
        self.report(code, &message);
        Err(ExecutorError::Other(message))
    }
}

fn arguments(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|p| p.args().as_deref()).unwrap_or_default()
}

fn spec_path(spec: &Spec) -> String {
    let env = spec.process().as_ref().and_then(|p| p.env().as_deref()).unwrap_or_default();
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
    path.filter(|p| !p.is_empty()).unwrap_or(DEFAULT_PATH).to_owned()
}

/// The file to execute, or the shell's exit code and a message.
fn find(name: &str, path: &str) -> Result<PathBuf, (i32, String)> {
    if name.is_empty() {
        return Err((NOT_FOUND, "there is no program to run".into()));
    }
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![name.into()]
    } else {
        path.split(':')
            .map(|folder| Path::new(if folder.is_empty() { "." } else { folder }).join(name))
            .collect()
    };
    let mut seen = false;
    for candidate in candidates {
        let Ok(meta) = fs::metadata(&candidate) else { continue };
        seen = true;
        let may = nix::unistd::access(&candidate, nix::unistd::AccessFlags::X_OK).is_ok();
        if meta.is_file() && may && meta.permissions().mode() & 0o111 != 0 {
            return Ok(candidate);
        }
    }
    if seen {
        Err((NOT_EXECUTABLE, format!("'{name}' is not executable (no execute permission, or not a file)")))
    } else {
        let place = if name.contains('/') { String::new() } else { format!(" in PATH ({path})") };
        Err((NOT_FOUND, format!("command not found: '{name}'{place}")))
    }
}

/// Splits a report into exit code and message.
pub(crate) fn parse_report(report: &[u8]) -> Option<(i32, String)> {
    let text = OsStr::from_bytes(report).to_string_lossy();
    let (code, message) = text.split_once(' ')?;
    Some((code.parse().ok()?, message.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plain");
        fs::write(&file, "").unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(find("plain", path).unwrap_err().0, NOT_EXECUTABLE);
        assert_eq!(find("missing", path).unwrap_err().0, NOT_FOUND);
        assert_eq!(find(path, "").unwrap_err().0, NOT_EXECUTABLE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("plain", path).unwrap(), file);
        assert_eq!(find("", path).unwrap_err().0, NOT_FOUND);
    }

    #[test]
    fn reports_are_read_back() {
        assert_eq!(
            parse_report(b"127 command not found: 'x y'").unwrap(),
            (127, "command not found: 'x y'".into())
        );
        assert_eq!(parse_report(b""), None);
    }
}
