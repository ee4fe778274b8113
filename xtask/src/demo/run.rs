//! The demo from beginning to end.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::judge::{Witness, judge};
use super::view::{DeviceList, DeviceView, JobView, StatusView};
use super::world::{DeviceSpec, World, leftovers};
use super::{Demo, DemoError, TILES, devices_table, tiles_table};
use crate::live::Mark;

/// Two of the owners have one device, and one has two; the liar is the only one of its owner.
const DEVICES: [DeviceSpec; 4] = [
    DeviceSpec { name: "spruce", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "larch", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "birch", owner: "boris", program: "sosna-agent" },
    DeviceSpec { name: "magpie", owner: "clara", program: "lying-agent" },
];
const LIAR: &str = "lying-agent";
/// What the buyer has: more than enough.
const CREDIT: &str = "10";
/// How long devices may take to enrol, vouchers to arrive.
const SHORT: Duration = Duration::from_secs(60);
/// How long the rendering may take.
const LONG: Duration = Duration::from_secs(480);

impl Demo<'_> {
    /// Runs the demo, prints what came of it, and says whether all of it is as it should be.
    ///
    /// # Errors
    /// [`DemoError`] when it could not be run to its end.
    pub fn run(&self, keep: bool) -> Result<bool, DemoError> {
        self.build()?;
        let image = self.compose()?;
        let begun = Instant::now();
        let folder = self.tree.demo().join("world");
        let mut world = self.step("hub", |_| {
            let world = World::start(&self.tree.target().join("debug"), &folder)?;
            let said = format!("serves at {}", world.web);
            Ok((world, said))
        })?;
        let fleet = self.step("devices", |line| {
            for owner in ["anna", "boris", "clara"] {
                let of_owner: Vec<_> = DEVICES.iter().filter(|spec| spec.owner == owner).collect();
                let join = world.owner(owner, of_owner.len())?;
                for spec in of_owner {
                    line.now(&format!("{} joins as {owner}'s", spec.name));
                    world.device(*spec, &join)?;
                }
            }
            let fleet = wait(SHORT, &folder, "the devices did not all enrol", || {
                let devices = world.sosna_json::<DeviceList>(&["devices"])?.devices();
                let online = devices.iter().filter(|device| device.online).count();
                Ok((online == DEVICES.len()).then_some(devices))
            })?;
            let said =
                format!("{} devices of 3 owners enrolled; one of them lies about its pixels", fleet.len());
            Ok((fleet, said))
        })?;
        world.sosna(&["ledger", "credit", "admin", CREDIT])?;
        let job = self.render(&world, &image.dir)?;
        let tiles = self.fetch(&world, &job)?;
        let picture = self.tree.demo().join("pines.png");
        self.join(&tiles, &picture)?;
        let witnesses = self.step("vouchers", |line| {
            line.now("every device shall hold what it is owed");
            let witnesses = witnesses(&world, &folder, &fleet)?;
            Ok((witnesses, "shown by the devices, checked by their signatures".to_owned()))
        })?;

        let judgement = judge(&job, &witnesses, TILES);
        let live = self.live();
        live.say("");
        live.say(&devices_table(&judgement.devices));
        live.say("");
        live.say(&tiles_table(&judgement.tiles));
        live.say("");
        live.say(&format!("picture   {}", picture.display()));
        live.say(&format!("price     {} SNM, all of it owed to devices", job.price.spent));
        live.say(&format!("time      {:.1} s from the hub's start", begun.elapsed().as_secs_f32()));
        // All devices are on this machine: what one lacks, all lack.
        for limit in witnesses.first().map(|one| one.own.missing_limits.as_slice()).unwrap_or_default() {
            live.say(&format!("not here  {limit}"));
        }
        for fault in &judgement.faults {
            live.say(&format!("WRONG     {fault}"));
        }
        if keep {
            live.say("");
            live.say(&format!("pages     {}", world.web));
            live.say(&format!("token     {}", folder.join("hub/admin.token").display()));
            live.say("Everything keeps running until you press Enter.");
            // A closed input means the same as Enter.
            let _ = std::io::stdin().read(&mut [0]);
        }
        world.stop();
        let left = leftovers(&folder);
        for one in &left {
            live.say(&format!("LEFT      {one}"));
        }
        let all_is_well = judgement.faults.is_empty() && left.is_empty();
        if all_is_well {
            live.say("All of it is as it should be: every tile agreed on, every voucher verifies, the liar unpaid.");
        }
        Ok(all_is_well)
    }

    /// Submits the rendering and follows it to its end.
    fn render(&self, world: &World, image: &Path) -> Result<JobView, DemoError> {
        let mut meter = self.live().meter("tiles", TILES as u64);
        let source = format!("oci:{}", image.display());
        let count = TILES.to_string();
        let submitted = world.sosna(&[
            "run",
            "--detach",
            "--name",
            "pines in the morning",
            "--tasks",
            &count,
            "--verify",
            "replicate:2",
            "--cpu",
            "1",
            "--memory",
            "256M",
            "--disk",
            "64M",
            "--timeout",
            "5m",
            "--output",
            "/work/out/tile.bmp",
            &source,
        ])?;
        let id = submitted.split_whitespace().last().unwrap_or_default().to_owned();
        let mut seen = [false; TILES];
        let done = wait(LONG, &self.tree.demo().join("world"), "the picture was not finished", || {
            let job: JobView = world.sosna_json(&["job", &id])?;
            for task in job.tasks.iter().filter(|task| task.state == "succeeded") {
                if let Some(seen) = seen.get_mut(task.index).filter(|seen| !**seen) {
                    *seen = true;
                    let lied = task.assignments.iter().any(|one| one.verdict.as_deref() == Some("wrong"));
                    let how = if lied { "verified, a liar caught" } else { "verified" };
                    meter.one_more(&format!("tile {} {how}", task.index));
                }
            }
            let is_final = matches!(job.state.as_str(), "succeeded" | "failed" | "cancelled");
            Ok(is_final.then_some(job))
        });
        match done {
            Ok(job) => {
                let mark = if job.state == "succeeded" { Mark::Good } else { Mark::Bad };
                meter.end(mark, &format!("job {} {}", job.id, job.state));
                Ok(job)
            }
            Err(error) => {
                meter.end(Mark::Bad, &error.to_string());
                Err(error)
            }
        }
    }

    fn fetch(&self, world: &World, job: &JobView) -> Result<Vec<PathBuf>, DemoError> {
        let results = self.tree.demo().join("world/results");
        self.step("results", |_| {
            world.sosna(&["results", &job.id, "-o", &results.display().to_string()])?;
            let tiles =
                (0..TILES).map(|tile| results.join(tile.to_string()).join("work/out/tile.bmp")).collect();
            Ok((tiles, results.display().to_string()))
        })
    }
}

