//! Whether the demo showed what it is to show. It believes nobody: vouchers are checked by their signatures, sums
//! are added up again, and verdicts are compared with the roots that devices showed.

use std::collections::{BTreeMap, BTreeSet};

use sosna_protocol::{
    Address, Amount, Hash, Signature,
    eip712::{Domain, Typed as _, Voucher},
};

use super::machine::PageView;
use super::view::{DeviceView, JobView, StatusView};
use super::{DeviceRow, MachineRow, TileRow};

/// What must stand around a task in a machine, as an agent names it.
const WALLS: [&str; 3] = ["cgroup v2", "user namespaces with ids of their own", "seccomp"];

/// A device with what it was started as and what it says of itself.
#[derive(Debug)]
pub(super) struct Witness {
    /// The demo's name for it.
    pub(super) name: &'static str,
    /// The demo's name for its owner.
    pub(super) owner: &'static str,
    /// Whether it lies.
    pub(super) lies: bool,
    /// The hub's view.
    pub(super) hub: DeviceView,
    /// Its own.
    pub(super) own: StatusView,
    /// What the page of a machine says.
    pub(super) page: Option<PageView>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The tables.
    pub(super) devices: Vec<DeviceRow>,
    /// One row for each device that is a machine.
    pub(super) machines: Vec<MachineRow>,
    /// One row a tile.
    pub(super) tiles: Vec<TileRow>,
    /// What every device says that it enforces.
    pub(super) walls: Vec<String>,
    /// What some device cannot limit.
    pub(super) missing_limits: Vec<String>,
    /// Everything that is not as it should be; empty when all is well.
    pub(super) faults: Vec<String>,
}

/// Judges a finished job of a hub that settles in a domain; without one, on no chain.
#[must_use]
pub(super) fn judge(
    job: &JobView,
    witnesses: &[Witness],
    tiles: usize,
    settles: Option<Domain>,
) -> Judgement {
    let names: BTreeMap<&str, &Witness> =
        witnesses.iter().map(|one| (one.hub.address.as_str(), one)).collect();
    let mut faults = Vec::new();
    if job.state != "succeeded" {
        let why = job.explanation.as_deref().unwrap_or("its tasks say why");
        faults.push(format!("the job is {}, not succeeded: {why}", job.state));
    }
    if job.tasks.len() != tiles {
        faults.push(format!("there are {} tiles, not {tiles}", job.tasks.len()));
    }
    let mut caught = 0;
    let rows = job.tasks.iter().map(|task| {
        let right: Vec<_> =
            task.assignments.iter().filter(|one| one.verdict.as_deref() == Some("accepted")).collect();
        let wrong: Vec<_> =
            task.assignments.iter().filter(|one| one.verdict.as_deref() == Some("wrong")).collect();
        let name = |address: &String| names.get(address.as_str()).map_or("?", |one| one.name).to_owned();
        let owners: BTreeSet<&str> = right.iter().map(|one| one.owner.as_str()).collect();
        if task.state != "succeeded" || right.len() != 2 || owners.len() != 2 {
            let why = task.explanation.as_deref().unwrap_or("");
            faults.push(format!("tile {} is not agreed on by two owners' devices {why}", task.index));
        }
        if right.iter().any(|one| one.root != task.result_root || task.result_root.is_none()) {
            faults.push(format!("tile {}: what was accepted is not what was shown", task.index));
        }
        for one in &wrong {
            caught += 1;
            if one.root == task.result_root || !names.get(one.device.as_str()).is_some_and(|one| one.lies) {
                faults.push(format!(
                    "tile {}: {} was judged wrong and is not",
                    task.index,
                    name(&one.device)
                ));
            }
            if amount(one.owed.as_deref()) != Some(Amount::ZERO) {
                faults.push(format!("tile {}: a wrong result is owed for", task.index));
            }
        }
        let verdict = if wrong.is_empty() {
            "agreed".to_owned()
        } else {
            let liars: Vec<_> = wrong.iter().map(|one| name(&one.device)).collect();
            format!("{} lied, rendered again", liars.join(", "))
        };
        TileRow {
            tile: task.index,
            by: right.iter().map(|one| name(&one.device)).collect(),
            root: task.result_root.clone().unwrap_or_default(),
            verdict,
        }
    });
    let tile_rows: Vec<TileRow> = rows.collect();
    if caught == 0 && witnesses.iter().any(|one| one.lies) {
        faults.push("the liar was not caught".to_owned());
    }
    let mut owed: BTreeMap<&str, Amount> = BTreeMap::new();
    for one in job.tasks.iter().flat_map(|task| &task.assignments) {
        let sum = owed.entry(one.device.as_str()).or_default();
        match amount(one.owed.as_deref().or(Some("0"))).and_then(|more| sum.checked_add(more)) {
            Some(total) => *sum = total,
            None => faults.push("an amount cannot be read".to_owned()),
        }
    }
    let total = owed.values().try_fold(Amount::ZERO, |sum, one| sum.checked_add(*one));
    if total.is_none() || total != amount(Some(&job.price.spent)) {
        faults.push(format!("the job cost {} SNM, which is not what its devices are owed", job.price.spent));
    }
    let devices = witnesses.iter().map(|one| {
        let expected = owed.get(one.hub.address.as_str()).copied().unwrap_or_default();
        let holds = voucher_holds(one, expected, settles);
        if let Err(fault) = &holds {
            faults.push(format!("{}: {fault}", one.name));
        }
        if one.lies && (expected != Amount::ZERO || one.hub.reputation.invalid == 0) {
            faults.push(format!("{} lied and was owed {expected} SNM", one.name));
        }
        if !one.lies && one.hub.reputation.invalid != 0 {
            faults.push(format!("{} is honest and was judged wrong", one.name));
        }
        DeviceRow {
            device: if one.lies { format!("{} (lies)", one.name) } else { one.name.to_owned() },
            owner: one.owner.to_owned(),
            accepted: one.hub.reputation.valid,
            refused: one.hub.reputation.invalid,
            reputation: format!("{}.{:03}", one.hub.reputation.score / 1000, one.hub.reputation.score % 1000),
            earned: one.hub.earned.clone(),
            voucher: holds.is_ok(),
        }
    });
    let devices: Vec<DeviceRow> = devices.collect();
    let machines =
        witnesses.iter().filter_map(|one| Some(machine(one, one.page.as_ref()?, &mut faults))).collect();
    let missing: BTreeSet<&String> = witnesses.iter().flat_map(|one| &one.own.missing_limits).collect();
    let missing_limits = missing.into_iter().cloned().collect();
    let mut walls = witnesses.first().map(|one| one.own.walls.clone()).unwrap_or_default();
    walls.retain(|wall| witnesses.iter().all(|one| one.own.walls.contains(wall)));
    Judgement { devices, machines, tiles: tile_rows, walls, missing_limits, faults }
}

