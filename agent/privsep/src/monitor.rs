//! The process that keeps its rights: starts helpers, tells how they ended, and ends with its caller. One thread, no
//! reading of anything but orders.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    process::{Child, ExitStatus},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair},
    },
    unistd::{ForkResult, Pid, fork, setsid},
};

use crate::{
    launcher::Launcher,
    owner::User,
    processes::end_all_of,
    program::{Program, drop_code_pages, pidfd},
    wire::{self, Order},
};

/// After so long without an order or an end, code is let go of, in milliseconds.
const QUIET: u16 = 3000;

/// One thing that a monitor does when it is asked to.
#[derive(Debug, Clone)]
pub struct Helper {
    /// What orders call it.
    pub name: &'static str,
    /// By what this program knows that it is to be this helper.
    pub argv0: &'static str,
    /// Its arguments, before that of the order.
    pub arguments: Vec<OsString>,
    /// Whether it is killed when whoever asked for it is gone, or has given up; containers outlive both.
    pub ends_with_caller: bool,
    /// How many of it there are at once at most: a caller that was taken over cannot fill the machine with them.
    pub most: usize,
}

/// Why the rights could not be separated.
#[derive(Debug, thiserror::Error)]
pub enum SeparateError {
    /// Other threads could do anything meanwhile.
    #[error("the monitor cannot be forked from a process with {0} threads")]
    Threads(usize),
    /// The system's answer.
    #[error("the monitor cannot be started")]
    System(#[from] io::Error),
}

/// What starts helpers.
#[derive(Debug)]
pub struct Monitor {
    program: Program,
    helpers: Vec<Helper>,
}

/// What a monitor of its own process has besides its helpers.
#[derive(Debug, Default)]
pub struct Charge {
    /// Who the caller becomes. What is left of this user's processes when the caller is gone is ended.
    pub user: Option<User>,
    /// What stays open until then, in the monitor alone: a lock that no child of the caller's can keep.
    pub kept: Vec<OwnedFd>,
}

struct Running {
    child: Child,
    pidfd: OwnedFd,
    /// Where its end is told.
    status: UnixStream,
    ends_with_caller: bool,
    /// Which helper it is.
    place: u8,
}

// === impl Monitor ===

impl Monitor {
    /// Of the running program, which becomes a helper where it is started as one.
    ///
    /// # Errors
    /// When the program cannot be read, or there is no memory for its copy.
    pub fn new(helpers: Vec<Helper>) -> io::Result<Self> {
        Ok(Self { program: Program::of_this_process()?, helpers })
    }

    /// Leaves the monitor behind as a process of its own, with all rights that this one has now. Call it while the
    /// process has one thread; in the monitor it does not return. It ends when this process has, whatever else has a
    /// copy of the socket.
    ///
    /// # Errors
    /// [`SeparateError`].
    pub fn separate(self, charge: Charge) -> Result<Launcher, SeparateError> {
        let threads = fs::read_dir("/proc/self/task")?.count();
        if threads != 1 {
            return Err(SeparateError::Threads(threads));
        }
        // Before there is another process, so that it cannot be somebody else's who has the number by then.
        let caller = pidfd(Pid::this())?;
        let (launcher, orders) = self.connect()?;
        // SAFETY: there is one thread, so the child may do whatever this process may.
        match unsafe { fork() }.map_err(io::Error::from)? {
            ForkResult::Parent { .. } => Ok(launcher),
            ForkResult::Child => {
                drop(launcher);
                // Signals to the caller's terminal or group are not for it: it ends when the caller has.
                let _ = setsid();
                // Its command line is the caller's.
                let _ = nix::sys::prctl::set_name(c"sosna-monitor");
                self.close_all_but(charge.kept.iter().chain([&orders, &caller]));
                self.serve(&orders, Some(&caller));
                if let Some(user) = charge.user {
                    // There is nobody to tell; the next caller tries again before it begins.
                    let _ = end_all_of(user);
                }
                // SAFETY: leaves without running anything that the caller has registered for its own end.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// The same within this process, where there is nothing to separate: in tests, benchmarks, and programs with
    /// threads. Helpers that end with their caller do when the last launcher is dropped, not when the process dies.
    ///
    /// # Errors
    /// The system's.
    pub fn beside(self) -> io::Result<Launcher> {
        let (launcher, orders) = self.connect()?;
        let thread = std::thread::Builder::new().name("monitor".into()).stack_size(64 << 10);
        thread.spawn(move || self.serve(&orders, None))?;
        Ok(launcher)
    }

    fn connect(&self) -> io::Result<(Launcher, OwnedFd)> {
        // Packets, so that an order is one whatever its length.
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Launcher::new(ours, self.helpers.iter().map(|helper| helper.name).collect()), theirs))
    }

    /// Lets go of what the caller had open: a lock on its folder would outlive it.
    fn close_all_but<'a>(&self, kept: impl Iterator<Item = &'a OwnedFd>) {
        let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let open: Vec<RawFd> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let kept: Vec<RawFd> =
            kept.map(AsRawFd::as_raw_fd).chain([0, 1, 2, self.program.descriptor()]).collect();
        for fd in open.into_iter().filter(|fd| !kept.contains(fd)) {
            // SAFETY: this process is the monitor, which uses none of these; that one of them is the closed listing
            // itself is an error and does no harm.
            unsafe { libc::close(fd) };
        }
    }

