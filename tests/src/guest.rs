//! Devices that are whole machines: an image with the real agent, booted in QEMU through firmware and boot loader.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use sosna_image::Error;
use sosna_image::board::Board;
use sosna_image::compose::{self, Report, Request};
use sosna_image::package::Cache;
use sosna_image::personal::Personal;
use sosna_image::run::{self, Machine, Options};
use xtask::dist::Architecture;
use xtask::paths::Tree;

use crate::program::Program;
use crate::world::World;

/// How a guest reaches this machine's loopback (QEMU's user network).
pub const HOST: &str = "10.0.2.2";

/// What the console shows where QEMU 7.2 has failed at the return from an interrupt with which Linux synchronises a
/// processor that has changed its own code: before the first program, whatever the image.
const EMULATORS_FAULT: &str = "RIP: 0010:do_sync_core";
/// Beyond this it is no accident.
const MOST_BOOTS: usize = 8;

/// A device's image and its disk.
#[derive(Debug)]
pub struct Guest {
    /// The disk.
    pub disk: PathBuf,
    /// What it was composed to be.
    pub report: Report,
    folder: PathBuf,
    running: Option<Running>,
    boots: usize,
}

#[derive(Debug)]
struct Running {
    program: Program,
    control: PathBuf,
    begun: Instant,
    _machine: Machine,
}

/// The programs of a device for a board, as `cargo xtask dist` left them.
fn programs(board: &Board) -> Result<[Vec<u8>; 2], String> {
    let tree = Tree::find().map_err(|error| error.to_string())?;
    let debian = board.description.architecture.as_str();
    let architecture = Architecture::ALL
        .into_iter()
        .find(|one| one.debian() == debian)
        .ok_or_else(|| format!("there are no programs for {debian}"))?;
    let folder = tree.target().join("dist").join(architecture.name());
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|_| {
            format!(
                "{} is not built; run `cargo xtask dist --target {}`",
                path.display(),
                architecture.name()
            )
        })
    };
    Ok([read("sosna-agent")?, read("sosna-init")?])
}

// === impl Guest ===

impl Guest {
    /// Composes an image for one device in the world's folder; `None` where the test `test` cannot run here, which is
    /// said.
    ///
    /// # Panics
    /// When it cannot be composed although all parts are there.
    #[must_use]
    pub fn compose(test: &str, world: &World, board: &str, name: &str, personal: &Personal) -> Option<Self> {
        let skipped = |reason: &dyn std::fmt::Display| {
            eprintln!("SKIPPED {test}: {reason}");
            None
        };
        let cache = Cache::new(&tools().join("image"), None);
        let board = match Board::find(board).unwrap().obtainable(&cache) {
            Ok((board, changes)) => {
                if !changes.is_empty() {
                    let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                    eprintln!("PINS GONE: {}: tested with {}", board.name, changes.join(", "));
                }
                board
            }
            Err(error @ (Error::Package { .. } | Error::Hash { .. })) => {
                return skipped(&format!("{error:?}"));
            }
            Err(error) => panic!("{error:?}"),
        };
        let [agent, init] = match programs(&board) {
            Ok(programs) => programs,
            Err(reason) => return skipped(&reason),
        };
        let folder = world.dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let disk = folder.join("disk.img");
        let request = Request {
            board: &board,
            version: env!("CARGO_PKG_VERSION"),
            agent: &agent,
            init: &init,
            epoch: 1_700_000_000,
        };
        // A power of two: cards are. Most of it is a hole.
        match compose::image(&request, personal, Some(8 << 30), &cache, &disk, &|_| {}) {
            Ok(report) => Some(Self { disk, report, folder, running: None, boots: 0 }),
            Err(error @ (Error::Package { .. } | Error::Hash { .. })) => skipped(&format!("{error:?}")),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Turns it on; false where there is no emulator for it here, which is said.
    ///
    /// # Panics
    /// When it runs.
    pub fn start(&mut self, test: &str) -> bool {
        assert!(self.running.is_none(), "it runs");
        self.boots += 1;
        let log = self.folder.join(format!("serial-{}.log", self.boots));
        let control = self.folder.join("control");
        let _ = fs::remove_file(&control);
        let options = Options {
            snapshot: false,
            memory: 768,
            serial: format!("file:{}", log.display()),
            control: Some(control.clone()),
            ..Options::default()
        };
        let mut machine = match run::prepare(&self.disk, &options, &tools(), &|_| {}) {
            Ok(machine) => machine,
            Err(error @ Error::Package { .. }) => {
                eprintln!("SKIPPED {test}: {error:?}");
                return false;
            }
            Err(error) => panic!("{error:?}"),
        };
        let program = Program::start(&mut machine.command, &self.folder.join("qemu.log"));
        self.running = Some(Running { program, control, begun: Instant::now(), _machine: machine });
        true
    }

    /// What its console has said since it was last turned on.
    #[must_use]
    pub fn console(&self) -> String {
        let path = self.folder.join(format!("serial-{}.log", self.boots));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Waits until its console says something, and how long that took since it was turned on.
    ///
    /// # Panics
    /// When it never says it.
    #[track_caller]
    pub fn until_says(&mut self, world: &World, what: &str) -> Duration {
        world.until(&format!("the console says {what:?}"), || {
            let console = self.console();
            if console.contains(what) {
                return true;
            }
            if console.contains(EMULATORS_FAULT) && self.boots < MOST_BOOTS {
                eprintln!("the emulator has failed before the first program; once more");
                self.cut_power();
                assert!(self.start(""), "it started before");
                return false;
            }
            assert!(self.is_on(), "the machine has ended");
            false
        });
        self.running.as_ref().map(|running| running.begun.elapsed()).unwrap_or_default()
    }

    /// Presses the power button, and waits for an orderly end.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn press_power(&mut self, patience: Duration) {
        let mut running = self.running.take().unwrap();
        command(&running.control, "system_powerdown");
        let status = running.program.wait(patience);
        assert!(status.success(), "the emulator ended with {status}");
    }

    /// Pulls the plug.
    ///
    /// # Panics
    /// When it does not run.
    pub fn cut_power(&mut self) {
        self.running.take().unwrap().program.kill();
    }

    /// Whether the machine is on.
    pub fn is_on(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.program.ended().is_none())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- console of {}, boot {}\n{}", self.folder.display(), self.boots, self.console());
        }
    }
}

/// Packages and programs are kept between runs, as those of the other tests.
fn tools() -> PathBuf {
    Tree::find().unwrap().tools()
}

/// One command of QEMU's machine protocol; its answer.
///
/// # Panics
/// When QEMU does not take it.
pub fn command(socket: &Path, name: &str) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    // It greets first, and wants to be asked for its abilities before anything else.
    let _greeting = lines.next().unwrap().unwrap();
    let mut answer = Value::Null;
    for one in ["qmp_capabilities", name] {
        writeln!(stream, "{{\"execute\":\"{one}\"}}").unwrap();
        // Events come in between.
        answer = lines
            .by_ref()
            .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
            .find(|line| line.get("return").is_some() || line.get("error").is_some())
            .unwrap();
        assert!(answer.get("return").is_some(), "{one}: {answer}");
    }
    answer["return"].take()
}
