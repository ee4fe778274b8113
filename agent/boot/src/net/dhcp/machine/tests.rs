//! A client's life against a server that the test plays.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::net::dhcp::packet::{self, tests::reply};

const CARD: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const OWN: [u8; 4] = [10, 0, 2, 15];
const SERVER: [u8; 4] = [10, 0, 2, 2];

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A server's packet: 2 offer, 5 acknowledgement, 6 refusal.
fn says(machine: &Machine, kind: u8, address: [u8; 4], lease: u32) -> Vec<u8> {
    let lease = lease.to_be_bytes();
    let options: [(u8, &[u8]); 5] =
        [(54, &SERVER), (51, &lease), (1, &[255, 255, 255, 0]), (3, &SERVER), (6, &[10, 0, 2, 3])];
    let message = reply(kind, machine.transaction, CARD, address, &options);
    from_server(&message)
}

fn from_server(message: &[u8]) -> Vec<u8> {
    let mut packet = packet::wrap(message);
    packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
    packet
}

/// The kind of message, and whether it went to everybody.
fn sent(actions: &[Action]) -> Vec<(u8, bool)> {
    let kind = |message: &[u8]| message[242];
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Broadcast(message) => Some((kind(message), true)),
            Action::Unicast { message, .. } => Some((kind(message), false)),
            _ => None,
        })
        .collect()
}

