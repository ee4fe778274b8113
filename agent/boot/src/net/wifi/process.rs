//! The supplicant as a process: its configuration in memory, its words in a log, its end noticed by a descriptor.
//! PID 1's loop reaps it like everybody else.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::{fs::PermissionsExt as _, fs::chown, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{FOLDER, PART, USER, config, control};
use crate::{
    device::wifi::{Wifi, WifiNetwork},
    file,
    first::STAGE,
    system::child::{Words, keep},
};

const LOG: &str = "/run/log/wifi.log";

/// A supplicant that was started.
#[derive(Debug)]
pub(super) struct Process {
    handle: OwnedFd,
    started: Instant,
    words: Words,
}

/// Where the supplicant of a card finds its configuration.
pub(super) fn configuration(card: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{card}.conf"))
}

/// Writes the configuration and starts the supplicant of a card: this very program, which gives up its rights and
/// becomes it.
pub(super) fn start(card: &str, wifi: &Wifi, networks: &[WifiNetwork]) -> io::Result<Process> {
    fs::create_dir_all(FOLDER)?;
    fs::set_permissions(FOLDER, fs::Permissions::from_mode(0o700))?;
    let path = configuration(card);
    file::write_whole(&path, config::text(wifi, networks, control::FOLDER).as_bytes(), 0o600)?;
    for path in [Path::new(FOLDER), &path] {
        chown(path, Some(USER), Some(USER))?;
    }
    let (reader, writer) = io::pipe()?;
    let child = Command::new("/proc/self/exe")
        .arg(card)
        .env_clear()
        .env(STAGE, PART)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let process = i32::try_from(child.id()).map_err(io::Error::other)?;
    drop(child);
    let words = Words::default();
    let kept = Arc::clone(&words);
    let listen = move || keep(reader, Path::new(LOG), &kept);
    thread::Builder::new().name("wifi-log".into()).stack_size(128 * 1024).spawn(listen)?;
    Ok(Process { handle: handle_of(process)?, started: Instant::now(), words })
}

/// A descriptor that stands for a process, whatever becomes of its number.
fn handle_of(process: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let handle = i32::try_from(handle).map_err(io::Error::other)?;
    if handle < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}

// === impl Process ===

impl Process {
    pub(super) fn has_ended(&self) -> bool {
        let mut waited = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        poll(&mut waited, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// What it said last, as the end of a sentence.
    pub(super) fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.back().map(|line| format!(", its last words: {line}")).unwrap_or_default()
    }

    pub(super) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: libc::c_int) {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and no memory is passed.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.handle.as_raw_fd(), signal, nothing, 0) };
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// A card that has gone needs none.
impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
    }
}
