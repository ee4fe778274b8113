//! The choice of a device: never one that must not have it, and why there is none.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use sosna_api::task::Constraint;
use sosna_hub::{
    fleet::{Dropped, Fleet, Live},
    schedule::{Holder, Need, place},
};
use sosna_protocol::{
    Address, Amount, Hash,
    identity::AssignmentId,
    resources::{Arch, Ask, Class, Resources},
};
use sosna_store::{Described, Device, DeviceState};

fn live(number: u16) -> Live {
    let mut address = [0; 20];
    address[..2].copy_from_slice(&number.to_be_bytes());
    let resources = Resources { cpu_millis: 4000, memory: 4 << 30, disk: 8 << 30, inodes: 1000, pids: 100 };
    let device = Device {
        address: Address(address),
        owner: Address(address),
        owner_admitted: true,
        state: DeviceState::Trusted,
        draining: false,
        hostname: String::new(),
        labels: "{}".to_owned(),
        encryption_key: Hash::ZERO,
        described: Described {
            class: Class { arch: Arch::X86_64, level: 2 },
            agent: String::new(),
            resources,
            ask: Ask { minimum: Amount::from_units(5), ..Ask::default() },
            missing_limits: String::new(),
            exposure_limit: Some(Amount::from_units(100)),
            setting: sosna_store::Setting::default(),
        },
        enrolled_ms: 0,
        last_seen_ms: 0,
        valid: 0,
        invalid: 0,
        failed: 0,
        consecutive: 0,
    };
    Live {
        device,
        region: Some("here".to_owned()),
        online: true,
        has_greeted: true,
        network: None,
        taken: Resources::default(),
        open: 0,
        promised: Amount::ZERO,
        owed: Amount::ZERO,
        records: std::collections::HashMap::new(),
        seen_ms: 0,
        takeovers: Vec::new(),
        dropped: Dropped::default(),
    }
}

fn need(holders: &[Holder]) -> Need<'_> {
    Need {
        archs: &[Arch::X86_64],
        class: Some(Class { arch: Arch::X86_64, level: 2 }),
        resources: Resources { cpu_millis: 1000, memory: 1 << 30, disk: 1 << 30, inodes: 100, pids: 10 },
        timeout_ms: 1000,
        cap: Amount::from_units(10),
        allowance: Some(Amount::from_units(9)),
        region: Some("here"),
        holders,
        apart: true,
        probation_assignments: 2,
        image_class: "registry.test/tool",
        probation_results: 3,
        prefers_established: false,
    }
}

const NETWORK: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 0));

/// A device that only this keeps from being chosen.
fn spoil(live: &mut Live, constraint: Constraint) {
    let resources = &mut live.device.described.resources;
    match constraint {
        Constraint::Offline => live.online = false,
        Constraint::State => live.device.draining = true,
        Constraint::Arch => live.device.described.class.arch = Arch::Armv7,
        Constraint::Class => live.device.described.class.level = 3,
        Constraint::Cpu => live.taken.cpu_millis = 3001,
        Constraint::Memory => live.taken.memory = (3 << 30) + 1,
        Constraint::Disk => resources.inodes = 99,
        Constraint::Pids => resources.pids = 9,
        Constraint::Region => live.region = None,
        Constraint::Price => live.device.described.ask.minimum = Amount::from_units(11),
        Constraint::Confirmation => live.device.described.ask.minimum = Amount::from_units(10),
        Constraint::Owner => live.device.owner = Address([9; 20]),
        Constraint::Subnet => live.network = Some(NETWORK),
        Constraint::Reputation => (live.device.state, live.open) = (DeviceState::Probation, 2),
        Constraint::Tried => live.device.address = Address([9; 20]),
        // Of what is asked for 5, with 96 it would be owed 101.
        Constraint::Exposure => (live.owed, live.promised) = (Amount::from_units(90), Amount::from_units(6)),
        // The device itself says this, when it refuses.
        Constraint::Unsupported => {}
    }
}

const PRODUCED: [Constraint; 16] = [
    Constraint::Offline,
    Constraint::State,
    Constraint::Arch,
    Constraint::Class,
    Constraint::Cpu,
    Constraint::Memory,
    Constraint::Disk,
    Constraint::Pids,
    Constraint::Region,
    Constraint::Price,
    Constraint::Confirmation,
    Constraint::Owner,
    Constraint::Subnet,
    Constraint::Reputation,
    Constraint::Exposure,
    Constraint::Tried,
];

fn holders() -> [Holder; 1] {
    [Holder { device: Address([9; 20]), owner: Some(Address([9; 20])), network: Some(NETWORK), counts: true }]
}

