//! Measures how many replicas a second the scheduler places over 10,000 different devices. Prints one line of JSON
//! for each figure.

use std::{collections::VecDeque, time::Instant};

use sosna_hub::{
    fleet::Fleet,
    schedule::{Holder, Need, place},
};
use sosna_protocol::{
    Address, Amount, Hash,
    identity::AssignmentId,
    resources::{Arch, Ask, Class, Resources},
};
use sosna_store::{Described, Device, DeviceState};

const DEVICES: u64 = 10_000;
const PLACEMENTS: u64 = 100_000;
/// As many are at work at a time; the oldest ends when another begins.
const AT_WORK: usize = 15_000;

/// A sequence that is the same in every run (xorshift64).
struct Sequence(u64);

impl Sequence {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    const fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

fn address(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

fn device(number: u64, random: &mut Sequence) -> Device {
    let classes =
        [(Arch::X86_64, 2), (Arch::X86_64, 3), (Arch::X86_64, 4), (Arch::Aarch64, 8), (Arch::Armv7, 7)];
    let (arch, level) = classes[usize::try_from(random.below(5)).unwrap_or(0)];
    let cores = 1 + random.below(16);
    let region = ["north", "south", "east", "west"][usize::try_from(random.below(4)).unwrap_or(0)];
    Device {
        address: address(number),
        owner: address(1_000_000 + random.below(3_000)),
        owner_admitted: random.below(10) > 0,
        state: if random.below(5) == 0 { DeviceState::Probation } else { DeviceState::Trusted },
        draining: random.below(50) == 0,
        hostname: format!("device-{number}"),
        labels: format!(r#"{{"region":"{region}"}}"#),
        encryption_key: Hash::ZERO,
        described: Described {
            class: Class { arch, level },
            agent: "bench".to_owned(),
            resources: Resources {
                cpu_millis: u32::try_from(cores * 1000).unwrap_or(u32::MAX),
                memory: cores << 30,
                disk: cores << 33,
                inodes: 1 << 20,
                pids: 4096,
            },
            ask: Ask { minimum: Amount::from_units(u128::from(1 + random.below(1000))), ..Ask::default() },
            missing_limits: "[]".to_owned(),
            exposure_limit: None,
            setting: sosna_store::Setting::default(),
        },
        enrolled_ms: number,
        last_seen_ms: number,
        valid: random.below(1000),
        invalid: random.below(3),
        failed: random.below(20),
        consecutive: 0,
    }
}

/// Places pairs of replicas that must be apart, or single ones; returns how many a second, and how many found no
/// device.
fn measure(replicas: usize, region: Option<&str>) -> (f64, u64) {
    let mut random = Sequence(0x9e37_79b9_7f4a_7c15);
    let mut fleet = Fleet::default();
    for number in 0..DEVICES {
        fleet.describe(device(number, &mut random));
        let online = random.below(20) > 0;
        if let Some(live) = fleet.get_mut(&address(number)) {
            live.online = online;
        }
    }
    let mut at_work = VecDeque::new();
    let (mut placed, mut unplaced, mut number) = (0_u64, 0_u64, 0_u128);
    let begun = Instant::now();
    while placed < PLACEMENTS {
        let archs = [[Arch::X86_64], [Arch::Aarch64], [Arch::Armv7]];
        let archs = archs[usize::try_from(random.below(3)).unwrap_or(0)];
        let resources = Resources {
            cpu_millis: 250 << random.below(3),
            memory: (64 << 20) << random.below(4),
            disk: 1 << 28,
            inodes: 1000,
            pids: 64,
        };
        let mut holders: Vec<Holder> = Vec::new();
        let mut class = None;
        for _ in 0..replicas {
            let need = Need {
                archs: &archs,
                class,
                resources,
                timeout_ms: 60_000,
                cap: Amount::from_units(900),
                allowance: None,
                region,
                holders: &holders,
                apart: replicas > 1,
                probation_assignments: 8,
                image_class: "registry.test/tool",
                probation_results: 10,
                prefers_established: false,
            };
            let Ok(placement) = place(fleet.devices(), &need, random.next()) else {
                unplaced += 1;
                break;
            };
            number += 1;
            let id = AssignmentId(number.to_be_bytes());
            fleet.take(id, placement.device, resources, placement.price);
            at_work.push_back(id);
            placed += 1;
            class = Some(placement.class);
            let admitted = fleet.get(&placement.device).is_some_and(|live| live.device.owner_admitted);
            let owner = admitted.then_some(placement.owner);
            holders.push(Holder { device: placement.device, owner, network: None, counts: true });
            if at_work.len() > AT_WORK
                && let Some(done) = at_work.pop_front()
            {
                fleet.release(&done);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    (f64::from(u32::try_from(placed).unwrap_or(u32::MAX)) / seconds, unplaced)
}

fn main() {
    let cases = [("single", 1, None), ("replicated", 2, None), ("regional", 1, Some("south"))];
    for (name, replicas, region) in cases {
        let (rate, unplaced) = measure(replicas, region);
        let line = serde_json::json!({
            "bench": "placements", "metric": name, "value": rate.round(), "unit": "1/s",
            "devices": DEVICES, "unplaced": unplaced,
        });
        println!("{line}");
    }
}
