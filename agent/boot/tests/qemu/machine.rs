//! An emulated machine: started on a disk, listened to on its serial line, ended with the test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{disk::Disk, kit::Kit};

/// Software emulation on a busy machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(240);
/// On a machine that is busy the kernel finds that its timer does not tick, and gives up.
pub(crate) const UNHURRIED: &str = "no_timer_check";
/// One machine at a time: each takes a processor for itself.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Machine {
    child: Child,
    lines: Receiver<String>,
    heard: String,
    monitor: PathBuf,
    started: Instant,
    name: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// Starts the machine with more words for the kernel and more arguments for the emulator.
    pub(crate) fn start(kit: &Kit, disk: &Disk, name: &'static str, words: &str, arguments: &[&str]) -> Self {
        let drive = format!("file={},format=raw,if=none,id=d", disk.image().display());
        let mut command = kit.qemu();
        command
            .args(["-M", "q35", "-drive", &drive, "-device", "virtio-blk-pci,drive=d"])
            .arg("-kernel")
            .arg(&kit.vmlinuz)
            .arg("-initrd")
            .arg(disk.initramfs())
            .args(["-append", &format!("{} {UNHURRIED} {words}", disk.command_line)])
            .args(arguments);
        Self::begin(command, disk.folder(), name)
    }

    /// Starts an emulator that knows disk, kernel and devices already; it gets a processor, memory and a serial line.
    pub(crate) fn begin(mut command: Command, folder: &Path, name: &'static str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let monitor = folder.join(format!("{name}.monitor"));
        command
            .args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "256"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .args(["-monitor", &format!("unix:{},server=on,wait=off", monitor.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the emulator starts");
        let output = child.stdout.take().expect("a pipe was asked for");
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, heard: String::new(), monitor, started: Instant::now(), name, _turn: turn }
    }

    /// Waits for a line that contains `wanted` and returns it.
    pub(crate) fn expect(&mut self, wanted: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.hear(&line);
                    if line.contains(wanted) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{}: {wanted:?} did not come; heard:\n{}", self.name, self.heard)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{}: ended before {wanted:?}; heard:\n{}", self.name, self.heard)
                }
            }
        }
    }

    /// The same where its place among other lines is not known: it may have been heard already.
    pub(crate) fn expect_at_any_time(&mut self, wanted: &str) -> String {
        match self.heard.lines().find(|line| line.contains(wanted)) {
            Some(line) => line.to_owned(),
            None => self.expect(wanted),
        }
    }

    /// Waits until the machine has ended by itself and returns all that it said.
    pub(crate) fn end(self) -> String {
        self.end_within(PATIENCE)
    }

    /// The same with a patience of its own.
    pub(crate) fn end_within(mut self, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.hear(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{}: did not end; heard:\n{}", self.name, self.heard)
                }
            }
        }
        assert!(self.child.wait().expect("it was started").success(), "{}: {}", self.name, self.heard);
        eprintln!("{}: {:.1} s", self.name, self.started.elapsed().as_secs_f64());
        std::mem::take(&mut self.heard)
    }

    /// Takes the power away after a while.
    pub(crate) fn cut(self, after: Duration) {
        thread::sleep(after);
        drop(self);
    }

    /// Says something to the emulator: `system_powerdown` presses the power button.
    pub(crate) fn tell(&self, command: &str) {
        let mut monitor = UnixStream::connect(&self.monitor).expect("the monitor listens");
        monitor.write_all(format!("{command}\n").as_bytes()).expect("the monitor reads");
        // The command is carried out before the connection may end.
        monitor.set_read_timeout(Some(Duration::from_millis(500))).expect("a time that is not zero");
        let mut answer = [0; 4096];
        while monitor.read(&mut answer).is_ok_and(|length| length > 0) {}
    }

    fn hear(&mut self, line: &str) {
        if std::env::var_os("SOSNA_TEST_CONSOLE").is_some() {
            eprintln!("{} {:6.1} | {line}", self.name, self.started.elapsed().as_secs_f64());
        }
        self.heard.push_str(line);
        self.heard.push('\n');
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
