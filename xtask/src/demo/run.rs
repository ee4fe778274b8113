//! The demo from beginning to end.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sosna_protocol::eip712::Domain;

use super::judge::{Judgement, judge};
use super::view::{DeviceList, JobView};
use super::witness::{LIAR, witnesses};
use super::world::{self, DeviceSpec, World, leftovers};
use super::{Demo, DemoError, SIZE, TILES, devices_table, machines_table, tiles_table};
use crate::live::{Mark, Meter};

/// Two of the owners have one device, and one has two; the liar is the only one of its owner.
const DEVICES: [DeviceSpec; 4] = [
    DeviceSpec { name: "spruce", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "larch", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "birch", owner: "boris", program: "sosna-agent" },
    DeviceSpec { name: "magpie", owner: "clara", program: LIAR },
];
/// What the buyer has: more than enough.
pub(super) const CREDIT: &str = "10";
/// How long devices may take to enrol, vouchers to arrive.
pub(super) const SHORT: Duration = Duration::from_secs(60);

/// The picture that is asked for, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rendering {
    /// The job's name.
    pub(super) name: &'static str,
    /// Into how many tiles it is cut.
    pub(super) tiles: usize,
    /// Pixels.
    pub(super) size: (u32, u32),
    /// How results are verified.
    pub(super) verify: &'static str,
    /// How long a tile may take.
    pub(super) timeout: &'static str,
    /// How long all of it may take.
    pub(super) patience: Duration,
}

const RENDERING: Rendering = Rendering {
    name: "pines in the morning",
    tiles: TILES,
    size: SIZE,
    verify: "replicate:2",
    timeout: "5m",
    patience: Duration::from_secs(480),
};

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
        let mut world = self.hub(&folder, world::HUB)?;
        self.step("devices", |line| {
            for owner in ["anna", "boris", "clara"] {
                let of_owner: Vec<_> = DEVICES.iter().filter(|spec| spec.owner == owner).collect();
                let join = world.owner(owner, of_owner.len())?;
                for spec in of_owner {
                    line.now(&format!("{} joins as {owner}'s", spec.name));
                    world.device(*spec, &join)?;
                }
            }
            wait(SHORT, &folder, "the devices did not all enrol", || {
                Ok((online(&world)? == DEVICES.len()).then_some(()))
            })?;
            let said =
                format!("{} devices of 3 owners enrolled; one of them lies about its pixels", DEVICES.len());
            Ok(((), said))
        })?;
        let picture = self.tree.demo().join("pines.png");
        world.credit(CREDIT)?;
        let (job, judgement) = self.job(&world, &folder, &image.dir, RENDERING, &picture, None)?;

        let live = self.live();
        self.tables(&judgement);
        live.say(&format!("picture   {}", picture.display()));
        live.say(&format!("price     {} SNM, all of it owed to devices", job.price.spent));
        live.say(&format!("time      {:.1} s from the hub's start", begun.elapsed().as_secs_f32()));
        for limit in &judgement.missing_limits {
            live.say(&format!("not here  {limit}"));
        }
        for fault in &judgement.faults {
            live.say(&format!("WRONG     {fault}"));
        }
        if keep {
            self.keep(&world, &folder);
        }
        let is_clean = self.end(&mut world, &folder);
        let all_is_well = judgement.faults.is_empty() && is_clean;
        if all_is_well {
            live.say("All of it is as it should be: every tile agreed on, every voucher verifies, the liar unpaid.");
        }
        Ok(all_is_well)
    }

    /// Starts a hub with the programs that were just built.
    pub(super) fn hub(&self, folder: &Path, settings: &str) -> Result<World, DemoError> {
        self.step("hub", |_| {
            let world = World::start(&self.programs(), folder, settings)?;
            let said = format!("serves at {}", world.web);
            Ok((world, said))
        })
    }

    /// Where cargo puts what it builds.
    pub(super) fn programs(&self) -> PathBuf {
        self.tree.target().join("debug")
    }

    /// Has the picture rendered by the devices there are, joins it, and judges all that was said about it. Vouchers must
    /// be for the domain `settles`, or without one for the hub itself.
    pub(super) fn job(
        &self,
        world: &World,
        folder: &Path,
        image: &Path,
        rendering: Rendering,
        picture: &Path,
        settles: Option<Domain>,
    ) -> Result<(JobView, Judgement), DemoError> {
        let meter = self.live().meter("tiles", rendering.tiles as u64);
        let job = submit(world, folder, image, rendering, meter)?;
        let tiles = self.step("results", |_| {
            let tiles = results(world, folder, &job, rendering)?;
            Ok((tiles, folder.join("results").display().to_string()))
        })?;
        self.join(&tiles, rendering.size, picture)?;
        let witnesses = self.step("vouchers", |line| {
            line.now("every device shall hold what it is owed");
            let witnesses = witnesses(world, folder)?;
            Ok((witnesses, "shown by the devices, checked by their signatures".to_owned()))
        })?;
        let judgement = judge(&job, &witnesses, rendering.tiles, settles);
        Ok((job, judgement))
    }

    /// Who did what, and who is owed what.
    pub(super) fn tables(&self, judgement: &Judgement) {
        let mut tables = vec![devices_table(&judgement.devices), tiles_table(&judgement.tiles)];
        if !judgement.machines.is_empty() {
            tables.insert(0, machines_table(&judgement.machines));
        }
        self.live().say("");
        for table in tables {
            self.live().say(&format!("{table}\n"));
        }
    }

    /// Waits for Enter, with everything running.
    pub(super) fn keep(&self, world: &World, folder: &Path) {
        let live = self.live();
        live.say("");
        live.say(&format!("pages     {}", world.web));
        live.say(&format!("token     {}", folder.join("hub/admin.token").display()));
        for machine in world.machines() {
            live.say(&format!("{:<9} http://127.0.0.1:{}/", machine.name, machine.page));
        }
        live.say("Everything keeps running until you press Enter.");
        // A closed input means the same as Enter.
        let _ = std::io::stdin().read(&mut [0]);
    }

    /// Ends everything in order, and says what did not end so, or has left something here; true when nothing has.
    pub(super) fn end(&self, world: &mut World, folder: &Path) -> bool {
        let faults = world.stop();
        let left = leftovers(folder);
        for fault in &faults {
            self.live().say(&format!("WRONG     {fault}"));
        }
        for one in &left {
            self.live().say(&format!("LEFT      {one}"));
        }
        faults.is_empty() && left.is_empty()
    }
}