fn bound(lease: u32) -> Machine {
    let mut machine = Machine::new(CARD, "lab-7", 42);
    assert_eq!(sent(&machine.link(at(0), true)), [(1, true)]);
    let offer = says(&machine, 2, OWN, lease);
    assert_eq!(sent(&machine.receive(at(1), &offer)), [(3, true)]);
    let ack = says(&machine, 5, OWN, lease);
    let actions = machine.receive(at(2), &ack);
    let [Action::Apply(got)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((got.prefix.address, got.prefix.length), (Ipv4Addr::from(OWN), 24));
    assert_eq!(
        (got.gateway, got.dns.as_slice()),
        (Some(SERVER.into()), [Ipv4Addr::new(10, 0, 2, 3)].as_slice())
    );
    machine
}

/// Wakes the machine at its own times until `end`; what it did, and when.
fn live(machine: &mut Machine, end: u64) -> Vec<(u64, Action)> {
    let mut done = Vec::new();
    while let Some(due) = machine.due().filter(|due| *due <= at(end)) {
        done.extend(machine.wake(due).into_iter().map(|action| (due.as_secs(), action)));
        assert!(machine.due().is_none_or(|next| next > due), "no circle without a pause");
    }
    done
}

#[test]
fn an_answer_that_never_comes_is_asked_for_ever_more_rarely() {
    let mut machine = Machine::new(CARD, "", 7);
    assert!(machine.due().is_none(), "nothing without a link");
    machine.link(at(0), true);
    let times: Vec<u64> = live(&mut machine, 3600).into_iter().map(|(when, _)| when).collect();
    assert!((50..70).contains(&times.len()), "{times:?}");
    assert!(times[0] <= 3 && times.windows(2).all(|pair| pair[1] - pair[0] <= 66));
    assert!(times.windows(2).skip(8).all(|pair| pair[1] - pair[0] >= 61), "{times:?}");
}

#[test]
fn a_lease_is_renewed_at_its_server() {
    let mut machine = bound(1000);
    assert_eq!(machine.due(), Some(at(502)));
    let actions = machine.wake(at(502));
    let [Action::Unicast { from, to, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((*from, *to), (OWN.into(), SERVER.into()));
    let ack = says(&machine, 5, OWN, 1000);
    assert!(matches!(machine.receive(at(503), &ack).as_slice(), [Action::Apply(_)]));
    assert_eq!(machine.due(), Some(at(1003)));
}

#[test]
fn without_a_server_it_asks_all_and_then_gives_the_address_back() {
    let mut machine = bound(1000);
    let done = live(&mut machine, 1002);
    let unicast = done.iter().filter(|(_, action)| matches!(action, Action::Unicast { .. })).count();
    assert!(unicast >= 2, "{done:?}");
    let asked_all = done.iter().find(|(_, a)| matches!(a, Action::Broadcast(_))).unwrap().0;
    assert_eq!(asked_all, 2 + 875);
    let withdrawn = done.iter().position(|(_, action)| *action == Action::Withdraw).unwrap();
    assert_eq!(done[withdrawn].0, 1002);
    assert_eq!(sent(&[done[withdrawn + 1].1.clone()]), [(1, true)], "and begins anew");
}

#[test]
fn a_refusal_takes_the_address_and_waits() {
    let mut machine = bound(1000);
    machine.wake(at(502));
    let nak = says(&machine, 6, [0; 4], 0);
    assert_eq!(machine.receive(at(503), &nak), [Action::Withdraw]);
    assert_eq!(machine.due(), Some(at(504)));
    // A server that refuses what it offers is not asked without end.
    let mut now = at(504);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        machine.wake(now);
        let offer = says(&machine, 2, OWN, 100);
        machine.receive(now, &offer);
        let nak = says(&machine, 6, [0; 4], 0);
        assert!(machine.receive(now, &nak).is_empty());
        pauses.push(machine.due().unwrap() - now);
        now = machine.due().unwrap();
    }
    assert_eq!(pauses.last(), Some(&LONGEST_WAIT));
}

#[test]
fn a_request_without_an_answer_begins_anew() {
    let mut machine = Machine::new(CARD, "", 3);
    machine.link(at(0), true);
    let offer = says(&machine, 2, OWN, 100);
    machine.receive(at(0), &offer);
    let kinds: Vec<_> = live(&mut machine, 60).into_iter().flat_map(|(_, action)| sent(&[action])).collect();
    assert_eq!(&kinds[..4], [(3, true), (3, true), (3, true), (1, true)]);
}

#[test]
fn a_cable_that_comes_back_is_checked() {
    let mut machine = bound(1000);
    assert!(machine.link(at(10), false).is_empty());
    assert_eq!(machine.due(), Some(at(1002)), "the lease goes on");
    assert_eq!(sent(&machine.link(at(20), true)), [(3, true)]);
    // In the same network nobody answers: it stays.
    let mut silent = bound(1000);
    silent.link(at(10), false);
    silent.link(at(20), true);
    assert!(live(&mut silent, 100).iter().all(|(_, a)| *a != Action::Withdraw));
    assert_eq!(silent.due(), Some(at(502)));
    // The check may end when it is time to renew: that is asked at once.
    let mut late = bound(1000);
    late.link(at(10), false);
    late.link(at(20), true);
    let second = late.due().unwrap();
    assert_eq!(sent(&late.wake(second)), [(3, true)]);
    assert_eq!(sent(&late.wake(at(502))), [(3, false)]);
    assert!(late.due().is_some_and(|due| due > at(502)), "{late:?}");
    // In another network the server says no.
    let nak = says(&machine, 6, [0; 4], 0);
    assert_eq!(machine.receive(at(21), &nak), [Action::Withdraw]);
    // Without a link for longer than the lease.
    let mut alone = bound(1000);
    alone.link(at(10), false);
    assert_eq!(live(&mut alone, 5000), [(1002, Action::Withdraw)]);
}

#[test]
fn strangers_and_nonsense_change_nothing() {
    let mut machine = Machine::new(CARD, "", 3);
    machine.link(at(0), true);
    let due = machine.due();
    let other_transaction = reply(2, machine.transaction ^ 1, CARD, OWN, &[(54, &SERVER)]);
    let other_card = reply(2, machine.transaction, [9; 6], OWN, &[(54, &SERVER)]);
    let no_server = reply(2, machine.transaction, CARD, OWN, &[]);
    let no_address = reply(2, machine.transaction, CARD, [255; 4], &[(54, &SERVER)]);
    let early = reply(5, machine.transaction, CARD, OWN, &[(54, &SERVER)]);
    for message in [other_transaction, other_card, no_server, no_address, early] {
        assert!(machine.receive(at(1), &from_server(&message)).is_empty());
    }
    assert_eq!(machine.due(), due);
    let offer = says(&machine, 2, OWN, 100);
    machine.receive(at(1), &offer);
    let other_address = says(&machine, 5, [10, 0, 2, 99], 100);
    assert!(machine.receive(at(1), &other_address).is_empty());
}

#[test]
fn strange_times_and_masks_become_sane() {
    let mut machine = Machine::new(CARD, "", 3);
    machine.link(at(0), true);
    let offer = says(&machine, 2, OWN, 100);
    machine.receive(at(0), &offer);
    let options: [(u8, &[u8]); 5] =
        [(54, &SERVER), (51, &[0, 0, 0, 0]), (58, &[0, 0, 255, 0]), (1, &[255, 0, 255, 0]), (26, &[0, 9])];
    let ack = reply(5, machine.transaction, CARD, OWN, &options);
    let actions = machine.receive(at(0), &from_server(&ack));
    let [Action::Apply(lease)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((lease.prefix.length, lease.mtu, lease.valid), (24, None, Some(at(30))));
    assert_eq!(machine.due(), Some(at(15)));
    let mut for_ever = bound(u32::MAX);
    assert_eq!(for_ever.due(), None);
    assert!(for_ever.wake(at(1 << 40)).is_empty());
}

proptest! {
    /// Whatever happens in whatever order: no panic, no circle without a pause, and no address but a lent one.
    #[test]
    fn anything_may_happen_at_any_time(events in proptest::collection::vec((0u8..6, 0u64..900, any::<u32>()), 1..60)) {
        let mut machine = Machine::new(CARD, "lab-7", 9);
        let (mut now, mut has_address) = (at(0), false);
        for (event, later, lease) in events {
            now += at(later);
            let mut actions = match event {
                0 => machine.link(now, lease % 4 != 0),
                1..=3 => {
                    let packet = says(&machine, [2, 5, 6][usize::from(event) - 1], OWN, lease % 2000);
                    machine.receive(now, &packet)
                }
                4 => machine.receive(now, &from_server(&lease.to_be_bytes().repeat(80))),
                _ => Vec::new(),
            };
            actions.extend(machine.wake(now));
            prop_assert!(machine.due().is_none_or(|due| due > now), "{event} {:?}", machine);
            for action in actions {
                match action {
                    Action::Apply(lease) => {
                        prop_assert_eq!(lease.prefix.address, Ipv4Addr::from(OWN));
                        has_address = true;
                    }
                    Action::Withdraw => {
                        prop_assert!(has_address);
                        has_address = false;
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(has_address, machine.held().is_some());
        }
    }
}
