//! Who lives in a swarm: what each device has, asks, and is like, all of it from one seed.

use std::time::Duration;

use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Amount,
    hash::sha256,
    resources::{Arch, Ask, Class, Resources},
};

use crate::conduct::Conduct;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// Its multiples' fractions are spread more evenly than those of any other number.
const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;
const DAY_MS: i64 = 86_400_000;

/// Kinds of machines, and how many of a hundred are such.
const MACHINES: [(u32, Machine); 5] = [
    (20, Machine { arch: Arch::Armv7, level: 7, cores: (1, 4), memory: (256 * MIB, GIB), slowness: 8.0 }),
    (35, Machine { arch: Arch::Aarch64, level: 8, cores: (4, 4), memory: (GIB, 8 * GIB), slowness: 4.0 }),
    (
        10,
        Machine { arch: Arch::Aarch64, level: 8, cores: (4, 8), memory: (4 * GIB, 16 * GIB), slowness: 2.0 },
    ),
    (25, Machine { arch: Arch::X86_64, level: 2, cores: (2, 4), memory: (4 * GIB, 8 * GIB), slowness: 2.0 }),
    (
        10,
        Machine { arch: Arch::X86_64, level: 3, cores: (4, 16), memory: (8 * GIB, 64 * GIB), slowness: 1.0 },
    ),
];

#[derive(Debug, Clone, Copy)]
struct Machine {
    arch: Arch,
    level: u8,
    cores: (u32, u32),
    memory: (u64, u64),
    slowness: f64,
}

/// What a swarm is made of. The same values make the same devices, with the same names.
#[derive(Debug, Clone)]
pub struct Population {
    /// How many devices.
    pub devices: usize,
    /// Everything follows from it.
    pub seed: u64,
    /// Only machines with such a processor; of all kinds where it is `None`.
    pub arch: Option<Arch>,
    /// Which part of the devices, of 1, behaves so. The others are honest.
    pub conducts: Vec<(Conduct, f64)>,
    /// How long a task takes on the fastest kind of machine; the slowest takes eight times as long.
    pub task: Duration,
    /// After how long a device leaves on average; zero for never.
    pub stay: Duration,
    /// And for how long it is away, on average.
    pub away: Duration,
    /// By how much more than a day the clocks of [mistimed](Conduct::Mistimed) devices are wrong at the most, both ways.
    pub skew: Duration,
}

/// One device's nature.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its place in the swarm.
    pub index: usize,
    /// How it behaves.
    pub conduct: Conduct,
    /// Its processor.
    pub class: Class,
    /// What it lends.
    pub resources: Resources,
    /// What it asks.
    pub ask: Ask,
    /// How long a task takes there.
    pub task: Duration,
    /// By how many milliseconds its own clock is wrong, for those that believe it.
    pub skew_ms: i64,
    /// Parts of a million by which it goes too fast.
    pub drift_ppm: i32,
}

impl Default for Population {
    fn default() -> Self {
        Self {
            devices: 100,
            seed: 1,
            arch: None,
            conducts: Vec::new(),
            task: Duration::from_millis(500),
            stay: Duration::ZERO,
            away: Duration::from_secs(10),
            skew: Duration::from_secs(7 * 86_400),
        }
    }
}

// === impl Population ===

impl Population {
    /// The source of chance of one device, for one purpose.
    pub(crate) fn chance(&self, index: usize, purpose: &str) -> fastrand::Rng {
        let digest = self.digest(index, purpose);
        let (first, _) = digest.split_first_chunk::<8>().expect("a digest has 32 bytes");
        fastrand::Rng::with_seed(u64::from_be_bytes(*first))
    }

    fn digest(&self, index: usize, purpose: &str) -> [u8; 32] {
        sha256(format!("sosna-swarm {} {index} {purpose}", self.seed).as_bytes()).0
    }

    /// The key that names a device. It follows from the seed, and so is no secret: what such a device earns belongs to
    /// whoever knows the seed.
    pub(crate) fn key(&self, index: usize) -> IdentityKey {
        // One digest in 2^128 is no key; the purpose's number leads on to another.
        let mut tries = (0_u32..).map(|n| IdentityKey::from_bytes(self.digest(index, &format!("key {n}"))));
        tries.find_map(|key| key).expect("there is no end of digests")
    }