#[test]
fn each_constraint_alone_excludes_and_is_named() {
    let holders = holders();
    assert_eq!(place(&[live(1)], &need(&holders), 7).unwrap().price.units(), 5);
    for constraint in PRODUCED {
        let mut one = live(1);
        spoil(&mut one, constraint);
        let unplaced = place(&[one], &need(&holders), 7).unwrap_err();
        assert_eq!(unplaced.devices, 1);
        assert_eq!(unplaced.excluded.len(), 1);
        assert_eq!(unplaced.excluded[0].constraint, constraint);
        assert!(!unplaced.explanation.is_empty());
    }
    assert!(place(&[], &need(&holders), 7).unwrap_err().explanation.contains("token"));
}

#[test]
fn one_that_refused_keeps_only_itself_out_and_strangers_are_one_owner() {
    let mut refused = holders();
    refused[0].counts = false;
    let mut relative = live(1);
    relative.device.owner = Address([9; 20]);
    relative.network = Some(NETWORK);
    assert!(place(&[relative], &need(&refused), 0).is_ok());

    let strangers = [Holder { owner: None, network: None, ..holders()[0] }];
    let mut stranger = live(1);
    stranger.device.owner_admitted = false;
    let unplaced = place(std::slice::from_ref(&stranger), &need(&strangers), 0).unwrap_err();
    assert_eq!(unplaced.excluded[0].constraint, Constraint::Owner);
    assert!(place(&[stranger], &Need { apart: false, ..need(&strangers) }, 0).is_ok());
}

#[test]
fn an_established_device_is_preferred_wherever_it_is_and_whatever_it_asks() {
    let need = Need { prefers_established: true, holders: &[], allowance: None, ..need(&[]) };
    let mut fleet: Vec<Live> = (0..1500).map(live).collect();
    for one in &mut fleet {
        one.device.state = DeviceState::Probation;
        one.device.described.ask.minimum = Amount::ZERO;
    }
    // One of many, of a bad past and dear.
    fleet[777].device.state = DeviceState::Trusted;
    fleet[777].device.described.ask.minimum = Amount::from_units(10);
    (fleet[777].device.valid, fleet[777].device.failed) = (10, 9);
    for random in 0..20 {
        assert_eq!(place(&fleet, &need, random * 997).unwrap().device, fleet[777].device.address);
    }
    // Without one, anybody will do.
    fleet[777].device.state = DeviceState::Probation;
    assert!(place(&fleet, &need, 5).is_ok());
}

proptest! {
    #[test]
    fn none_is_chosen_that_must_not_be_and_everyone_is_accounted_for(
        spoiled in prop::collection::vec(prop::collection::vec(prop::sample::select(&PRODUCED[..]), 0..3), 0..300),
        good in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        random in any::<u64>(),
    ) {
        let mut fleet: Vec<Live> = Vec::new();
        let keep: Vec<usize> = if spoiled.is_empty() { vec![] } else { good.iter().map(|one| one.index(spoiled.len())).collect() };
        let mut suitable = Vec::new();
        for (place, constraints) in spoiled.iter().enumerate() {
            let mut one = live(u16::try_from(place).unwrap());
            let constraints = if keep.contains(&place) || constraints.is_empty() { &[][..] } else { &constraints[..] };
            // A device that is its own holder's is under another address.
            constraints.iter().for_each(|constraint| spoil(&mut one, *constraint));
            if constraints.is_empty() {
                suitable.push(one.device.address);
            }
            fleet.push(one);
        }
        let holders = holders();
        match place(&fleet, &need(&holders), random) {
            Ok(placement) => prop_assert!(suitable.contains(&placement.device)),
            Err(unplaced) => {
                prop_assert!(suitable.is_empty());
                let counted: u32 = unplaced.excluded.iter().map(|one| one.devices).sum();
                prop_assert_eq!(counted as usize, fleet.len());
                prop_assert!(unplaced.excluded.is_sorted_by(|a, b| a.devices >= b.devices));
            }
        }
    }
}

#[test]
fn a_fleet_follows_labels_and_gives_back_what_was_taken_once() {
    let mut fleet = Fleet::default();
    let mut device = live(1).device;
    let address = device.address;
    fleet.describe(device.clone());
    assert_eq!(fleet.get(&address).unwrap().region, None);
    device.labels = r#"{"region":"south"}"#.to_owned();
    fleet.describe(device);
    assert_eq!(fleet.get(&address).unwrap().region.as_deref(), Some("south"));
    let (id, resources) = (AssignmentId([1; 16]), need(&[]).resources);
    for _ in 0..2 {
        fleet.take(id, address, resources, Amount::from_units(7));
    }
    let busy = fleet.get(&address).unwrap();
    assert_eq!((busy.free().cpu_millis, busy.promised.units()), (3000, 7));
    for _ in 0..2 {
        fleet.release(&id);
    }
    let free = fleet.get(&address).unwrap();
    assert_eq!((free.free().cpu_millis, free.open, free.promised.units()), (4000, 0, 0));
}
