//! The demo with machines: three devices boot the device's own system in QEMU, through firmware and boot loader, enrol
//! at a hub on this machine, and render the picture. It must be the one that this machine renders itself, bit for bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sosna_apt::qemu::Qemu;

use super::machine::{MEMORY, Machine, MachineSpec};
use super::run::{CREDIT, Rendering, SHORT, online, results, submit, wait};
use super::view::DeviceList;
use super::world::{self, DeviceSpec, World, output};
use super::{Demo, DemoError};
use crate::dist::{self, Architecture};
use crate::live::Mark;
use crate::{picture, tables};

/// Without drivers of real machines: QEMU has none of these, and each module costs an emulated processor time.
const BOARD: &str = "x86_64-uefi-cloud";
/// What emulates it.
const EMULATOR: (&str, &str) = ("qemu-system-x86", "qemu-system-x86_64");
/// Of each disk; most of it are holes. Files and folders that a device can lend grow with it.
const DISK: &str = "8G";

/// Replicas go to different owners.
const DEVICES: [DeviceSpec; 3] = [
    DeviceSpec { name: "spruce", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "birch", owner: "boris", program: "sosna-agent" },
    DeviceSpec { name: "rowan", owner: "clara", program: "sosna-agent" },
];
/// Who renders the picture once more, on this machine.
const HERE: DeviceSpec = DeviceSpec { name: "here", owner: "anna", program: "sosna-agent" };

/// Smaller than the demo with processes, and in fewer tiles: an emulated processor has a small part of a real one's
/// speed, and most of a tile's time is POV-Ray's reading of the scene.
const RENDERING: Rendering = Rendering {
    name: "pines in the morning",
    tiles: 3,
    size: (320, 180),
    verify: "replicate:2",
    timeout: "20m",
    patience: Duration::from_secs(30 * 60),
};
/// The same, to compare with.
const REFERENCE: Rendering = Rendering {
    name: "the same, on this machine",
    verify: "none",
    timeout: "5m",
    patience: Duration::from_secs(300),
    ..RENDERING
};

/// How long emulated machines may take from power on to their session with the hub.
const BOOT: Duration = Duration::from_secs(600);
/// How often the hub is asked meanwhile.
const ASKED: Duration = Duration::from_secs(2);
/// How many lines of a console are shown when something goes wrong.
const SHOWN: usize = 12;

/// The hub as machines see it from QEMU's network, and times for emulated processors. All else is as shipped.
const HUB: &str = r#"
public_address = "10.0.2.2"

[ports]
http = 0
main = 0
bootstrap = 0
content = 0

[times]
beat_ms = 2000
lease_ms = 60000
offer_ms = 60000
voucher_ms = 1000

[probation]
delay_ms = 500
"#;

/// `sosna-image build --json`.
#[derive(Debug, Deserialize)]
struct Composed {
    kernel: String,
    modules: usize,
    slot_bytes: u64,
    boot_image_bytes: u64,
}

/// `sosna-image inspect --json`.
#[derive(Debug, Deserialize)]
struct Inspected {
    /// What its join token says.
    join: Option<serde_json::Value>,
}