/// A machine's row. It must have started from a sound image, and every wall must stand in it.
fn machine(one: &Witness, page: &PageView, faults: &mut Vec<String>) -> MachineRow {
    let mut wrong = |what: String| faults.push(format!("{}: {what}", one.name));
    if one.hub.hostname != one.name {
        wrong(format!("it is called {}", one.hub.hostname));
    }
    if page.held {
        wrong(format!("its data area is {}", page.data));
    }
    if let Some(missing) = WALLS.into_iter().find(|wall| !one.own.walls.iter().any(|own| own == wall)) {
        wrong(format!("it does not say that {missing} holds"));
    }
    for missing in one.own.missing_limits.iter().chain(&one.hub.missing_limits) {
        wrong(format!("a limit does not hold: {missing}"));
    }
    let system = one.hub.system.as_ref();
    match system {
        None => wrong("its hub does not know what it started from".to_owned()),
        // Not every board compares it.
        Some(system) if !["sound", "unchecked"].contains(&system.boot_image.as_str()) => {
            wrong(format!("its boot image is not as it was composed: {}", system.boot_image));
        }
        Some(_) => {}
    }
    let text = |of: fn(&super::view::SystemView) -> &String| system.map(of).cloned().unwrap_or_default();
    MachineRow {
        device: one.name.to_owned(),
        board: text(|system| &system.board),
        slot: text(|system| &system.slot),
        version: text(|system| &system.version),
        boot_image: text(|system| &system.boot_image),
        kernel: page.kernel.clone(),
        class: one.hub.class.clone(),
        cores: one.hub.total.as_ref().map_or(0, |total| total.cpu_millis),
        memory: one.hub.total.as_ref().map_or(0, |total| total.memory >> 20),
    }
}

/// The device's voucher is the hub's, for this device, and says what its work adds up to.
fn voucher_holds(one: &Witness, expected: Amount, settles: Option<Domain>) -> Result<(), String> {
    let same = [&one.hub.earned, &one.hub.vouchered, &one.hub.held, &one.own.earnings.voucher];
    if same.iter().any(|text| amount(Some(text)) != Some(expected)) {
        let said: Vec<&str> = same.iter().map(|text| text.as_str()).collect();
        return Err(format!(
            "owed {expected} SNM, and the books, vouchers and the device say {}",
            said.join(", ")
        ));
    }
    let Some(signed) = &one.own.earnings.signed else {
        return if expected == Amount::ZERO { Ok(()) } else { Err("it holds no voucher".to_owned()) };
    };
    let hub: Address = one.own.hub.as_deref().and_then(|text| text.parse().ok()).ok_or("it knows no hub")?;
    let device: Address =
        one.own.device.as_deref().and_then(|text| text.parse().ok()).ok_or("it has no name")?;
    let parsed = (|| {
        let wallet: Address = signed.wallet.parse().ok()?;
        let receipts: Hash = signed.receipts.parse().ok()?;
        let signature: Signature = signed.signature.parse().ok()?;
        Some((wallet, receipts, signature, Amount::from_units(signed.units.parse().ok()?)))
    })();
    let (wallet, receipts, signature, cumulative) = parsed.ok_or("its voucher cannot be read")?;
    let domain = Domain { chain_id: signed.chain_id, wallet };
    let voucher = Voucher { device, cumulative, receipts };
    if cumulative != expected || domain != settles.unwrap_or(Domain::off_chain(hub)) {
        return Err("its voucher says something else than the books".to_owned());
    }
    voucher.verify(&domain, &signature, &hub).map_err(|error| format!("its voucher does not hold: {error}"))
}

fn amount(text: Option<&str>) -> Option<Amount> {
    text?.parse().ok()
}
