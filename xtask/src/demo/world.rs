//! What runs in a demo: a hub, its owners' keys, its devices, each a process or a machine. Nothing of it outlives the
//! demo: processes are ended by their own numbers.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::DemoError;
use super::machine::Machine;

/// How long a process may take until it answers, or ends.
const PATIENCE: Duration = Duration::from_secs(30);
/// User ids that each device may give to containers; ranges of devices on one machine must be apart.
const USER_IDS: u32 = 64 * 65_536;

/// The hub's times, short enough for a demo. Everything else is as shipped.
pub(crate) const HUB: &str = "
[ports]
http = 0
main = 0
bootstrap = 0
content = 0

[times]
beat_ms = 1000
lease_ms = 15000
voucher_ms = 1000

[probation]
delay_ms = 500
";

/// A device to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceSpec {
    /// What the demo calls it.
    pub(crate) name: &'static str,
    /// Whose it is.
    pub(crate) owner: &'static str,
    /// The program.
    pub(crate) program: &'static str,
}

/// What a device is made of.
#[derive(Debug)]
pub(crate) enum Body {
    /// An agent on this machine.
    Process {
        /// Its folder.
        data: PathBuf,
        /// It.
        child: Child,
    },
    /// A machine of its own, whose system the agent is part of.
    Machine(Machine),
}