impl Demo<'_> {
    /// Runs the demo with machines, prints what came of it, and says whether all of it is as it should be.
    ///
    /// # Errors
    /// [`DemoError`] when it could not be run to its end.
    pub fn run_machines(&self, keep: bool, kvm: bool) -> Result<bool, DemoError> {
        let begun = Instant::now();
        self.build()?;
        let image = self.compose()?;
        let folder = self.tree.demo().join("vm");
        let reference = self.tree.demo().join("pines-here.png");
        self.reference(&folder, &image.dir, &reference)?;

        let mut world = self.hub(&folder, HUB)?;
        let outcome = self.with_machines(&mut world, &folder, &image.dir, &reference, kvm);
        if outcome.as_ref().map_or(true, |faults| !faults.is_empty()) {
            self.last_words(&world, &folder);
        }
        let mut faults = outcome?;
        self.live().say(&format!("time      {:.0} s with all of the above", begun.elapsed().as_secs_f32()));
        for fault in &faults {
            self.live().say(&format!("WRONG     {fault}"));
        }
        if keep {
            self.keep(&world, &folder);
        }
        let is_clean = self.step("power", |line| {
            line.now("the buttons are pressed: each machine ends its work, writes all, and turns off");
            let is_clean = self.end(&mut world, &folder);
            let said = if is_clean { "every machine has turned itself off" } else { "not in order" };
            Ok((is_clean, said.to_owned()))
        })?;
        faults.extend(self.disks(&folder)?);
        let all_is_well = faults.is_empty() && is_clean;
        if all_is_well {
            self.live().say(
                "All of it is as it should be: three machines from one image, every tile agreed on and as rendered here, \
                 every voucher verifies, nothing left running.",
            );
        }
        Ok(all_is_well)
    }

    /// The same job on this machine, by an agent that is a process.
    fn reference(&self, folder: &Path, image: &Path, picture: &Path) -> Result<(), DemoError> {
        let meter = self.live().meter("reference", REFERENCE.tiles as u64);
        let mut world = World::start(&self.programs(), folder, world::HUB)?;
        let join = world.owner(HERE.owner, 1)?;
        world.device(HERE, &join)?;
        wait(SHORT, folder, "the device did not enrol", || Ok((online(&world)? == 1).then_some(())))?;
        world.credit(CREDIT)?;
        let job = submit(&world, folder, image, REFERENCE, meter)?;
        let tiles = results(&world, folder, &job, REFERENCE)?;
        picture::join(&tiles, REFERENCE.size, picture).map_err(DemoError::Join)?;
        let _ = world.stop();
        Ok(())
    }

    /// From disks to the tables; what is not as it should be.
    fn with_machines(
        &self,
        world: &mut World,
        folder: &Path,
        image: &Path,
        reference: &Path,
        kvm: bool,
    ) -> Result<Vec<String>, DemoError> {
        let disks = self.cards(world, folder)?;
        let tools = self.tree.tools();
        self.step("emulator", |line| {
            line.now("looking for QEMU");
            let qemu = Qemu::obtain(&tools, EMULATOR.0, EMULATOR.1).map_err(DemoError::Emulator)?;
            let version = qemu.version().map_or_else(String::new, |version| format!(" {version}"));
            let how = if kvm { "on this machine's own processor" } else { "emulates a processor" };
            let doubt = qemu.doubt.map(|doubt| format!("; {doubt}")).unwrap_or_default();
            Ok(((), format!("QEMU{version} {how}, {MEMORY} MiB for each machine{doubt}")))
        })?;
        let begun = Instant::now();
        for (spec, disk) in DEVICES.into_iter().zip(&disks) {
            let machine = MachineSpec { name: spec.name, disk, folder, tools: &tools, kvm };
            let machine = Machine::start(&self.programs(), machine)?;
            world.machine(spec, machine);
        }
        self.boot(world, folder)?;
        let booted = begun.elapsed();

        let begun = Instant::now();
        let picture = self.tree.demo().join("pines-vm.png");
        world.credit(CREDIT)?;
        let (job, mut judgement) = self.job(world, folder, image, RENDERING, &picture, None)?;
        let rendered = begun.elapsed();
        let live = self.live();
        self.tables(&judgement);
        let (width, height) = RENDERING.size;
        let missing = match judgement.missing_limits.as_slice() {
            [] => "no limit is missing".to_owned(),
            missing => format!("missing: {}", missing.join("; ")),
        };
        live.say(&format!("inside    {}; {missing}, by the machines' own word", judgement.walls.join(", ")));
        live.say(&format!(
            "picture   {}, {width} x {height} in {} tiles: less than without --vm, for emulated processors",
            picture.display(),
            RENDERING.tiles
        ));
        if is_same(&picture, reference)? {
            live.say(&format!("same      bit for bit as this machine renders it: {}", reference.display()));
        } else {
            judgement.faults.push(format!(
                "the picture {} is not {}, which this machine renders",
                picture.display(),
                reference.display()
            ));
        }
        live.say(&format!("price     {} SNM, all of it owed to devices", job.price.spent));
        live.say(&format!(
            "machines  {:.0} s from power on to the last enrolment, {:.0} s for the picture",
            booted.as_secs_f32(),
            rendered.as_secs_f32()
        ));
        Ok(judgement.faults)
    }

    /// One image, and a disk of it for each device with its owner's token and its name.
    fn cards(&self, world: &World, folder: &Path) -> Result<Vec<PathBuf>, DemoError> {
        let io = |what| move |source| DemoError::Io { what, source };
        let programs = self.step("programs", |line| {
            line.now("the agent and the first program, static");
            let programs = dist::programs(self.tree, Architecture::X86_64, |text| line.now(text))
                .map_err(DemoError::Programs)?;
            let bytes = fs::metadata(&programs.agent).map_err(io("look at the agent"))?.len();
            let said = format!("{} has {}", programs.agent.display(), tables::megabytes(bytes));
            Ok((programs, said))
        })?;
        let image = folder.join("sosna.img");
        self.step("system", |line| {
            line.now("kernel, slot, boot image, disk");
            let mut command = self.composer("image");
            command.args(["build", "--json", "--board", BOARD, "--size", DISK, "--agent"]);
            command.arg(&programs.agent).arg("--init").arg(&programs.init).arg("-o").arg(&image);
            let Composed { kernel, modules, slot_bytes, boot_image_bytes } =
                json(command, "sosna-image build")?;
            let said = format!(
                "{BOARD}: Linux {kernel}, {modules} modules, slot {}, boot image {}",
                tables::megabytes(slot_bytes),
                tables::megabytes(boot_image_bytes)
            );
            Ok(((), said))
        })?;
        self.step("disks", |line| {
            let mut disks = Vec::new();
            for spec in DEVICES {
                line.now(&format!("{}, {}'s", spec.name, spec.owner));
                let disk = folder.join(format!("{}.img", spec.name));
                let mut copy = Command::new("cp");
                copy.args(["--sparse=always", "--reflink=auto"]).arg(&image).arg(&disk);
                output(copy, "cp")?;
                let join = world.owner(spec.owner, 1)?;
                let mut command = self.composer("image");
                command.arg("personalise").arg(&disk).args(["--hostname", spec.name, "--join", &join]);
                output(command, "sosna-image personalise")?;
                disks.push(disk);
            }
            Ok((disks, "three of one image, each with its owner's join token and its name".to_owned()))
        })
    }

    /// Waits until every machine has enrolled and stands in a session, and shows how far each is.
    fn boot(&self, world: &mut World, folder: &Path) -> Result<(), DemoError> {
        let live = self.live();
        let mut lines: Vec<_> = world.machines().map(|machine| Some(live.line(&machine.name))).collect();
        let mut asked = Instant::now();
        let begun = Instant::now();
        loop {
            let connected = if asked.elapsed() < ASKED {
                Vec::new()
            } else {
                asked = Instant::now();
                world.sosna_json::<DeviceList>(&["devices"])?.devices()
            };
            for (machine, line) in world.machines_mut().zip(&mut lines) {
                let Some(shown) = line else { continue };
                for (phase, after) in machine.look() {
                    shown.step(&format!("{phase} after {:.0} s", after.as_secs_f32()));
                }
                if !machine.is_on() {
                    line.take().into_iter().for_each(|line| line.end(Mark::Bad, "has ended by itself"));
                    let (name, console) = (machine.name.clone(), machine.console.clone());
                    return Err(DemoError::Ended { name, console });
                }
                if connected.iter().any(|device| device.online && device.hostname == machine.name) {
                    let seen: Vec<_> = machine
                        .seen
                        .iter()
                        .map(|(phase, after)| format!("{phase} {:.0} s", after.as_secs_f32()))
                        .collect();
                    let said = format!("{}, connected {:.0} s", seen.join(", "), machine.age().as_secs_f32());
                    line.take().into_iter().for_each(|line| line.end(Mark::Good, &said));
                }
            }
            if lines.iter().all(Option::is_none) {
                return Ok(());
            }
            if begun.elapsed() > BOOT {
                for line in lines.into_iter().flatten() {
                    line.end(Mark::Bad, "did not connect; --kvm does not work on every machine that has it");
                }
                return Err(DemoError::Late {
                    what: "the machines did not all enrol".to_owned(),
                    seconds: BOOT.as_secs(),
                    folder: folder.to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// The ends of all consoles, for whoever looks for the reason.
    fn last_words(&self, world: &World, folder: &Path) {
        for machine in world.machines() {
            let said = machine.said();
            let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
            self.live().say(&format!("--- the end of {}", machine.console.display()));
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                self.live().say(line);
            }
        }
        self.live().say(&format!("--- logs of hub and emulators are in {}", folder.display()));
    }

    /// After the end: no disk holds a token any more, and none is kept.
    fn disks(&self, folder: &Path) -> Result<Vec<String>, DemoError> {
        let mut faults = Vec::new();
        for spec in DEVICES {
            let disk = folder.join(format!("{}.img", spec.name));
            let mut command = self.composer("image");
            command.args(["inspect", "--json"]).arg(&disk);
            let Inspected { join } = json(command, "sosna-image inspect")?;
            if join.is_some() {
                faults.push(format!("the join token is still on {}", disk.display()));
            }
        }
        for fault in &faults {
            self.live().say(&format!("WRONG     {fault}"));
        }
        if faults.is_empty() {
            for name in DEVICES.iter().map(|spec| spec.name).chain(["sosna"]) {
                let path = folder.join(format!("{name}.img"));
                fs::remove_file(path).map_err(|source| DemoError::Io { what: "remove a disk", source })?;
            }
        }
        Ok(faults)
    }

    /// `sosna-image` with packages kept below `target/tools`, where the tests have theirs.
    fn composer(&self, cache: &str) -> Command {
        let mut command = Command::new(self.programs().join("sosna-image"));
        command.arg("--cache").arg(self.tree.tools().join(cache));
        command
    }
}

fn json<T: serde::de::DeserializeOwned>(command: Command, name: &str) -> Result<T, DemoError> {
    let text = output(command, name)?;
    serde_json::from_str(&text).map_err(|source| DemoError::Json { what: name.to_owned(), source })
}

fn is_same(one: &Path, other: &Path) -> Result<bool, DemoError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| DemoError::Io { what: "read a picture that was just joined", source })
    };
    Ok(read(one)? == read(other)?)
}
