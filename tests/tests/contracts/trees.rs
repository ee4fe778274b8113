//! Trees, their roots and proofs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use alloy_primitives::U256;
use proptest::prelude::*;
use serde_json::{Value, json};
use sosna_contracts::{
    address, amount,
    bindings::HubWallet,
    hash,
    payouts::{Line, Payouts},
};
use sosna_protocol::{
    Address, Amount, Hash, eip712, eip712::Typed as _, hash::keccak256, identity::Sign as _, payout,
};
use xtask::paths::Tree;

use crate::scene::{Wallet, chain, key, runner};

/// A list, and which of it to prove together.
fn lists(most: usize) -> impl Strategy<Value = (Vec<Line>, Vec<usize>)> {
    // Up to what a wallet of the scene covers, with its lock.
    let amount = prop_oneof![Just(0), Just(1), 0..10_u128.pow(18), 0..50 * 10_u128.pow(18)];
    let one = (any::<u64>(), amount);
    prop::collection::vec((one, any::<bool>()), 1..=most).prop_map(|drawn| {
        let mut some: Vec<usize> = (0..drawn.len()).filter(|at| drawn[*at].1).collect();
        if some.is_empty() {
            some.push(drawn.len() / 2);
        }
        let line = |at: usize, ((number, units), _): ((u64, u128), bool)| Line {
            // Numbers repeat; devices must not.
            device: key((number << 16) + at as u64).address(),
            cumulative: Amount::from_units(units),
        };
        (drawn.into_iter().enumerate().map(|(at, one)| line(at, one)).collect(), some)
    })
}