/// A device that runs.
#[derive(Debug)]
pub(crate) struct RunningDevice {
    /// What it was started as.
    pub(crate) spec: DeviceSpec,
    /// What it is.
    pub(crate) body: Body,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct World {
    programs: PathBuf,
    folder: PathBuf,
    hub: Option<Child>,
    /// Whose jobs it is about: a name at the hub, and the file with the token.
    buyer: (String, PathBuf),
    /// What is set for devices that are processes, beside what a demo always sets.
    device_settings: Vec<(String, String)>,
    /// Where the pages are.
    pub(crate) web: String,
    /// The devices.
    pub(crate) devices: Vec<RunningDevice>,
}

impl World {
    /// Starts a hub in the new folder `folder`, with the programs in `programs` and the configuration `settings`.
    ///
    /// # Errors
    /// [`DemoError`]: what a process said is in a file below the folder.
    pub(crate) fn start(programs: &Path, folder: &Path, settings: &str) -> Result<Self, DemoError> {
        let io = |what| move |source| DemoError::Io { what, source };
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DemoError::Io { what: "empty the demo's folder", source: error });
            }
            _ => fs::create_dir_all(folder).map_err(io("make the demo's folder"))?,
        }
        let mut world = Self {
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            hub: None,
            buyer: ("admin".to_owned(), folder.join("hub/admin.token")),
            device_settings: Vec::new(),
            web: String::new(),
            devices: Vec::new(),
        };
        world.serve(settings)?;
        Ok(world)
    }

    /// Starts the hub with this configuration.
    fn serve(&mut self, settings: &str) -> Result<(), DemoError> {
        let io = |what| move |source| DemoError::Io { what, source };
        let folder = &self.folder;
        fs::write(folder.join("hub.toml"), settings).map_err(io("write the hub's configuration"))?;
        let mut hub = spawn(self.hub_command("serve"), &folder.join("hub.log"))?;
        let running = folder.join("hub/running.json");
        let begun = Instant::now();
        self.web = loop {
            // The address is for devices; here the hub listens on loopback, whatever it is called elsewhere.
            if let Some(value) = read_json::<serde_json::Value>(&running)
                && let Some((_, port)) = value.get("http").and_then(|url| url.as_str()?.rsplit_once(':'))
            {
                break format!("http://127.0.0.1:{port}");
            }
            if begun.elapsed() > PATIENCE || hub.try_wait().map_err(io("look after the hub"))?.is_some() {
                // It may be running and only slow.
                let _ = hub.kill();
                let _ = hub.wait();
                return Err(DemoError::Silent { what: "the hub", log: folder.join("hub.log") });
            }
            thread::sleep(Duration::from_millis(50));
        };
        self.hub = Some(hub);
        Ok(())
    }

    fn hub_command(&self, what: &str) -> Command {
        let mut command = Command::new(self.programs.join("sosna-hub"));
        command.args(what.split(' '));
        command.arg("--data").arg(self.folder.join("hub")).arg("--config").arg(self.folder.join("hub.toml"));
        command
    }

    /// Ends the hub in order and starts it again with this configuration.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn restart_hub(&mut self, settings: &str) -> Result<(), DemoError> {
        if let Some(mut hub) = self.hub.take() {
            ask_to_end(&hub);
            if !wait_for(&mut hub, Instant::now() + PATIENCE) {
                return Err(DemoError::Silent { what: "the hub", log: self.folder.join("hub.log") });
            }
        }
        // What it said before it was ended would be taken for what it says now.
        let _ = fs::remove_file(self.folder.join("hub/running.json"));
        self.serve(settings)
    }

    /// The address of the hub's key, as `sosna-hub serve` prints it.
    ///
    /// # Errors
    /// [`DemoError::Silent`] when it did not.
    pub(crate) fn hub_key(&self) -> Result<String, DemoError> {
        let log = self.folder.join("hub.log");
        let begun = Instant::now();
        // It is printed after the file is written that the start was waited for.
        while begun.elapsed() < PATIENCE {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(key) = said.lines().find_map(|line| line.strip_prefix("hub ")) {
                return Ok(key.trim().to_owned());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(DemoError::Silent { what: "the hub", log })
    }

    /// Adds a buyer, whose jobs it is about from now on.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn buyer(&mut self, name: &str) -> Result<(), DemoError> {
        let command = self.hub_command(&format!("user add {name} --role buyer"));
        let token = last_word(&output(command, "sosna-hub user add")?);
        let path = self.folder.join(format!("{name}.token"));
        fs::write(&path, token).map_err(|source| DemoError::Io { what: "write a token", source })?;
        self.buyer = (name.to_owned(), path);
        Ok(())
    }

    /// Has the hub's admin grant the buyer so much credit.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn credit(&self, amount: &str) -> Result<(), DemoError> {
        self.sosna(&["ledger", "credit", &self.buyer.0, amount]).map(drop)
    }

    /// Sets something of the configuration of devices that are started from now on: `CHAIN_ID`.
    pub(crate) fn set_devices(&mut self, key: &str, value: &str) {
        self.device_settings.push((format!("SOSNA_AGENT_{key}"), value.to_owned()));
    }

    /// Runs the command line as its users would, with the admin's token; its output as text.
    ///
    /// # Errors
    /// [`DemoError::Command`] with what it said.
    pub(crate) fn sosna(&self, arguments: &[&str]) -> Result<String, DemoError> {
        self.sosna_as(&self.folder.join("hub/admin.token"), arguments)
    }

    /// The same with the buyer's token.
    ///
    /// # Errors
    /// [`DemoError::Command`].
    pub(crate) fn sosna_as_buyer(&self, arguments: &[&str]) -> Result<String, DemoError> {
        self.sosna_as(&self.buyer.1, arguments)
    }

    fn sosna_as(&self, token: &Path, arguments: &[&str]) -> Result<String, DemoError> {
        let mut command = Command::new(self.programs.join("sosna"));
        command
            .args(arguments)
            .env("SOSNA_HUB", &self.web)
            .env("HOME", &self.folder)
            .arg("--token-file")
            .arg(token);
        output(command, &format!("sosna {}", arguments.join(" ")))
    }

    /// The same, read as JSON.
    ///
    /// # Errors
    /// [`DemoError::Command`], [`DemoError::Json`].
    pub(crate) fn sosna_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, DemoError> {
        let text = self.sosna(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).map_err(|source| DemoError::Json { what: arguments.join(" "), source })
    }

    /// The same with the buyer's token.
    ///
    /// # Errors
    /// [`DemoError::Command`], [`DemoError::Json`].
    pub(crate) fn sosna_json_as_buyer<T: DeserializeOwned>(
        &self,
        arguments: &[&str],
    ) -> Result<T, DemoError> {
        let text = self.sosna_as_buyer(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).map_err(|source| DemoError::Json { what: arguments.join(" "), source })
    }

    /// Makes an owner's key, has the operator admit the owner, and prints a join token for `uses` devices.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn owner(&self, name: &str, uses: usize) -> Result<String, DemoError> {
        let key = self.folder.join(format!("{name}.key")).display().to_string();
        let address = last_word(&self.sosna(&["owner", "key", "--key", &key])?);
        let token = self.sosna(&["owner", "delegate", "--key", &key, "--uses", &uses.to_string()])?;
        self.sosna(&["owner", "admit", &address])?;
        Ok(last_word(&token))
    }

    /// Starts a device that is a process.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn device(&mut self, spec: DeviceSpec, join: &str) -> Result<(), DemoError> {
        let data = self.folder.join(spec.name);
        let place = u32::try_from(self.devices.len()).unwrap_or_default();
        let mut command = Command::new(self.programs.join(spec.program));
        command
            .args(["run", "--join", join, "--data"])
            .arg(&data)
            .env("SOSNA_AGENT_NAME", spec.name)
            .env("SOSNA_AGENT_LIMITS_CPU_MILLIS", "2000")
            .env("SOSNA_AGENT_LIMITS_MEMORY", "1GiB")
            .env("SOSNA_AGENT_LIMITS_DISK", "1GiB")
            .env("SOSNA_AGENT_CONTAINERS_STATE", self.folder.join(format!("{}.state", spec.name)))
            .env("SOSNA_AGENT_CONTAINERS_UID_BASE", (USER_IDS * (place + 1)).to_string())
            .env("SOSNA_AGENT_CONTAINERS_UID_COUNT", USER_IDS.to_string())
            .envs(self.device_settings.iter().map(|(key, value)| (key, value)));
        let child = spawn(command, &self.folder.join(format!("{}.log", spec.name)))?;
        self.devices.push(RunningDevice { spec, body: Body::Process { data, child } });
        Ok(())
    }

    /// Takes a device that is a machine.
    pub(crate) fn machine(&mut self, spec: DeviceSpec, machine: Machine) {
        self.devices.push(RunningDevice { spec, body: Body::Machine(machine) });
    }

    /// Its machines.
    pub(crate) fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.devices.iter().filter_map(|device| match &device.body {
            Body::Machine(machine) => Some(machine),
            Body::Process { .. } => None,
        })
    }

    /// The same, to be looked after.
    pub(crate) fn machines_mut(&mut self) -> impl Iterator<Item = &mut Machine> {
        self.devices.iter_mut().filter_map(|device| match &mut device.body {
            Body::Machine(machine) => Some(machine),
            Body::Process { .. } => None,
        })
    }

    /// The own words of a device that is a process.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(crate) fn status<T: DeserializeOwned>(&self, data: &Path) -> Result<T, DemoError> {
        let text = self.agent(data, &["status", "--json"])?;
        serde_json::from_str(&text)
            .map_err(|source| DemoError::Json { what: "a device's status".into(), source })
    }

    /// Runs a command of the agent on the folder of a device that is a process; its output as text.
    ///
    /// # Errors
    /// [`DemoError::Command`].
    pub(crate) fn agent(&self, data: &Path, arguments: &[&str]) -> Result<String, DemoError> {
        let mut command = Command::new(self.programs.join("sosna-agent"));
        command.args(arguments).arg("--data").arg(data);
        output(command, &format!("sosna-agent {}", arguments.join(" ")))
    }

    /// Asks everything to end, and waits for it: devices, then the hub. Who did not end in order, and had to be ended.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for device in &mut self.devices {
            match &mut device.body {
                Body::Process { child, .. } => ask_to_end(child),
                Body::Machine(machine) => {
                    if let Err(error) = machine.press_power() {
                        faults.push(format!("{}'s power button does nothing: {error}", device.spec.name));
                    }
                }
            }
        }
        let until = Instant::now() + PATIENCE;
        for mut device in self.devices.drain(..) {
            let ended = match &mut device.body {
                Body::Process { child, .. } => wait_for(child, until),
                Body::Machine(machine) => machine.wait_for_end(),
            };
            if !ended {
                faults.push(format!("{} did not end in order when it was asked to", device.spec.name));
            }
        }
        if let Some(mut hub) = self.hub.take() {
            ask_to_end(&hub);
            if !wait_for(&mut hub, Instant::now() + PATIENCE) {
                faults.push("the hub did not end in order when it was asked to".to_owned());
            }
        }
        faults
    }
}

