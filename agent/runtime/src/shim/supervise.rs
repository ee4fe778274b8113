//! From start to end: one loop over the container's init, its two streams, the agents' connections and the clock.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    control::{self, Client, Order},
    logs::Stream,
};
use crate::{cgroup::Group, scratch::Scratch};

/// How long the streams are still read after the end: all writers died with the pid namespace, so what they wrote
/// is there already; only a process that escaped it could hold a pipe open.
const DRAIN: Duration = Duration::from_millis(500);
/// How often the disk is looked at.
const DISK: Duration = Duration::from_secs(1);
/// After so long without output, what the start took is let go of. Whoever asks how the container is comes every two
/// seconds, and needs little.
const QUIET: Duration = Duration::from_secs(3);

/// How a container's init ended, and what was going on.
#[derive(Debug)]
pub(super) struct End {
    pub(super) status: WaitStatus,
    pub(super) wall: Duration,
    pub(super) stopped: bool,
    pub(super) timed_out: bool,
    pub(super) disk_full: bool,
}

/// What is watched.
pub(super) struct Watch<'a> {
    pub(super) init: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) streams: [Stream; 2],
    pub(super) listener: &'a UnixListener,
    pub(super) group: &'a Group,
    pub(super) scratch: &'a Scratch,
    pub(super) started: Instant,
    pub(super) wall: Duration,
}

impl Watch<'_> {
    /// Runs until the container has ended. The connections that wait are handed back, to be closed by dropping
    /// them once the record is written.
    pub(super) fn run(&mut self) -> (End, Vec<Client>) {
        let mut clients: Vec<Client> = Vec::new();
        let mut paused = false;
        let mut kill_at: Option<Instant> = None;
        let (mut stopped, mut timed_out, mut disk_full) = (false, false, false);
        let mut ended: Option<(WaitStatus, Instant)> = None;
        let mut next_disk = self.started + DISK;
        let mut quiet_at = Some(self.started + QUIET);
        // A limit beyond what the clock can say is no limit.
        let wall_at = self.started.checked_add(self.wall);
        loop {
            let now = Instant::now();
            if let Some((status, at)) = ended {
                if self.streams.iter().all(|s| s.pipe().is_none()) || now >= at + DRAIN {
                    let wall = at.saturating_duration_since(self.started);
                    return (End { status, wall, stopped, timed_out, disk_full }, clients);
                }
            } else {
                if wall_at.is_some_and(|at| now >= at) && !timed_out && !stopped {
                    timed_out = true;
                    kill_at = Some(now);
                }
                if kill_at.is_some_and(|at| now >= at) {
                    self.kill();
                    // Should it not be gone then, once more.
                    kill_at = Some(now + Duration::from_secs(1));
                }
                if now >= next_disk {
                    disk_full |= self.scratch.is_full();
                    next_disk = now + DISK;
                    if quiet_at.is_some_and(|at| now >= at) {
                        quiet_at = None;
                        sosna_privsep::drop_code_pages();
                    }
                }
            }
            let deadline = match ended {
                Some((_, at)) => Some(at + DRAIN),
                None => [kill_at, Some(next_disk), wall_at.filter(|_| !timed_out && !stopped)]
                    .into_iter()
                    .flatten()
                    .min(),
            };
            let ready = self.wait(&clients, ended.is_some(), deadline);
            if ready.streams.contains(&true) {
                quiet_at = Some(Instant::now() + QUIET);
            }
            if ready.ended && ended.is_none() {
                match waitpid(self.init, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) => {}
                    Ok(status) => ended = Some((status, Instant::now())),
                    // Somebody else reaped it, which cannot be: nothing is known then.
                    Err(_) => ended = Some((WaitStatus::Exited(self.init, -1), Instant::now())),
                }
                if ended.is_some() {
                    disk_full |= self.scratch.is_full();
                }
            }
            for (stream, is_ready) in self.streams.iter_mut().zip(ready.streams) {
                if is_ready {
                    stream.pump();
                }
            }
            for (n, _) in ready.clients.iter().enumerate().rev().filter(|(_, is_ready)| **is_ready) {
                let answer = match clients[n].read() {
                    Err(()) => None,
                    Ok(None | Some(Order::Wait)) => Some(""),
                    Ok(Some(Order::Phase)) => Some(if paused { "paused\n" } else { "running\n" }),
                    Ok(Some(Order::Stop(grace))) => {
                        if !stopped && ended.is_none() {
                            stopped = true;
                            let _ = kill(self.init, Signal::SIGTERM);
                            if paused {
                                paused = self.group.freeze(false).is_err();
                            }
                        }
                        let at = Instant::now().checked_add(grace);
                        // A second order can only hasten the end.
                        kill_at = match (kill_at, at) {
                            (Some(a), Some(b)) => Some(a.min(b)),
                            (a, b) => a.or(b),
                        };
                        Some("ok\n")
                    }
                    Ok(Some(order)) => {
                        let freeze = order == Order::Pause;
                        if self.group.freeze(freeze).is_ok() {
                            paused = freeze;
                            Some("ok\n")
                        } else {
                            Some("error\n")
                        }
                    }
                };
                match answer {
                    Some(text) => clients[n].answer(text),
                    None => drop(clients.swap_remove(n)),
                }
            }
            if ready.listener {
                control::accept(self.listener, &mut clients);
            }
        }
    }

    /// Kills the container: the death of a pid namespace's init kills all in it.
    fn kill(&self) {
        let _ = kill(self.init, Signal::SIGKILL);
        // A frozen process of cgroup v1 dies only when it thaws.
        let _ = self.group.freeze(false);
    }

    fn wait(&self, clients: &[Client], ended: bool, deadline: Option<Instant>) -> Ready {
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.listener.as_fd()];
        if !ended {
            fds.push(self.pidfd.as_fd());
        }
        let fixed = fds.len();
        let open: Vec<usize> = (0..2).filter(|n| self.streams[*n].pipe().is_some()).collect();
        fds.extend(open.iter().filter_map(|n| self.streams[*n].pipe()));
        fds.extend(clients.iter().map(|c| c.stream.as_fd()));
        let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            // Rounded up, or the loop would spin for the last fraction.
            let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left.min(3_600_000)).unwrap_or(PollTimeout::ZERO)
        });
        let _ = poll(&mut fds, timeout);
        let is = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        let mut streams = [false; 2];
        for (place, n) in open.iter().enumerate() {
            streams[*n] = is(fixed + place);
        }
        let first_client = fixed + open.len();
        Ready {
            listener: is(0),
            ended: !ended && is(1),
            streams,
            clients: (0..clients.len()).map(|n| is(first_client + n)).collect(),
        }
    }
}

struct Ready {
    listener: bool,
    ended: bool,
    streams: [bool; 2],
    clients: Vec<bool>,
}