/// Submits the rendering and follows it to its end.
pub(super) fn submit(
    world: &World,
    folder: &Path,
    image: &Path,
    rendering: Rendering,
    mut meter: Meter,
) -> Result<JobView, DemoError> {
    let source = format!("oci:{}", image.display());
    let count = rendering.tiles.to_string();
    let mut arguments = vec!["run", "--detach", "--name", rendering.name, "--tasks", &count];
    arguments.extend(["--verify", rendering.verify, "--timeout", rendering.timeout]);
    arguments.extend(["--cpu", "1", "--memory", "256M", "--disk", "64M"]);
    // What `render-tile` makes when it is told nothing else needs not be said.
    let (width, height) = rendering.size;
    let settings = [format!("WIDTH={width}"), format!("HEIGHT={height}")];
    if rendering.size != SIZE {
        arguments.extend(settings.iter().flat_map(|setting| ["--env", setting.as_str()]));
    }
    arguments.extend(["--output", "/work/out/tile.bmp", &source]);
    let submitted = world.sosna_as_buyer(&arguments)?;
    let id = submitted.split_whitespace().last().unwrap_or_default().to_owned();
    let mut seen = vec![false; rendering.tiles];
    let done = wait(rendering.patience, folder, "the picture was not finished", || {
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

/// Fetches a finished job's tiles.
pub(super) fn results(
    world: &World,
    folder: &Path,
    job: &JobView,
    rendering: Rendering,
) -> Result<Vec<PathBuf>, DemoError> {
    let results = folder.join("results");
    world.sosna(&["results", &job.id, "-o", &results.display().to_string()])?;
    let tile = |index: usize| results.join(index.to_string()).join("work/out/tile.bmp");
    Ok((0..rendering.tiles).map(tile).collect())
}

/// How many devices are connected.
pub(super) fn online(world: &World) -> Result<usize, DemoError> {
    let devices = world.sosna_json::<DeviceList>(&["devices"])?.devices();
    Ok(devices.iter().filter(|device| device.online).count())
}

/// Looks again and again until there is something, for so long at most.
pub(super) fn wait<T>(
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