    /// Until the caller is gone, which it is not yet when it only asks for nothing more; within its own process, until nobody
    /// can ask and all helpers have ended.
    fn serve(&self, orders: &OwnedFd, caller: Option<&OwnedFd>) {
        let mut running: Vec<Running> = Vec::new();
        let mut is_open = true;
        let (mut is_gone, mut rests) = (false, false);
        // A process of its own has these for itself.
        let own = caller.filter(|_| interruptible().is_ok());
        let impatience = || own.map(|_| Impatience::begin());
        while !is_gone && (caller.is_some() || is_open || !running.is_empty()) {
            // Within another process, its pages are not this thread's to let go of.
            let patience = if rests || caller.is_none() { PollTimeout::NONE } else { QUIET.into() };
            let Some(seen) = look((is_open.then_some(orders), caller), &running, patience) else {
                drop_code_pages();
                rests = true;
                continue;
            };
            rests = false;
            let _impatient = impatience();
            let Seen { order, gone, ended, given_up } = seen;
            for place in given_up {
                // It may have ended meanwhile.
                let _ = running[place].child.kill();
                running[place].ends_with_caller = false;
            }
            for place in ended.into_iter().rev() {
                let mut helper = running.swap_remove(place);
                tell(&helper.status, &helper.child.wait());
            }
            is_gone = gone;
            if is_gone {
                is_open = false;
            } else if order {
                match Order::receive(orders) {
                    Ok(Some(order)) => {
                        let already = running.iter().filter(|other| other.place == order.helper).count();
                        running.extend(self.start(order, already));
                    }
                    // Whoever sends nonsense is not served, and their descriptors are closed.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                    Ok(None) | Err(_) => is_open = false,
                }
            }
            if !is_open {
                // Whoever could still ask hears that nobody listens.
                let _ = shutdown(orders.as_raw_fd(), Shutdown::Both);
                for helper in running.iter_mut().filter(|helper| helper.ends_with_caller) {
                    let _ = helper.child.kill();
                }
            }
        }
        let _impatient = impatience();
        drop(running);
    }

    /// Starts what is asked for; none, and told, where that cannot be.
    fn start(&self, order: Order, already: usize) -> Option<Running> {
        let Order { helper: place, argument, stdin, stdout, stderr, status } = order;
        let status = UnixStream::from(status);
        let started = (|| {
            let helper = self.helpers.get(usize::from(place)).ok_or(Errno::ENOENT)?;
            if already >= helper.most {
                return Err(io::Error::from(Errno::EAGAIN));
            }
            let mut command = self.program.start_as(helper.argv0);
            command.args(&helper.arguments).arg(argument);
            let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
            match pidfd(Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?)) {
                Ok(pidfd) => Ok((child, pidfd, helper.ends_with_caller)),
                Err(error) => {
                    let _ = child.kill().and_then(|()| child.wait());
                    Err(error)
                }
            }
        })();
        match started {
            Ok((child, pidfd, ends_with_caller)) => {
                Some(Running { child, pidfd, status, ends_with_caller, place })
            }
            Err(error) => {
                tell(&status, &Err(error));
                None
            }
        }
    }
}

/// While it lives no system call waits for long. The last close of a socket whose other side takes nothing waits for as
/// long as whoever made it wished (`SO_LINGER`, socket(7)), until a signal comes; and descriptors come with orders.
struct Impatience;

impl Impatience {
    /// Once this process is [`interruptible`].
    fn begin() -> Self {
        every(20_000);
        Self
    }
}

impl Drop for Impatience {
    fn drop(&mut self) {
        every(0);
    }
}

/// From now on SIGALRM interrupts system calls, and does nothing else.
fn interruptible() -> nix::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    SigSet::from(Signal::SIGALRM).thread_unblock()
}

/// Has SIGALRM come again and again; never, for zero microseconds.
#[allow(
    clippy::useless_conversion,
    reason = "how wide the field is differs between processors and C libraries"
)]
fn every(microseconds: i32) {
    let time = libc::timeval { tv_sec: 0, tv_usec: microseconds.into() };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the timer is read, and nothing is written.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

/// What there is to do.
struct Seen {
    /// Whether there is an order, or an end of them.
    order: bool,
    /// Whether the caller is.
    gone: bool,
    /// Which helpers have ended.
    ended: Vec<usize>,
    /// Of which nobody wants to hear any more.
    given_up: Vec<usize>,
}

/// Waits for something to do; none where there was nothing for so long.
fn look(
    (orders, caller): (Option<&OwnedFd>, Option<&OwnedFd>),
    running: &[Running],
    patience: PollTimeout,
) -> Option<Seen> {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2 + running.len() * 2);
    let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
    fds.extend(orders.map(|orders| readable(orders.as_fd())));
    fds.extend(caller.map(|caller| readable(caller.as_fd())));
    let first = fds.len();
    fds.extend(running.iter().map(|helper| readable(helper.pidfd.as_fd())));
    let tied: Vec<usize> = (0..running.len()).filter(|n| running[*n].ends_with_caller).collect();
    // The caller sends nothing: there is only its going, which is told unasked.
    let going = |n: &usize| PollFd::new(running[*n].status.as_fd(), PollFlags::empty());
    fds.extend(tied.iter().map(going));
    // An interruption is a look at nothing.
    if poll(&mut fds, patience) == Ok(0) {
        return None;
    }
    let is = |place: usize| fds[place].any().unwrap_or(false);
    let after = first + running.len();
    Some(Seen {
        order: orders.is_some() && is(0),
        gone: caller.is_some() && is(first - 1),
        ended: (0..running.len()).filter(|n| is(first + n)).collect(),
        given_up: tied.iter().enumerate().filter(|(place, _)| is(after + place)).map(|(_, n)| *n).collect(),
    })
}

fn tell(status: &UnixStream, ended: &io::Result<ExitStatus>) {
    // Nobody may be there to hear it, and a monitor waits for nobody. Said with the message itself: whether the socket waits
    // is for whoever else has it to change at any time.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(status.as_raw_fd(), &wire::status(ended), flags);
}
