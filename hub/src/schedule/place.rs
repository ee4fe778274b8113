//! The choice of a device for one replica: hard constraints with the reason for each exclusion, then a score.
//!
//! Pure, so that it can be measured and tried on everything. In a large fleet not every device is looked at:
//! the best of [`ENOUGH`] suitable ones, taken in a random order, is as good for all practical purposes
//! (Kubernetes and Nomad sample likewise) and costs the same at any size. Where established devices are preferred,
//! more are looked at, since few of them may be.

use std::collections::BTreeMap;

use sosna_api::task::{Constraint, Excluded, Unplaced};
use sosna_protocol::{
    Address, Amount,
    resources::{Arch, Class, Resources},
};
use sosna_store::DeviceState;

use crate::fleet::Live;

/// How many suitable devices are compared.
pub(super) const ENOUGH: usize = 100;
/// How many suitable devices are looked at for [`ENOUGH`] that are established, where these are preferred.
const MANY: usize = 20 * ENOUGH;
/// More than any score.
const ESTABLISHED: u64 = 1 << 32;

/// What a replica needs.
#[derive(Debug, Clone)]
pub struct Need<'a> {
    /// Architectures that the image is for.
    pub archs: &'a [Arch],
    /// The class that the task's replicas are bound to already.
    pub class: Option<Class>,
    /// What it may use.
    pub resources: Resources,
    /// For how long.
    pub timeout_ms: u64,
    /// What it may cost.
    pub cap: Amount,
    /// What may be given away of its buyer's work until the buyer signs for more; `None` where that is not needed.
    pub allowance: Option<Amount>,
    /// Where.
    pub region: Option<&'a str>,
    /// Who has or had a replica of the same task.
    pub holders: &'a [Holder],
    /// Whether replicas must be apart (more than one was asked for).
    pub apart: bool,
    /// How many assignments a device on probation may have.
    pub probation_assignments: u32,
    /// The class of its image, by which reputation is kept.
    pub image_class: &'a str,
    /// How many right results in a row end probation.
    pub probation_results: u64,
    /// Whether devices whose results need no check are preferred to all others.
    pub prefers_established: bool,
}

/// Who has or had a replica of the same task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The device.
    pub device: Address,
    /// Its owner; `None` for all owners together whom the operator has not admitted.
    pub owner: Option<Address>,
    /// Its network, where that tells anything.
    pub network: Option<std::net::IpAddr>,
    /// Whether it still counts: one that refused or failed only keeps its device from being asked again.
    pub counts: bool,
}

/// A device that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The device.
    pub device: Address,
    /// Whose it is.
    pub owner: Address,
    /// Its class.
    pub class: Class,
    /// What it asks.
    pub price: Amount,
}

/// The owner as far as owners can be told apart.
#[must_use]
pub(super) fn owner_of(live: &Live) -> Option<Address> {
    live.device.owner_admitted.then_some(live.device.owner)
}

/// Chooses a device.
///
/// # Errors
/// [`Unplaced`], with how many devices each constraint excluded.
pub fn place(fleet: &[Live], need: &Need<'_>, random: u64) -> Result<Placement, Unplaced> {
    let mut excluded: BTreeMap<Constraint, u32> = BTreeMap::new();
    let mut best: Option<(u64, Placement)> = None;
    let (mut suitable, mut preferred) = (0, 0);
    // A walk with a step that has no divisor in common with the length visits everybody once, in an order
    // that looks random enough, without memory.
    let length = fleet.len();
    let start = usize::try_from(random % u64::try_from(length.max(1)).unwrap_or(1)).unwrap_or(0);
    let mut next = start;
    for _ in 0..length {
        let live = &fleet[next];
        next = (next + stride(length)) % length;
        match check(live, need) {
            Ok(price) => {
                let established =
                    need.prefers_established && !live.wants_check(need.image_class, need.probation_results);
                suitable += 1;
                preferred += usize::from(established || !need.prefers_established);
                let score = score(live, need, price) + if established { ESTABLISHED } else { 0 };
                if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                    let device = &live.device;
                    let class = device.described.class;
                    best = Some((
                        score,
                        Placement { device: device.address, owner: device.owner, class, price },
                    ));
                }
                if preferred >= ENOUGH || suitable >= MANY {
                    break;
                }
            }
            Err(constraint) => *excluded.entry(constraint).or_default() += 1,
        }
    }
    best.map(|(_, placement)| placement).ok_or_else(|| unplaced(length, excluded))
}

fn stride(length: usize) -> usize {
    // A prime larger than any fleet that fits into memory shares no divisor with its size; nor does the rest that
    // it leaves.
    const PRIME: usize = 2_147_483_647;
    PRIME % length.max(1)
}

