//! The loop of PID 1: reaps, restarts the agent, feeds the watchdog, and ends the machine in order.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    ENROLLED,
    button::Button,
    child::Child,
    entropy,
    prepare::{HAD_IDENTITY, Prepared},
    signals::Signals,
    watchdog::Watchdog,
};
use crate::{
    clock, console,
    disk::{boot, data},
    file, mounts,
    net::Pulse,
    power::End,
    status::Shared,
    sysfs,
};

pub(super) const SIGNALS: [Signal; 5] =
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2];
/// What has no signal of its own is looked after so often.
const TICK: Duration = Duration::from_secs(5);
/// How long the agent may take to end; its containers go on without it until the next step.
const AGENT_ENDS: Duration = Duration::from_secs(20);
/// How long everybody else may take.
const ALL_END: Duration = Duration::from_secs(5);
/// A disk that was found to be faulty is checked by a restart, but not in a circle.
const UP_BEFORE_CHECK: Duration = Duration::from_secs(1800);
/// Beyond this the network's thread is taken for dead.
const PULSE: Duration = Duration::from_secs(120);
const IN_PLACE: [&str; 5] = ["/", "/proc", "/sys", "/dev", "/run"];

pub(super) struct Supervisor {
    signals: Signals,
    child: Child,
    pulse: Pulse,
    shared: Shared,
    watchdog: Watchdog,
    buttons: Vec<Button>,
    disk: Option<String>,
    has_data: bool,
    started: Instant,
    clock_saved: Instant,
    was_well: bool,
    token_kept: bool,
    identity: PathBuf,
    identity_noted: bool,
    is_ending: bool,
}

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        signals: Signals,
        child: Child,
        pulse: Pulse,
        shared: Shared,
        prepared: &Prepared,
        identity: PathBuf,
    ) -> Self {
        let watchdog = Watchdog::arm();
        shared.facts().watchdog = watchdog.is_there();
        Self {
            signals,
            child,
            pulse,
            shared,
            watchdog,
            buttons: Button::all(),
            disk: prepared.disk.clone(),
            has_data: prepared.has_data,
            started: Instant::now(),
            clock_saved: Instant::now(),
            was_well: true,
            token_kept: true,
            identity,
            identity_noted: Path::new(HAD_IDENTITY).exists(),
            is_ending: false,
        }
    }

    /// Supervises until somebody wants the machine to end, and does all that comes before.
    pub(super) fn run(mut self) -> End {
        if !self.has_data {
            self.shared.facts().agent = "held".into();
        }
        let end = loop {
            self.start_agent();
            self.wait();
            if let Some(end) = self.wanted_end() {
                break end;
            }
            self.reap();
            self.tick();
        };
        self.shut_down(end);
        end
    }

    fn start_agent(&mut self) {
        if !self.has_data {
            return;
        }
        match self.child.start_if_due() {
            None => {}
            Some(Ok(pid)) => {
                console::say(&format!("agent started as process {pid}"));
                self.shared.facts().agent = "running".into();
            }
            Some(Err(error)) => {
                console::say(&format!("the agent cannot be started: {error}"));
                self.shared.facts().agent = format!("cannot be started: {error}");
            }
        }
    }

    /// Waits for a signal, a button, or the time of the next thing to do.
    fn wait(&self) {
        let due = self.child.due_in().filter(|_| self.has_data).unwrap_or(Duration::MAX);
        let longest = due.min(self.watchdog.every()).min(TICK).as_millis();
        let timeout = PollTimeout::from(u16::try_from(longest).unwrap_or(u16::MAX).max(10));
        let mut all: Vec<_> =
            self.buttons.iter().map(|b| PollFd::new(b.as_fd(), PollFlags::POLLIN)).collect();
        all.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        // Interrupted by the signal that is in the pipe then.
        let _ = poll(&mut all, timeout);
    }

    fn wanted_end(&mut self) -> Option<End> {
        let pressed = self.buttons.iter_mut().any(Button::was_pressed);
        let signals = self.signals.take();
        let by_signal = signals.iter().find_map(|signal| match signal {
            Signal::SIGTERM | Signal::SIGINT => Some(End::Restart),
            Signal::SIGUSR1 | Signal::SIGUSR2 => Some(End::Off),
            _ => None,
        });
        if pressed { Some(End::Off) } else { by_signal }
    }

    /// Takes leave of every process that has ended: the agent, and orphans of all kinds.
    fn reap(&mut self) {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(status) => {
                    if let Some((how, pause)) = self.child.ended(status)
                        && !self.is_ending
                    {
                        let text = format!("ended {how}; it starts again in {} s", pause.as_secs());
                        console::say(&format!("the agent {text}"));
                        let mut facts = self.shared.facts();
                        (facts.agent, facts.health) = (text, None);
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn tick(&mut self) {
        let is_well = self.pulse.age() < PULSE;
        if self.was_well && !is_well && self.watchdog.is_there() {
            console::say("the network's thread hangs: the watchdog is not fed any more");
        }
        self.was_well = is_well;
        self.watchdog.feed(is_well);
        // Its driver may come with hardware that is found late. A machine that is not well is not to be armed.
        if is_well && self.watchdog.arm_if_new() {
            self.shared.facts().watchdog = true;
        }
        let was_set = clock::was_set();
        if was_set {
            console::say("the clock was wrong; the hub has told the time");
        }
        if self.has_data && (was_set || self.clock_saved.elapsed() >= clock::SAVED_EVERY) {
            self.clock_saved = Instant::now();
            if let Err(error) = clock::save() {
                self.shared.remark(format!("the time was not saved: {error}"));
            }
        }
        if self.has_data && self.started.elapsed() >= UP_BEFORE_CHECK && data::has_failed() {
            console::say("the data area has an error: restarting to check it");
            let _ = kill(Pid::this(), Signal::SIGTERM);
        }
        if self.has_data {
            // Shown with the next line on the console.
            self.shared.facts().full = data::fullness().unwrap_or_default();
        }
        self.note_identity();
        self.remove_token();
    }

    /// From now on a data area without it is one that has lost it.
    fn note_identity(&mut self) {
        if self.has_data && !self.identity_noted && self.identity.exists() {
            self.identity_noted = file::write_durably(Path::new(HAD_IDENTITY), b"", 0o600).is_ok();
        }
    }

    /// The join token is of no use any more once the agent is enrolled, and must not lie on a card.
    fn remove_token(&mut self) {
        if !self.token_kept || !Path::new(ENROLLED).exists() {
            return;
        }
        self.shared.facts().times.enrolled = sysfs::told(ENROLLED).and_then(|text| text.parse().ok());
        let Some(disk) = &self.disk else { return };
        // This loop feeds the watchdog, and does not wait for anybody.
        if boot::is_busy() {
            return;
        }
        self.token_kept = false;
        match boot::remove(disk, "join") {
            Ok(()) => console::say("enrolled: the join token is removed from the boot partition"),
            Err(error) => self
                .shared
                .remark(format!("the join token is still on the boot partition: {}", console::chain(&error))),
        }
    }

    /// Everybody ends, everything is written, nothing stays mounted.
    fn shut_down(&mut self, end: End) {
        let what = if end == End::Off { "turning off" } else { "restarting" };
        console::say(&format!("{what}: stopping the agent"));
        self.shared.facts().agent = what.into();
        self.is_ending = true;
        self.pulse.end();
        self.note_identity();
        self.child.stop();
        self.wait_until(AGENT_ENDS, |this| !this.child.is_running());
        // Everybody but this process.
        let all = Pid::from_raw(-1);
        let _ = kill(all, Signal::SIGTERM);
        self.wait_until(ALL_END, |_| is_alone());
        let _ = kill(all, Signal::SIGKILL);
        self.wait_until(ALL_END, |_| is_alone());
        if self.has_data {
            let saved = clock::save().and_then(|()| entropy::save());
            if let Err(error) = saved {
                console::say(&format!("time and seed were not saved: {error}"));
            }
        }
        unmount_all();
        console::say(&format!("{what}: everything is written and unmounted"));
    }

    fn wait_until(&mut self, longest: Duration, is_done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + longest;
        loop {
            self.reap();
            self.watchdog.feed(true);
            if is_done(self) || Instant::now() >= end {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether no other process of user space is left: all are PID 1's children in the end.
fn is_alone() -> bool {
    waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) == Err(Errno::ECHILD)
}

/// From the last mount to the first. What is busy becomes read-only, which is as good on the disk.
fn unmount_all() {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for point in mounts::points(&table).rev().filter(|point| !IN_PLACE.contains(point)) {
        if umount2(point, MntFlags::UMOUNT_NOFOLLOW).is_err() && point.starts_with(data::MOUNT) {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            if let Err(error) = mount(None::<&str>, point, None::<&str>, flags, None::<&str>) {
                console::say(&format!("{point} stays mounted: {error}"));
            }
        }
    }
}