    /// A device's nature.
    #[must_use]
    pub fn profile(&self, index: usize) -> Profile {
        let mut chance = self.chance(index, "nature");
        let machine = self.machine(&mut chance);
        let cores = chance.u32(machine.cores.0..=machine.cores.1);
        let memory = chance.u64(machine.memory.0..=machine.memory.1) / MIB * MIB;
        let resources = Resources {
            cpu_millis: cores * 1000,
            memory,
            disk: chance.u64(4..=64) * GIB,
            inodes: 1 << 20,
            pids: 4096,
        };
        // From a thousandth to a hundredth of an SNM for a core and a second, as owners think.
        let core_second = Amount::from_units(u128::from(chance.u64(1..=10)) * 1_000_000_000_000_000);
        let ask = Ask { core_second, gib_second: Amount::ZERO, minimum: Amount::from_units(1_000_000_000) };
        let skew = i64::try_from(self.skew.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4);
        Profile {
            index,
            conduct: self.conduct(index),
            class: Class { arch: machine.arch, level: machine.level },
            resources,
            ask,
            task: self.task.mul_f64(machine.slowness),
            skew_ms: (DAY_MS + chance.i64(0..=skew)) * if chance.bool() { 1 } else { -1 },
            drift_ppm: chance.i32(-200..=200),
        }
    }

    fn machine(&self, chance: &mut fastrand::Rng) -> Machine {
        let fitting =
            || MACHINES.iter().filter(|(_, machine)| self.arch.is_none_or(|arch| arch == machine.arch));
        let total: u32 = fitting().map(|(part, _)| part).sum();
        let Some(mut left) = total.checked_sub(1).map(|last| chance.u32(0..=last)) else {
            // No such machine is in the list: an ordinary one with that processor.
            let arch = self.arch.unwrap_or(Arch::X86_64);
            return Machine { arch, level: 1, cores: (4, 4), memory: (4 * GIB, 4 * GIB), slowness: 2.0 };
        };
        for (part, machine) in fitting() {
            match left.checked_sub(*part) {
                Some(rest) => left = rest,
                None => return *machine,
            }
        }
        unreachable!("what is left is below the sum of all parts")
    }

    /// Spread evenly, so that a small swarm too has as many of each as it should.
    fn conduct(&self, index: usize) -> Conduct {
        let first = self.chance(0, "conducts").f64();
        let step = (u32::try_from(index).map_or(0.0, f64::from) * GOLDEN_RATIO).fract();
        let mut place = (first + step).fract();
        for (conduct, part) in &self.conducts {
            if place < *part {
                return *conduct;
            }
            place -= part;
        }
        Conduct::Honest
    }
}

#[cfg(test)]
mod tests {
    use sosna_protocol::identity::Sign as _;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_devices_and_another_seed_others() {
        let population =
            Population { devices: 50, conducts: vec![(Conduct::Liar, 0.3)], ..Population::default() };
        let of = |population: &Population| -> Vec<_> {
            (0..population.devices)
                .map(|index| {
                    let profile = population.profile(index);
                    (population.key(index).address(), profile.conduct, profile.resources, profile.skew_ms)
                })
                .collect()
        };
        assert_eq!(of(&population), of(&population.clone()));
        let other = of(&Population { seed: 2, ..population.clone() });
        assert!(of(&population).iter().zip(&other).all(|(one, other)| one.0 != other.0));
        let liars = of(&population).iter().filter(|(_, conduct, ..)| *conduct == Conduct::Liar).count();
        assert!((14..=16).contains(&liars), "{liars} of 50 lie, and 15 should");
    }

    #[test]
    fn machines_differ_and_can_be_limited_to_one_processor() {
        let all = Population { devices: 200, ..Population::default() };
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Armv7] {
            assert!((0..200).any(|index| all.profile(index).class.arch == arch));
            let only = Population { arch: Some(arch), ..all.clone() };
            assert!((0..200).all(|index| only.profile(index).class.arch == arch));
        }
        let other = Population { arch: Some(Arch::Riscv64), ..all };
        assert_eq!(other.profile(0).class.arch, Arch::Riscv64);
    }
}
