//! The image around the agent, where it is part of one: the first program of the device starts it and tells in files
//! what the machine is and what its network costs. On any other Linux there is nothing of it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;
use sosna_boot::{
    status::Health,
    system::{self, AGENT_DATA, Config, JOIN, TOLD},
};
use sosna_host::file::{self, FileError};
use sosna_privsep::{Launcher, User, give};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

use crate::{rights::MachineClock, status};

/// The agent within its image.
const PROGRAM: &str = "/usr/bin/sosna-agent";
/// The key, whose absence would make the agent another device.
const IDENTITY: &str = "/data/agent/identity.key";

/// The owner's file with what is asked for work, what is lent, and where earnings go.
const OWNERS_CONFIG: &str = "agent.toml";

/// Is the device's first program, where the kernel started it as such; then it never returns. The agent proper is its
/// child.
pub fn run_if_requested() {
    if !system::requested() {
        return;
    }
    let environment = [
        ("SOSNA_AGENT_DATA", AGENT_DATA),
        ("SOSNA_AGENT_JOIN_FILE", JOIN),
        ("SOSNA_AGENT_SYSTEM", system::FOLDER),
    ];
    system::run(Config {
        program: PROGRAM.into(),
        arguments: vec![OsString::from("run")],
        environment: environment.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        identity: IDENTITY.into(),
        health,
    })
}

/// What the agent says of itself; of one that is not enrolled yet, and does not answer, why not.
fn health() -> Option<Health> {
    let trouble = sosna_boot::sysfs::told(Path::new(system::FOLDER).join(TOLD).join(TROUBLE));
    let Ok(report) = status::ask_running(Path::new(AGENT_DATA)) else {
        return trouble.map(|trouble| Health { trouble: Some(trouble), ..Health::default() });
    };
    let finished = ["committed", "delivering"];
    Some(Health {
        device: report.device,
        hub: report.hub,
        trouble: trouble.filter(|_| !report.connected),
        connected: report.connected,
        results: report.tasks.iter().filter(|task| finished.contains(&task.phase.as_str())).count(),
        tasks: report.tasks.len(),
        walls: report.walls,
        missing_limits: report.missing_limits,
        memory: report.memory,
    })
}

/// The network's cards and addresses, written by the first program.
const NETWORK: &str = "network.json";
/// How often that is looked at while somebody waits for it and cannot be told.
const LOOK: Duration = Duration::from_millis(200);
/// Why the agent has no line to its hub, in a line of text; for the first program, which shows it.
const TROUBLE: &str = "trouble";

/// What the image tells the agent.
#[derive(Debug, Clone, Default)]
pub struct System {
    folder: Option<PathBuf>,
}

/// What the device started from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// The board that the image is made for.
    pub board: String,
    /// The slot that runs.
    pub slot: String,
    /// The image's version.
    pub version: String,
    /// Whether the boot image is what the slot was composed with: `sound`, `unchecked`, or what differs.
    #[serde(default)]
    pub boot_image: String,
}

/// What the network was like at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network(Option<Vec<u8>>);

/// Tells when a file of a folder has become another one.
struct Changes(AsyncFd<OwnedFd>);

// === impl Changes ===

impl Changes {
    fn within(folder: &Path) -> io::Result<Self> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        watch.add_watch(folder, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE)?;
        // SAFETY: an `OwnedFd` keeps its descriptor, open, until it is dropped, and the registration goes before it.
        let registered = unsafe { AsyncFd::register_with_interest(OwnedFd::from(watch), Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Returns after the next changes, which of them is not told.
    async fn next(&self) {
        let Ok(mut ready) = self.0.readable().await else { return };
        let mut events = [0; 4096];
        while nix::unistd::read(self.0.get_ref(), &mut events).is_ok_and(|length| length > 0) {}
        ready.clear_ready();
    }
}

// === impl System ===

impl System {
    /// The files are in `folder`; an empty path stands for no image.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: Some(folder.to_path_buf()).filter(|folder| !folder.as_os_str().is_empty()) }
    }

    /// Where the agent tells the first program something, and may write: the rest of the folder is not its. None outside an
    /// image.
    #[must_use]
    pub fn told(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(TOLD))
    }