#[test]
fn a_wallet_pays_by_proofs_made_here() {
    let Some(chain) = chain("a_wallet_pays_by_proofs_made_here") else { return };
    runner(24)
        .run(&lists(70), |(lines, some)| {
            let wallet = Wallet::new(&chain, key(1));
            let tree = Payouts::new(lines.clone()).unwrap();
            let post = HubWallet::postCall {
                root: hash(&tree.root()),
                total: amount(tree.total()),
                paidSeen: U256::ZERO,
            };
            chain.send(address(&wallet.hub.address()), wallet.at, &post).unwrap();
            let proof = tree.multiproof(&some).unwrap();
            let early = wallet.refusal(&proof.settle(0));
            prop_assert_eq!(
                early,
                HubWallet::HubWalletErrors::NoSuchRoot(HubWallet::NoSuchRoot { root: hash(&tree.root()) })
            );
            chain.wait(24 * 3600).unwrap();
            wallet.relay(&proof.settle(0)).unwrap();
            let mut paid = U256::ZERO;
            for at in &some {
                let device = address(&lines[*at].device);
                let known = wallet.ask(&HubWallet::accountOfCall { device });
                prop_assert_eq!(known.paid_, amount(lines[*at].cumulative));
                prop_assert_eq!(wallet.balance(device), amount(lines[*at].cumulative));
                paid += known.paid_;
            }
            prop_assert_eq!(wallet.ask(&HubWallet::settledCall {}), paid);
            prop_assert_eq!(wallet.ask(&HubWallet::committedCall {}), amount(tree.total()));
            // Again, with everybody: only those get something who have not.
            let all: Vec<usize> = (0..lines.len()).collect();
            wallet.relay(&tree.multiproof(&all).unwrap().settle(0)).unwrap();
            prop_assert_eq!(wallet.ask(&HubWallet::settledCall {}), amount(tree.total()));

            // One more unit than the tree has leads to no root.
            let mut more = proof.clone();
            more.lines[0].cumulative = more.lines[0].cumulative.checked_add(Amount::from_units(1)).unwrap();
            let led = hash(&more.root().unwrap());
            prop_assert_eq!(
                wallet.refusal(&more.settle(0)),
                HubWallet::HubWalletErrors::NoSuchRoot(HubWallet::NoSuchRoot { root: led })
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_device_claims_by_its_own_way_up() {
    let Some(chain) = chain("a_device_claims_by_its_own_way_up") else { return };
    runner(24)
        .run(&(lists(40), any::<u64>(), any::<u64>()), |((mut lines, some), to, fee)| {
            let wallet = Wallet::new(&chain, key(2));
            let at = some[0];
            let device = key(7);
            lines[at] =
                Line { device: device.address(), cumulative: Amount::from_units(1 + u128::from(fee)) };
            let tree = Payouts::new(lines).unwrap();
            let post = HubWallet::postCall {
                root: hash(&tree.root()),
                total: amount(tree.total()),
                paidSeen: U256::ZERO,
            };
            chain.send(address(&wallet.hub.address()), wallet.at, &post).unwrap();
            chain.wait(24 * 3600).unwrap();
            let path = tree.path(at).unwrap();
            let line = tree.lines()[at];
            let climbed = payout::climb(&line.device, line.cumulative, tree.count(), &path);
            prop_assert_eq!(climbed, Some(tree.root()));

            let to = key(to);
            let claim = eip712::Payout {
                wallet: wallet.domain().wallet,
                device: device.address(),
                to: to.address(),
                cumulative: line.cumulative,
                max_fee: Amount::from_units(u128::from(fee)),
                deadline: chain.now().unwrap() + 60,
            };
            let signature = claim.sign(&wallet.domain(), &device).unwrap();
            let call = HubWallet::claimCall {
                payout: (&claim).into(),
                signature: signature.0.to_vec().into(),
                proof: path.iter().map(hash).collect(),
                count: U256::from(tree.count()),
                fee: U256::from(fee / 2),
            };
            let before = wallet.balance(address(&to.address()));
            wallet.relay(&call).unwrap();
            let got = wallet.balance(address(&to.address())) - before;
            prop_assert_eq!(got, amount(line.cumulative) - U256::from(fee / 2));
            prop_assert_eq!(wallet.paid(&device), amount(line.cumulative));
            Ok(())
        })
        .unwrap();
}

/// A third peer, which shares no code with either side.
#[test]
fn openzeppelins_library_makes_the_same_trees() {
    let test = "openzeppelins_library_makes_the_same_trees";
    // For the packages of npm.
    let Some(_chain) = chain(test) else { return };
    let drawn = std::cell::RefCell::new(Vec::new());
    runner(60)
        .run(&lists(130), |list| {
            drawn.borrow_mut().push(list);
            Ok(())
        })
        .unwrap();
    let drawn = drawn.into_inner();
    let tag = keccak256(&[b"sosna payout tree v1"]);
    let cases: Vec<Value> = drawn
        .iter()
        .map(|(lines, some)| {
            let lines: Vec<Value> = lines
                .iter()
                .map(|line| {
                    json!([format!("0x{}", plain(&line.device)), line.cumulative.units().to_string()])
                })
                .collect();
            json!({ "tag": format!("0x{tag}"), "lines": lines, "some": some })
        })
        .collect();
    let root = Tree::find().unwrap().root().join("contracts");
    let mut node = Command::new("node")
        .arg("tests/tree.cjs")
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(&serde_json::to_vec(&cases).unwrap()).unwrap();
    let said = node.wait_with_output().unwrap();
    assert!(said.status.success());
    let answers: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(answers.len(), drawn.len());
    let hashes = |value: &Value| -> Vec<Hash> {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().parse().unwrap()).collect()
    };
    for ((lines, some), theirs) in drawn.iter().zip(answers) {
        let ours = Payouts::new(lines.clone()).unwrap();
        let top: Hash = theirs["top"].as_str().unwrap().parse().unwrap();
        assert_eq!(payout::root(ours.count(), &top), ours.root());
        for (at, path) in theirs["paths"].as_array().unwrap().iter().enumerate() {
            assert_eq!(ours.path(at).unwrap(), hashes(path));
        }
        let proof = ours.multiproof(some).unwrap();
        assert_eq!(proof.proof, hashes(&theirs["proof"]));
        let flags: Vec<bool> = serde_json::from_value(theirs["flags"].clone()).unwrap();
        assert_eq!(proof.flags, flags);
        let devices: Vec<Address> = theirs["devices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_lowercase().parse().unwrap())
            .collect();
        assert_eq!(proof.lines.iter().map(|line| line.device).collect::<Vec<_>>(), devices);
    }
}

fn plain(address: &Address) -> String {
    address.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