fn check(live: &Live, need: &Need<'_>) -> Result<Amount, Constraint> {
    let require = |holds: bool, constraint: Constraint| if holds { Ok(()) } else { Err(constraint) };
    let described = &live.device.described;
    require(live.is_employable(), Constraint::State)?;
    require(need.archs.contains(&described.class.arch), Constraint::Arch)?;
    if let Some(class) = need.class {
        require(described.class == class, Constraint::Class)?;
    }
    if let Some(region) = need.region {
        require(live.region.as_deref() == Some(region), Constraint::Region)?;
    }
    require(live.online, Constraint::Offline)?;
    // Before room: a device that holds a replica has little room because of it, and more room would not help.
    let held = |same: &dyn Fn(&Holder) -> bool| need.holders.iter().any(same);
    require(!held(&|holder| holder.device == live.device.address), Constraint::Tried)?;
    if need.apart {
        require(!held(&|holder| holder.counts && holder.owner == owner_of(live)), Constraint::Owner)?;
        let near =
            |holder: &Holder| holder.counts && holder.network.is_some() && holder.network == live.network;
        require(!held(&near), Constraint::Subnet)?;
    }
    let free = live.free();
    require(free.cpu_millis >= need.resources.cpu_millis, Constraint::Cpu)?;
    require(free.memory >= need.resources.memory, Constraint::Memory)?;
    require(free.disk >= need.resources.disk && free.inodes >= need.resources.inodes, Constraint::Disk)?;
    require(free.pids >= need.resources.pids, Constraint::Pids)?;
    let on_probation = live.device.state == DeviceState::Probation;
    require(!on_probation || live.open < need.probation_assignments, Constraint::Reputation)?;
    let price = described.ask.price(&need.resources, need.timeout_ms).ok_or(Constraint::Price)?;
    require(price <= need.cap, Constraint::Price)?;
    require(need.allowance.is_none_or(|left| price <= left), Constraint::Confirmation)?;
    require(live.trusts_for(price), Constraint::Exposure)?;
    Ok(price)
}

/// Higher is better: a good past first, then a low price, then much that stays free (so that load spreads).
fn score(live: &Live, need: &Need<'_>, price: Amount) -> u64 {
    let past = u64::from(live.score_in(need.image_class));
    let saved = match need.cap.units() {
        0 => 1000,
        cap => 1000 - u64::try_from((price.units() / (cap / 1000).max(1)).min(1000)).unwrap_or(1000),
    };
    let total = u64::from(live.device.described.resources.cpu_millis.max(1));
    let idle = u64::from(live.free().cpu_millis) * 1000 / total;
    past * 4 + saved * 2 + idle * 3
}

fn unplaced(devices: usize, excluded: BTreeMap<Constraint, u32>) -> Unplaced {
    let mut excluded: Vec<Excluded> =
        excluded.into_iter().map(|(constraint, devices)| Excluded { constraint, devices }).collect();
    excluded.sort_by_key(|one| std::cmp::Reverse(one.devices));
    let explanation = match excluded.first() {
        None => "no device is enrolled; print a join line with `sosna-hub token` and start a device with it"
            .to_owned(),
        Some(first) => advice(first.constraint).to_owned(),
    };
    Unplaced { explanation, devices: u32::try_from(devices).unwrap_or(u32::MAX), excluded }
}

/// What to do about the constraint that excludes most.
const fn advice(constraint: Constraint) -> &'static str {
    match constraint {
        Constraint::Offline => "most suitable devices are not connected; the task waits for them",
        Constraint::State => "most devices are revoked, quarantined or draining; see `sosna devices`",
        Constraint::Arch => "most devices have another architecture than the image; give an image for theirs",
        Constraint::Class => "replicas must run on one class; more devices of the same class are needed",
        Constraint::Cpu | Constraint::Memory | Constraint::Disk | Constraint::Pids => {
            "most devices have too little room now; the task waits for some, or ask for less"
        }
        Constraint::Region => "most devices are elsewhere; leave --region out, or wait for devices there",
        Constraint::Price => "most devices ask more than the job may cost; raise --max-price",
        Constraint::Confirmation => {
            "the buyer has signed for too little of what was spent, or deposited too little; `sosna deposits confirm` signs"
        }
        Constraint::Owner => {
            "replicas must be with different owners; admit more of them with `sosna owner admit`, or ask for fewer"
        }
        Constraint::Subnet => "replicas must be in different networks; devices in more of them are needed",
        Constraint::Reputation => "most devices are on probation and busy; the task waits",
        Constraint::Exposure => {
            "most devices are owed as much as they are willing to be; they wait for vouchers"
        }
        Constraint::Unsupported => "most devices cannot do what the job needs",
        Constraint::Tried => {
            "every suitable device has this task, or has tried it; it waits for other devices"
        }
    }
}
