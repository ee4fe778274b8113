//! The processes of a user.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, setresuid},
};

use crate::owner::User;

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// Ends every process that a user has in this namespace, at once: none can fork before it is reached (kill(2), `-1`).
/// Needs root, and a process with one thread. Blocks, at most two seconds.
///
/// # Errors
/// When that user cannot be become for a moment, and then nobody was killed; `TimedOut` when some do not end.
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

/// Who may kill is told by the real and the effective user, who may be killed by the real and the saved one (kill(2)): for
/// a moment this process may kill what is `user`'s and nothing else, and none of these may kill or stop it. It is not done
/// in a child, for which there may be no room.
fn kill_all(User(id): User) -> nix::Result<()> {
    // Nobody has it, not even who does the same for another user meanwhile: the two could kill each other. The last number
    // stands for no user at all.
    let nobody = Uid::from_raw(u32::MAX - 1 - id % (1 << 20));
    let root = Uid::from_raw(0);
    setresuid(nobody, Uid::from_raw(id), root)?;
    let killed = kill(Pid::from_raw(-1), Signal::SIGKILL);
    // What is saved can always be gone back to, and the capabilities with it (capabilities(7)).
    setresuid(root, root, root)?;
    match killed {
        // That there is nobody else at all.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        failed => failed,
    }
}

/// Whether any of them can still do anything: what is dead and not yet waited for cannot.
fn lives_any(User(id): User) -> io::Result<bool> {
    for entry in fs::read_dir("/proc")? {
        // A process's name may be anything.
        let Ok(status) = fs::read(entry?.path().join("status")) else { continue };
        let status = String::from_utf8_lossy(&status);
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        let number = |name: &str| field(name).and_then(|text| text.parse::<u32>().ok());
        // Its first thread may have ended, and others not.
        let is_dead = matches!(field("State:"), Some("Z" | "X")) && number("Threads:").is_none_or(|n| n <= 1);
        if !is_dead && number("Uid:") == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}
