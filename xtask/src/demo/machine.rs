//! A device that is a machine: an image with the real agent, booted in QEMU by `sosna-image run` through firmware and
//! boot loader. It is watched as its owner would watch it, by console, page and power button; nothing reaches inside.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::DemoError;
use super::world::{spawn, wait_for};

/// MiB of each machine.
pub(super) const MEMORY: u32 = 768;
/// How long a machine that is asked to turn off may take.
const FAREWELL: Duration = Duration::from_secs(120);
/// How long an answer of page or emulator may take.
const ANSWER: Duration = Duration::from_secs(20);
/// The page of a device is a few kilobytes.
const LONGEST_PAGE: u64 = 64 << 10;
/// What a device says last.
const ORDERLY: &str = "everything is written and unmounted";

/// What a console shows of a start, in this order.
const PHASES: [(&str, &str); 4] = [
    // OVMF's boot manager has found the disk.
    ("firmware", "BdsDxe: starting"),
    // Boot loader and kernel are silent; this is the system's first word, from the verified slot.
    ("kernel and system", "sosna: "),
    ("network", "/24 on "),
    ("enrolled", "sosna: enrolled"),
];

/// A machine to start.
#[derive(Debug, Clone, Copy)]
pub(super) struct MachineSpec<'a> {
    /// The device's name.
    pub(super) name: &'a str,
    /// Its disk.
    pub(super) disk: &'a Path,
    /// Where its console, its emulator's words and its power button go.
    pub(super) folder: &'a Path,
    /// Where emulator and firmware are kept.
    pub(super) tools: &'a Path,
    /// Run on this machine's own processor.
    pub(super) kvm: bool,
}

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The device's name.
    pub(super) name: String,
    /// Its page, by a port of this machine.
    pub(super) page: u16,
    /// What was seen of its start, each with the time since it was turned on.
    pub(super) seen: Vec<(&'static str, Duration)>,
    /// Its serial console.
    pub(super) console: PathBuf,
    control: PathBuf,
    begun: Instant,
    child: Child,
}

/// What a device's page says.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PageView {
    pub(super) kernel: String,
    pub(super) data: String,
    #[serde(default)]
    pub(super) held: bool,
    pub(super) health: Option<HealthView>,
}

/// What its agent says there.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct HealthView {
    pub(super) device: Option<String>,
    pub(super) hub: Option<String>,
    pub(super) walls: Vec<String>,
    pub(super) missing_limits: Vec<String>,
}

impl Machine {
    /// Turns it on, with the programs in `programs`.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn start(programs: &Path, spec: MachineSpec<'_>) -> Result<Self, DemoError> {
        let io = |what| move |source| DemoError::Io { what, source };
        let console = spec.folder.join(format!("{}.console", spec.name));
        let control = spec.folder.join(format!("{}.power", spec.name));
        // The emulator is told a port, and cannot say which it took; a port that was free a moment ago is free.
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let page = port.map_err(io("find a free port"))?.port();
        let mut command = Command::new(programs.join("sosna-image"));
        command
            .arg("--cache")
            .arg(spec.tools)
            .args(["run", "--memory", &MEMORY.to_string(), "--forward", &format!("{page}:80"), "--serial"])
            .arg(&console)
            .arg("--control")
            .arg(&control)
            .args(spec.kvm.then_some("--kvm"))
            .arg(spec.disk)
            // Its own copy of the firmware's variables must not outlive a machine that is ended by force.
            .env("TMPDIR", spec.folder);
        let child = spawn(command, &spec.folder.join(format!("{}.log", spec.name)))?;
        let (name, begun) = (spec.name.to_owned(), Instant::now());
        Ok(Self { name, page, seen: Vec::new(), console, control, begun, child })
    }

    /// All that its console has shown.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Looks at the console; what is new of its start.
    pub(super) fn look(&mut self) -> &[(&'static str, Duration)] {
        let (said, before) = (self.said(), self.seen.len());
        for (name, mark) in PHASES.iter().skip(before) {
            if !said.contains(mark) {
                break;
            }
            self.seen.push((name, self.begun.elapsed()));
        }
        self.seen.get(before..).unwrap_or_default()
    }

    /// Where its console and the emulator's words are.
    pub(super) fn folder(&self) -> &Path {
        self.console.parent().unwrap_or(&self.console)
    }

    /// How long it has been on.
    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it runs.
    pub(super) fn is_on(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its own page.
    ///
    /// # Errors
    /// What the connection says, or [`io::ErrorKind::InvalidData`].
    pub(super) fn page(&self) -> io::Result<PageView> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.page))?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /status.json HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(LONGEST_PAGE).read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        serde_json::from_str(body.unwrap_or_default()).map_err(io::Error::from)
    }

    /// Presses its power button.
    ///
    /// # Errors
    /// The emulator does not answer, or does not take it.
    pub(super) fn press_power(&self) -> io::Result<()> {
        self.command("system_powerdown")
    }

    /// Waits until a machine whose button was pressed is off, and ends it by force when that does not come; true when
    /// it ended in order, and said so.
    pub(super) fn wait_for_end(&mut self) -> bool {
        let children = children(self.child.id());
        let is_good = wait_for(&mut self.child, Instant::now() + FAREWELL);
        if !is_good {
            end(&children);
        }
        is_good && self.said().contains(ORDERLY)
    }

    /// Pulls the plug.
    fn cut_power(&mut self) {
        if !self.is_on() {
            return;
        }
        let children = children(self.child.id());
        if self.command("quit").is_err() || !wait_for(&mut self.child, Instant::now() + ANSWER) {
            end(&children);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// One command of QEMU's machine protocol.
    fn command(&self, name: &str) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.control)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let silent = || io::Error::from(io::ErrorKind::UnexpectedEof);
        // It greets first, and wants to be asked for its abilities before anything else.
        let _greeting = lines.next().ok_or_else(silent)??;
        for one in ["qmp_capabilities", name] {
            writeln!(stream, "{{\"execute\":\"{one}\"}}")?;
            // Events come in between.
            loop {
                let line: serde_json::Value = serde_json::from_str(&lines.next().ok_or_else(silent)??)?;
                if line.get("return").is_some() {
                    break;
                }
                if let Some(error) = line.get("error") {
                    return Err(io::Error::other(format!("the emulator refuses {one}: {error}")));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
    }
}

/// The emulator below `sosna-image`.
fn children(process: u32) -> Vec<i32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn end(processes: &[i32]) {
    use nix::sys::signal::{Signal, kill};
    for process in processes {
        // It may have gone meanwhile.
        let _ = kill(nix::unistd::Pid::from_raw(*process), Signal::SIGKILL);
    }
}
