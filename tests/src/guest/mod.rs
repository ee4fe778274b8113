//! Devices that are whole machines: an image with the real agent, booted in QEMU through firmware and boot loader.

mod disk;
mod image;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sosna_image::Error;
use sosna_image::personal::{self, Personal};
use sosna_image::run::{self, Machine, Network, Options};
use xtask::paths::Tree;

pub use self::disk::Disk;
use crate::program::{LOOK, Program};
use crate::world::World;

/// How a guest reaches this machine's loopback (QEMU's user network).
pub const HOST: &str = "10.0.2.2";

/// What the console shows where QEMU 7.2 has failed at the return from an interrupt with which Linux synchronises a
/// processor that has changed its own code: before the first program, whatever the image.
const EMULATORS_FAULT: &str = "RIP: 0010:do_sync_core";
/// How long an emulator may take until it can be told something.
const SOCKET: Duration = Duration::from_secs(30);
/// Beyond this it is no accident.
const MOST_BOOTS: usize = 8;

/// A device and its disk.
#[derive(Debug)]
pub struct Guest {
    /// The disk.
    pub disk: Disk,
    /// What it is plugged into, from the next start on.
    pub setting: Setting,
    test: String,
    folder: PathBuf,
    running: Option<Running>,
    boots: usize,
}

/// What a machine finds when it is turned on.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// At the other end of its cable.
    pub network: Network,
    /// What its battery's clock says, as `2056-01-01`; the right time by default.
    pub date: Option<&'static str>,
    /// A port of this machine that leads to its status page.
    pub page: Option<u16>,
}

#[derive(Debug)]
struct Running {
    program: Program,
    control: PathBuf,
    begun: Instant,
    _machine: Machine,
}

// === impl Guest ===

impl Guest {
    /// A device in the world's folder, fresh from its image, on a card of 8 GiB; `None` where the test `test` cannot run
    /// here, which is said.
    ///
    /// # Panics
    /// When it cannot be made although all parts are there.
    #[must_use]
    pub fn make(test: &str, world: &World, board: &str, name: &str, personal: &Personal) -> Option<Self> {
        Self::make_on(test, world, board, name, personal, 8 << 30)
    }

    /// The same on a card of so many bytes.
    ///
    /// # Panics
    /// When it cannot be made although all parts are there.
    #[must_use]
    pub fn make_on(
        test: &str,
        world: &World,
        board: &str,
        name: &str,
        personal: &Personal,
        bytes: u64,
    ) -> Option<Self> {
        let image = match image::composed(board) {
            Ok(image) => image,
            Err(reason) => {
                eprintln!("SKIPPED {test}: {reason}");
                return None;
            }
        };
        let folder = world.dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let disk = folder.join("disk.img");
        // As an owner does: the image onto a card that is larger, then what makes it this device's.
        run::copy_sparse(&image, &disk).unwrap();
        personal::personalise(&disk, personal, false).unwrap();
        fs::File::options().write(true).open(&disk).unwrap().set_len(bytes).unwrap();
        Some(Self {
            disk: Disk::new(disk),
            setting: Setting::default(),
            test: test.to_owned(),
            folder,
            running: None,
            boots: 0,
        })
    }

    /// Turns it on; false where there is no emulator for it here, which is said.
    ///
    /// # Panics
    /// When it runs.
    pub fn start(&mut self) -> bool {
        assert!(self.running.is_none(), "it runs");
        self.boots += 1;
        let log = self.log();
        let control = self.folder.join("control");
        let _ = fs::remove_file(&control);
        let options = Options {
            snapshot: false,
            memory: 768,
            serial: format!("file:{}", log.display()),
            control: Some(control.clone()),
            network: self.setting.network,
            forward: self.setting.page.iter().map(|port| format!("{port}:80")).collect(),
            ..Options::default()
        };
        let mut machine = match run::prepare(self.disk.path(), &options, &tools(), &|_| {}) {
            Ok(machine) => machine,
            Err(error @ Error::Package { .. }) => {
                eprintln!("SKIPPED {}: {error:?}", self.test);
                return false;
            }
            Err(error) => panic!("{error:?}"),
        };
        if let Some(date) = self.setting.date {
            machine.command.args(["-rtc", &format!("base={date}")]);
        }
        let program = Program::start(&mut machine.command, &self.folder.join("qemu.log"));
        self.running = Some(Running { program, control, begun: Instant::now(), _machine: machine });
        true
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("serial-{}.log", self.boots))
    }

    /// What its console has said since it was last turned on.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Waits until its console says something, and how long that took since it was turned on.
    ///
    /// # Panics
    /// When it never says it.
    #[track_caller]
    pub fn until_says(&mut self, world: &World, what: &str) -> Duration {
        self.until_says_after(world, 0, what)
    }

    /// The same for what it says after the first `said` bytes.
    ///
    /// # Panics
    /// When it never says it.
    #[track_caller]
    pub fn until_says_after(&mut self, world: &World, said: usize, what: &str) -> Duration {
        world.until(&format!("the console says {what:?}"), || {
            let console = self.console();
            if console.get(said..).is_some_and(|new| new.contains(what)) {
                return true;
            }
            if console.contains(EMULATORS_FAULT) && self.boots < MOST_BOOTS {
                eprintln!("the emulator has failed before the first program; once more");
                self.cut_power();
                assert!(self.start(), "it started before");
                return false;
            }
            assert!(self.is_on(), "the machine has ended");
            false
        });
        self.running.as_ref().map(|running| running.begun.elapsed()).unwrap_or_default()
    }

    /// Pulls its network cable, or puts it back.
    ///
    /// # Panics
    /// When it does not run.
    pub fn plug_cable(&self, is_in: bool) {
        let running = self.running.as_ref().unwrap();
        let _ = command(&running.control, "set_link", json!({"name": "net", "up": is_in}));
    }

    /// Bytes and operations that it has written to its disk since it was turned on.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        let running = self.running.as_ref().unwrap();
        let all = command(&running.control, "query-blockstats", Value::Null);
        let sum = |what: &str| {
            all.as_array()
                .unwrap()
                .iter()
                .filter(|one| !one["device"].as_str().unwrap_or("").starts_with("pflash"))
                .map(|one| one["stats"][what].as_u64().unwrap())
                .sum()
        };
        (sum("wr_bytes"), sum("wr_operations"))
    }

    /// Presses the power button, and waits for an orderly end.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn press_power(&mut self, patience: Duration) {
        let mut running = self.running.take().unwrap();
        let _ = command(&running.control, "system_powerdown", Value::Null);
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
        if thread::panicking() {
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
fn command(socket: &Path, name: &str, arguments: Value) -> Value {
    // A machine that was turned on just now makes it in a moment.
    let end = Instant::now() + SOCKET;
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < end, "no emulator at {}: {error}", socket.display()),
        }
        thread::sleep(LOOK);
    };
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    // It greets first, and wants to be asked for its abilities before anything else.
    let _greeting = lines.next().unwrap().unwrap();
    let mut asked = json!({"execute": name});
    if !arguments.is_null() {
        asked["arguments"] = arguments;
    }
    let mut answer = Value::Null;
    for one in [json!({"execute": "qmp_capabilities"}), asked] {
        writeln!(stream, "{one}").unwrap();
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
