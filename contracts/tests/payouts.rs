//! Trees of payouts by themselves. That contracts and OpenZeppelin's library agree is shown in tests/tests/contracts.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use proptest::prelude::*;
use sosna_contracts::payouts::{Line, Payouts, PayoutsError};
use sosna_protocol::{Address, Amount, Hash, payout};

fn line(at: usize, units: u128) -> Line {
    let mut device = [0x11; 20];
    device[12..].copy_from_slice(&(at as u64).to_be_bytes());
    Line { device: Address(device), cumulative: Amount::from_units(units) }
}

/// A tree, and which of its lines to prove.
fn trees() -> impl Strategy<Value = (Payouts, Vec<usize>)> {
    prop::collection::vec((any::<u64>(), any::<bool>()), 1..200).prop_map(|drawn| {
        let lines = drawn.iter().enumerate().map(|(at, (units, _))| line(at, u128::from(*units))).collect();
        let some: Vec<usize> = (0..drawn.len()).filter(|at| drawn[*at].1).collect();
        let some = if some.is_empty() { vec![drawn.len() - 1] } else { some };
        (Payouts::new(lines).unwrap(), some)
    })
}

proptest! {
    #[test]
    fn every_proof_leads_to_the_root((tree, some) in trees()) {
        let proof = tree.multiproof(&some).unwrap();
        prop_assert_eq!(proof.root(), Some(tree.root()));
        prop_assert_eq!(proof.lines.len() + proof.proof.len(), proof.flags.len() + 1);
        for at in some {
            let line = tree.lines()[at];
            let path = tree.path(at).unwrap();
            prop_assert!(path.len() <= payout::MAX_PATH);
            let climbed = payout::climb(&line.device, line.cumulative, tree.count(), &path);
            prop_assert_eq!(climbed, Some(tree.root()));
        }
    }

    #[test]
    fn nothing_else_leads_there((tree, some) in trees(), place in any::<prop::sample::Index>(), bit in 0_usize..256) {
        let at = some[place.index(some.len())];
        let (line, mut path) = (tree.lines()[at], tree.path(at).unwrap());
        let root = Some(tree.root());
        let more = line.cumulative.checked_add(Amount::from_units(1)).unwrap();
        prop_assert_ne!(payout::climb(&line.device, more, tree.count(), &path), root);
        prop_assert_ne!(payout::climb(&line.device, line.cumulative, tree.count() + 1, &path), root);
        path.push(Hash::ZERO);
        prop_assert_ne!(payout::climb(&line.device, line.cumulative, tree.count(), &path), root);
        path.pop();
        if !path.is_empty() {
            let one = place.index(path.len());
            path[one].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(payout::climb(&line.device, line.cumulative, tree.count(), &path), root);
        }
        // A multiproof with a hash too many, and one with a step too few.
        let mut proof = tree.multiproof(&some).unwrap();
        proof.proof.push(Hash::ZERO);
        prop_assert_eq!(proof.root(), None);
        proof.proof.pop();
        if proof.flags.pop().is_some() {
            prop_assert_ne!(proof.root(), root);
        }
    }
}

#[test]
fn what_is_no_tree_is_refused() {
    assert_eq!(Payouts::new(vec![]).unwrap_err(), PayoutsError::Empty);
    let twice = Payouts::new(vec![line(1, 1), line(2, 1), line(1, 3)]).unwrap_err();
    assert_eq!(twice, PayoutsError::Duplicate(line(1, 0).device));
    let much = Payouts::new(vec![line(1, u128::MAX), line(2, 1)]).unwrap_err();
    assert_eq!(much, PayoutsError::Overflow);
    let tree = Payouts::new(vec![line(1, 1), line(2, 2), line(3, 3)]).unwrap();
    assert_eq!((tree.count(), tree.total()), (3, Amount::from_units(6)));
    assert_eq!(tree.path(3), None);
    for wrong in [&[][..], &[3], &[1, 1], &[2, 1]] {
        assert_eq!(tree.multiproof(wrong).unwrap_err(), PayoutsError::NoSuchLines, "{wrong:?}");
    }
}

/// No path of any length leads anywhere in a tree of a number of lines that no tree has.
#[test]
fn counts_out_of_range_lead_nowhere() {
    let device = line(1, 0).device;
    for count in [0, payout::MAX_LINES + 1, u32::MAX] {
        for length in 0..=32 {
            assert_eq!(payout::climb(&device, Amount::ZERO, count, &vec![Hash::ZERO; length]), None);
        }
    }
}
