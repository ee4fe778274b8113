//! The processes of a user.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid},
};

use crate::owner::User;

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// Ends every process that a user has in this namespace, at once: none can fork before it is reached (kill(2), `-1`).
/// Needs root, and a process with one thread. Blocks, at most two seconds.
///
/// # Errors
/// When that user cannot be become; `TimedOut` when some do not end.
pub fn end_all_of(user: User) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        kill_all(user)?;
        if !lives_any(user)? {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(LOOK);
    }
}

fn kill_all(user: User) -> io::Result<()> {
    // SAFETY: there is one thread, and the child makes a few system calls and leaves.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let killed = become_killer(user).and_then(|()| kill(Pid::from_raw(-1), Signal::SIGKILL));
            let code = match killed {
                // That there is nobody else at all.
                Ok(()) | Err(Errno::ESRCH) => 0,
                Err(errno) => errno as i32,
            };
            // SAFETY: leaves without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, code)) => return Err(io::Error::from_raw_os_error(code)),
                // Somebody of that user was faster; they are seen, and it is tried again.
                Ok(WaitStatus::Signaled(..)) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        },
    }
}

/// Whether any of them can still do anything: what is dead and not yet waited for cannot.
fn lives_any(User(id): User) -> io::Result<bool> {
    for entry in fs::read_dir("/proc")? {
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else { continue };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next().map(str::to_owned))
        };
        let is_dead = field("State:").is_some_and(|state| matches!(state.as_str(), "Z" | "X"));
        if !is_dead && field("Uid:").and_then(|uid| uid.parse().ok()) == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// May kill what is `user`'s and nothing else, and none of these may kill it: who may be killed is told by the real and
/// the saved user, who may kill by the real and the effective one (kill(2)).
fn become_killer(User(id): User) -> nix::Result<()> {
    /// Nobody has it; the last one, and no user at all, is beside it.
    const NOBODY: Uid = Uid::from_raw(u32::MAX - 1);
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    // Where that number is not mapped, it can be killed as well.
    setresuid(NOBODY, uid, NOBODY).or_else(|_| setresuid(uid, uid, uid))
}