    /// Makes that folder, and gives it to the agent's user.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn make_told(&self, user: Option<User>) -> Result<(), FileError> {
        let Some(folder) = self.told() else { return Ok(()) };
        file::create_folder(&folder)?;
        let Some(user) = user else { return Ok(()) };
        give(&folder, user).map_err(FileError::of("give away", &folder))
    }

    /// The agent's configuration as the owner has put it on the boot partition; none outside an image.
    #[must_use]
    pub fn owners_config() -> Option<PathBuf> {
        let folder = std::env::var_os("SOSNA_AGENT_SYSTEM").filter(|folder| !folder.is_empty())?;
        Some(PathBuf::from(folder).join(OWNERS_CONFIG)).filter(|path| path.exists())
    }

    /// What the device started from; none outside an image.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        self.read("boot.json", |text| Ok(serde_json::from_slice(text)?))
    }

    /// Whether the way out costs money.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        #[derive(Deserialize)]
        struct Network {
            metered: bool,
        }
        self.read::<Network>(NETWORK, |text| Ok(serde_json::from_slice(text)?))
            .is_some_and(|network| network.metered)
    }

    /// The owner's own words about the device.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        #[derive(Default, Deserialize)]
        struct Device {
            #[serde(default)]
            labels: BTreeMap<String, String>,
        }
        // Without the text around what is wrong, which may hold a password.
        let parse = |text: &[u8]| {
            let parsed = toml::from_str::<Device>(&String::from_utf8_lossy(text));
            parsed.map_err(|error| io::Error::other(error.message().to_owned()))
        };
        self.read("device.toml", parse).unwrap_or_default().labels
    }

    /// Tells the first program that the enrolment is on the disk: the join token is of no use any more.
    pub fn enrolled(&self) {
        let Some(path) = self.told().map(|folder| folder.join("enrolled")) else { return };
        let now = sosna_boot::clock::since_start_ms().to_string();
        if let Err(error) = fs::write(&path, now) {
            tracing::warn!(
                "the join token stays on the boot partition: cannot write {}: {error}",
                path.display()
            );
        }
    }

    /// What moves the machine's clock; none outside an image, where somebody else sees to it.
    #[must_use]
    pub fn clock(&self, launcher: &Launcher) -> Option<MachineClock> {
        self.folder.as_ref()?;
        Some(MachineClock::new(launcher.clone()))
    }

    /// Tells the first program why there is no line to the hub, or that there is none any more.
    pub fn trouble(&self, why: Option<&str>) {
        let Some(path) = self.told().map(|folder| folder.join(TROUBLE)) else { return };
        // Nobody but people reads it, and half a line for a moment does no harm.
        let _ = match why {
            Some(why) => fs::write(path, why),
            None => fs::remove_file(path),
        };
    }

    /// What the network is like now; outside an image it never changes.
    #[must_use]
    pub fn network(&self) -> Network {
        Network(self.folder.as_ref().and_then(|folder| fs::read(folder.join(NETWORK)).ok()))
    }

    /// Waits for a pause to be over, or until the network is another one than `before`, when what failed was begun: then
    /// it is worth another try at once.
    pub async fn pause(&self, longest: Duration, before: &Network) {
        let end = Instant::now() + longest;
        let changes = self.folder.as_deref().map(Changes::within);
        while self.network() == *before && Instant::now() < end {
            match &changes {
                None => tokio::time::sleep_until(end).await,
                Some(Ok(changes)) => drop(tokio::time::timeout_at(end, changes.next()).await),
                // Too many watches on this machine.
                Some(Err(_)) => tokio::time::sleep_until(end.min(Instant::now() + LOOK)).await,
            }
        }
    }

    /// A file that is not there, or not what it should be, says nothing: none of this is worth an agent.
    fn read<T>(&self, name: &str, parse: impl Fn(&[u8]) -> io::Result<T>) -> Option<T> {
        let path = self.folder.as_ref()?.join(name);
        let read = fs::read(&path).and_then(|text| parse(&text));
        match read {
            Ok(value) => Some(value),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("{} is not understood: {error}", path.display());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A launcher that nobody is asked by.
    fn nobody() -> Launcher {
        sosna_privsep::Monitor::new(Vec::new()).unwrap().beside().unwrap()
    }

    #[test]
    fn outside_an_image_there_is_nothing() {
        let system = System::new(Path::new(""));
        assert_eq!((system.image(), system.is_metered(), system.labels().len()), (None, false, 0));
        system.enrolled();
        system.trouble(Some("nobody there"));
        assert!(system.clock(&nobody()).is_none());
    }

    #[test]
    fn the_first_programs_files_are_read_and_the_enrolment_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "boot.json",
            r#"{"board":"rpi","slot":"b","version":"1.2.3","kernel":"6.12","boot_image":"sound"}"#,
        );
        write("network.json", r#"{"default":"wwan0","metered":true,"cards":[]}"#);
        write("device.toml", "hostname = \"lab-7\"\nlabels = { room = \"cellar\" }\n");
        let system = System::new(folder.path());
        let image = system.image().unwrap();
        assert_eq!(
            (image.board.as_str(), image.slot.as_str(), image.boot_image.as_str()),
            ("rpi", "b", "sound")
        );
        assert!(system.is_metered());
        assert_eq!(system.labels()["room"], "cellar");
        system.make_told(None).unwrap();
        system.enrolled();
        assert!(folder.path().join("agent/enrolled").exists());
        system.trouble(Some("nobody there"));
        assert_eq!(fs::read_to_string(folder.path().join("agent").join(TROUBLE)).unwrap(), "nobody there");
        system.trouble(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = std::time::Instant::now();
        runtime.block_on(async {
            let before = system.network();
            system.pause(Duration::from_millis(20), &before).await;
            assert!(begun.elapsed() >= Duration::from_millis(20), "nothing has changed");
            let pause = system.pause(Duration::from_secs(60), &before);
            let change = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                write("another file", "");
                tokio::time::sleep(Duration::from_millis(50)).await;
                write("network.json", "{}");
            };
            tokio::join!(pause, change);
            // What has changed since is not waited for.
            system.pause(Duration::from_secs(60), &before).await;
        });
        assert_ne!(system.network(), System::new(Path::new("")).network());
        assert!(begun.elapsed() < Duration::from_secs(30), "a change of the network ends the pause");
        assert!(!folder.path().join("agent").join(TROUBLE).exists() && system.clock(&nobody()).is_some());
        for name in ["boot.json", "network.json", "device.toml"] {
            write(name, "{ nothing = ");
        }
        assert_eq!((system.image(), system.is_metered(), system.labels().len()), (None, false, 0));
    }
}
