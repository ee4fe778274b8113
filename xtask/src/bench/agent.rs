//! The agent as a device gets it: the static file's size, and its memory while it waits and while a task runs,
//! connected to a real hub over mutual TLS.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{BenchError, Measured};
use crate::demo::world::{self, DeviceSpec, World};
use crate::dist;
use crate::live::Line;
use crate::oci::layer::{Layer, Owner};
use crate::oci::layout::{Layout, Run};
use crate::paths::Tree;
use crate::tools::programs::unpack;

/// After so long a device that has nothing to do has freed what it needed for enrolment.
const SETTLED: Duration = Duration::from_secs(15);
/// The agent, and the monitor that it leaves behind to start helpers.
const IDLE: usize = 2;
/// How long enrolment or a task's start may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(tree: &Tree, line: &Line) -> Result<Vec<Measured>, Box<dyn Error>> {
    line.step("compiling the agent for distribution");
    let agent = dist::native_agent(tree, |text| line.now(text))?;
    let size = fs::metadata(&agent)?.len();
    let mut figures = vec![Measured::new(&format!("binary {ARCH}"), megabytes(size), "MB")];
    if !nix::unistd::geteuid().is_root() {
        return Err(BenchError::NotRoot("memory is measured as on a device, where the agent is root").into());
    }
    super::cargo(tree, line, "agent", crate::exec::cargo().args(["build", "--workspace"]))?;

    let folder = tree.target().join("bench/agent");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let group = Group::make()?;
    let programs = programs(tree, &agent, &folder, &group)?;
    let image = sleeper(tree, &folder)?;
    line.step("measuring");
    let mut world = World::start(&programs, &folder.join("world"), world::HUB)?;
    let join = world.owner("owner", 1)?;
    world.device(DeviceSpec { name: "device", owner: "owner", program: "sosna-agent" }, &join)?;
    until("the device did not enrol", || {
        Ok(world.sosna_json::<serde_json::Value>(&["devices"])?.to_string().contains("\"online\":true"))
    })?;
    thread::sleep(SETTLED);
    let idle = Memory::of(&group, IDLE)?;
    idle.figures("idle", &mut figures);
    figures.push(Measured::new("idle control group", megabytes(group.bytes()?), "MB"));

    world.sosna(&["ledger", "credit", "admin", "10"])?;
    let source = format!("oci:{}", image.display());
    let request = ["run", "--detach", "--memory", "64M", "--disk", "16M", "--timeout", "2m", &source];
    let job = world.sosna(&request)?;
    until("the task did not start", || Ok(group.processes()?.len() == IDLE + 1))?;
    thread::sleep(SETTLED);
    let busy = Memory::of(&group, IDLE + 1)?;
    busy.figures("with a task", &mut figures);
    figures.push(Measured::new("with a task control group", megabytes(group.bytes()?), "MB"));
    world.sosna(&["cancel", job.trim()])?;
    until("the task did not end", || Ok(group.processes()?.len() == IDLE))?;
    let _ = world.stop();
    Ok(figures)
}

/// A folder with the programs under test: hub and command line as the tests build them, and the agent as a device
/// gets it, started in a control group of its own.
fn programs(tree: &Tree, agent: &Path, folder: &Path, group: &Group) -> io::Result<PathBuf> {
    let programs = folder.join("programs");
    fs::create_dir_all(&programs)?;
    for name in ["sosna-hub", "sosna"] {
        symlink(tree.target().join("debug").join(name), programs.join(name))?;
    }
    let starter = programs.join("sosna-agent");
    let into = group.0.join("cgroup.procs");
    fs::write(
        &starter,
        format!("#!/bin/sh\necho $$ >'{}' && exec '{}' \"$@\"\n", into.display(), agent.display()),
    )?;
    fs::set_permissions(&starter, fs::Permissions::from_mode(0o755))?;
    Ok(programs)
}

/// An image whose only act is to wait.
fn sleeper(tree: &Tree, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let busybox = unpack(tree, "busybox-static", "bin/busybox")?.program;
    let mut layer = Layer::default();
    layer.bytes("bin/sleep", fs::read(busybox)?, 0o755);
    for name in ["dev", "proc", "sys", "tmp"] {
        layer.folder(name, 0o755, Owner(0));
    }
    let mut layout = Layout::begin(&folder.join("sleeper"))?;
    layout.add(&layer)?;
    let image = layout.finish(&Run {
        user: "0".into(),
        env: vec![],
        entrypoint: vec!["/bin/sleep".into(), "100".into()],
        working_dir: "/".into(),
    })?;
    Ok(image.dir)
}

/// Memory of the agent's processes together: the agent, its monitor and its shims, without what runs in containers.
struct Memory {
    processes: usize,
    /// Kilobytes by name, as in `/proc/PID/smaps_rollup`.
    sums: BTreeMap<String, u64>,
}

impl Memory {
    /// Reads it once so many processes run.
    fn of(group: &Group, processes: usize) -> Result<Self, Box<dyn Error>> {
        // Pages that wait to be written count as dirty although nothing of ours keeps them so.
        nix::unistd::sync();
        let mut memory = Self { processes: 0, sums: BTreeMap::new() };
        for process in group.processes()? {
            let Ok(text) = fs::read_to_string(Path::new("/proc").join(process).join("smaps_rollup")) else {
                continue;
            };
            memory.processes += 1;
            for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
                if let Some(kilobytes) =
                    value.trim().strip_suffix(" kB").and_then(|n| n.trim().parse::<u64>().ok())
                {
                    *memory.sums.entry(name.to_owned()).or_default() += kilobytes;
                }
            }
        }
        match memory.processes == processes {
            true => Ok(memory),
            false => Err(BenchError::Late(format!(
                "{} processes of the agent run, not {processes}",
                memory.processes
            ))
            .into()),
        }
    }

    fn figures(&self, state: &str, into: &mut Vec<Measured>) {
        for (name, key) in [("PSS", "Pss"), ("private dirty", "Private_Dirty")] {
            let bytes = self.sums.get(key).copied().unwrap_or_default() * 1024;
            into.push(Measured::new(&format!("{state} {name}"), megabytes(bytes), "MB"));
        }
    }
}

/// A control group for the agent and its shims.
struct Group(PathBuf);

impl Group {
    fn make() -> io::Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let path = root.join(format!("sosna-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// The agent and its shims; containers have groups of their own.
    fn processes(&self) -> io::Result<Vec<String>> {
        Ok(fs::read_to_string(self.0.join("cgroup.procs"))?.lines().map(str::to_owned).collect())
    }

    fn bytes(&self) -> Result<u64, Box<dyn Error>> {
        let text = fs::read_to_string(self.0.join("memory.current"))
            .or_else(|_| fs::read_to_string(self.0.join("memory.usage_in_bytes")))?;
        Ok(text.trim().parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be on its way out; an empty group that stays harms nobody.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool, Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > PATIENCE {
            return Err(BenchError::Late(format!("{what} within {} s", PATIENCE.as_secs())).into());
        }
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// Millions of bytes, three digits behind the point.
fn megabytes(bytes: u64) -> f64 {
    // A whole number of kilobytes below 2^32: exact in a float.
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1000.0
}