/// What the demo has left behind on this machine after its end: mounts of its folder, control groups of its
/// containers, processes of its programs.
pub(crate) fn leftovers(folder: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let name = folder.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    left.extend(mounts.lines().filter(|line| line.contains(&name)).map(|line| format!("the mount {line}")));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let is_ours = process.file_name().to_str().is_some_and(|id| id != std::process::id().to_string());
        if is_ours && arguments.contains(&name) {
            left.push(format!("the process {}: {}", process.file_name().display(), arguments.trim()));
        }
    }
    left
}

impl Drop for World {
    fn drop(&mut self) {
        // Something went wrong, or all has ended. Machines that hang take their time to turn off: their plugs are pulled.
        self.devices.retain(|device| matches!(device.body, Body::Process { .. }));
        let _ = self.stop();
    }
}

/// Waits for a process's end and ends it by force when that does not come; true when it came and was a good one.
pub(super) fn wait_for(child: &mut Child, until: Instant) -> bool {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
            _ => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn ask_to_end(child: &Child) {
    // The standard library knows only SIGKILL. A process that has ended by itself is no error.
    let _ = Command::new("kill").arg(child.id().to_string()).stderr(Stdio::null()).status();
}

pub(super) fn spawn(mut command: Command, log: &Path) -> Result<Child, DemoError> {
    let io = |what| move |source| DemoError::Io { what, source };
    let file = File::create(log).map_err(io("write a log"))?;
    let copy = file.try_clone().map_err(io("write a log"))?;
    command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .map_err(io("start a program that was just built"))
}

pub(super) fn output(mut command: Command, name: &str) -> Result<String, DemoError> {
    let Output { status, stdout, stderr } = command
        .output()
        .map_err(|source| DemoError::Io { what: "start a program that was just built", source })?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&stderr).trim().to_owned();
        Err(DemoError::Command { command: name.to_owned(), said })
    }
}

fn last_word(text: &str) -> String {
    text.split_whitespace().last().unwrap_or_default().to_owned()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