/// Every device with what the hub and it itself say, once both say the same (or time is up: the judge will tell).
fn witnesses(world: &World, folder: &Path, fleet: &[DeviceView]) -> Result<Vec<Witness>, DemoError> {
    let settled = wait(SHORT, folder, "the vouchers did not arrive", || {
        let devices = world.sosna_json::<DeviceList>(&["devices"])?.devices();
        let all_held = devices.iter().all(|one| one.earned == one.vouchered && one.earned == one.held);
        Ok((all_held && devices.len() == fleet.len()).then_some(devices))
    })?;
    let mut witnesses = Vec::new();
    for device in &world.devices {
        let own: StatusView = world.status(device)?;
        let found = settled.iter().find(|one| Some(one.address.as_str()) == own.device.as_deref());
        let Some(hub) = found.cloned() else {
            return Err(DemoError::Command {
                command: format!("sosna-agent status of {}", device.spec.name),
                said: "the hub does not know the device that it names".to_owned(),
            });
        };
        witnesses.push(Witness {
            name: device.spec.name,
            owner: device.spec.owner,
            lies: device.spec.program == LIAR,
            hub,
            own,
        });
    }
    Ok(witnesses)
}

/// Looks again and again until there is something, for so long at most.
fn wait<T>(
    limit: Duration,
    folder: &Path,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, DemoError>,
) -> Result<T, DemoError> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > limit {
            return Err(DemoError::Late {
                what: what.to_owned(),
                seconds: limit.as_secs(),
                folder: folder.to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(250));
    }
}
