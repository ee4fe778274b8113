//! A hub and its wallet on a chain: vouchers become a root, and anybody settles by it; what chains do to hubs.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{path::Path, time::Duration};

use alloy_primitives::U256;
use serde_json::Value;
use sosna_contracts::{
    address,
    bindings::{HubWallet, SNM},
    payouts::{Line, Payouts},
};
use sosna_protocol::Amount;
use sosna_tests::{
    books::{all_held, items, text, units},
    chain::{Anybody, Wallet, chain},
    node::FaultyNode,
    opening::{Opening, prepare},
    world::World,
};
use xtask::chain::DevChain;

/// Where no node is.
const NOBODY: &str = "http://127.0.0.1:9";

fn shown(world: &World) -> Value {
    world.ask(&world.admin(), &["wallet"])
}

/// Waits for a root over all that devices hold vouchers for, making blocks meanwhile.
fn settled(opening: &Opening, chain: &DevChain) -> Value {
    let world = &opening.world;
    world.until("vouchers", || all_held(&world.ask(&world.admin(), &["devices"])));
    let held: u128 = items(&world.ask(&world.admin(), &["devices"])["devices"])
        .iter()
        .map(|device| units(&device["held"]))
        .sum();
    world.until("a root on the chain", || {
        chain.wait(24 * 3600).unwrap();
        let newest = &shown(world)["roots"][0];
        !newest["active_ms"].is_null() && units(&newest["total"]) == held
    });
    world.ask(&world.admin(), &["payouts"])
}

fn tree(list: &Value) -> Payouts {
    let line = |line: &Value| Line {
        device: text(&line["device"]).parse().unwrap(),
        cumulative: text(&line["cumulative"]).parse().unwrap(),
    };
    Payouts::new(items(&list["lines"]).iter().map(line).collect()).unwrap()
}

#[test]
fn vouchers_become_a_root_and_anybody_settles_by_it() {
    const TEST: &str = "vouchers_become_a_root_and_anybody_settles_by_it";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let Some(chain) = chain(TEST) else { return };
    // Its first endpoint is nobody's.
    let node = FaultyNode::before(chain.url());
    let wallet = Wallet::of_hub(&mut world, &chain, &[NOBODY, chain.url(), &node.url()], 2);
    wallet.show_to_agents(&mut world, &[NOBODY, chain.url(), &node.url()]);
    let opening = Opening::start(world, image, &["one", "two"]);
    assert_eq!(opening.run(&["--verify", "replicate:2"], &["echo", "paid"]).ok(), "paid");
    let list = settled(&opening, &chain);
    let world = &opening.world;

    // The hub's list is what its devices hold, and what the chain has.
    let tree = tree(&list);
    assert_eq!(tree.count(), 2);
    let held = |device: &Value| (text(&device["address"]).to_owned(), units(&device["held"]));
    let devices = world.ask(&world.admin(), &["devices"]);
    let mut held: Vec<_> = items(&devices["devices"]).iter().map(held).collect();
    let mut listed: Vec<_> = items(&list["lines"])
        .iter()
        .map(|line| (text(&line["device"]).to_owned(), units(&line["cumulative"])))
        .collect();
    held.sort();
    listed.sort();
    assert_eq!(held, listed);
    assert_eq!(wallet.ask(&HubWallet::rootsCall {}).newest, sosna_contracts::hash(&tree.root()));

    // What devices hold was signed for this wallet.
    let status = world.agent_status(0);
    let signed = &status["earnings"]["signed"];
    assert_eq!(signed["chain_id"], chain.id().unwrap());
    assert_eq!(signed["wallet"], wallet.at.to_string());

    // One device's proof, and people's view.
    let proof = world.ask(&world.admin(), &["payouts", &listed[0].0]);
    assert_eq!(units(&proof["cumulative"]), listed[0].1);
    let seen = world.cli(&world.admin(), &["wallet"]);
    let seen = seen.ok();
    assert!(seen.contains("registered") && seen.contains("CLAIMABLE") && !seen.contains("TROUBLE"), "{seen}");

    // Somebody settles for all, once.
    let anybody = Anybody::new(world, &chain);
    let settle = || anybody.payouts(world, &["settle"]);
    let done = settle();
    assert!(done.ok().starts_with(&format!("paid         {} SNM to 2 devices", tree.total())), "{done}");
    for line in tree.lines() {
        assert_eq!(wallet.balance(address(&line.device)), sosna_contracts::amount(line.cumulative));
    }
    assert!(settle().ok().starts_with("nothing is owed: each of 2 devices"));
    world.until("the hub sees it", || units(&shown(world)["state"]["paid"]) == tree.total().units());

    // More work: the next root is over sums that have grown, and pays the difference.
    assert_eq!(opening.run(&["--verify", "replicate:2"], &["echo", "again"]).ok(), "again");
    opening.world.until("vouchers", || all_held(&world.ask(&world.admin(), &["devices"])));
    // One device does not wait for it: whoever has its voucher redeems it.
    let signed = world.agent_status(0)["earnings"]["signed"].clone();
    let device = address(&world.address(0).parse().unwrap());
    let cumulative: U256 = text(&signed["units"]).parse().unwrap();
    let redeem = HubWallet::redeemCall {
        vouchers: vec![HubWallet::SignedVoucher {
            voucher: HubWallet::Voucher {
                device,
                cumulative,
                receipts: text(&signed["receipts"]).parse().unwrap(),
            },
            signature: text(&signed["signature"]).parse().unwrap(),
        }],
        share: U256::ZERO,
    };
    wallet.relay(&redeem).unwrap();
    assert_eq!(wallet.balance(device), cumulative);
    // The other signs where its own goes; somebody brings that for a fee.
    let claim = world.agent_signs(1, &["claim", "--fee", "0.001"]);
    let relay = |more: &[&str]| anybody.relay(world, &claim, more);
    let fee = U256::from(10_u128.pow(15));
    let to = text(&claim["payout"]["to"]).parse().unwrap();
    let claimed: U256 = text(&claim["payout"]["cumulative"]).parse().unwrap();
    let before = (wallet.balance(to), wallet.paid_to(address(&world.address(1).parse().unwrap())));
    relay(&["--fee", "0.0011"]).fails(4, &["a fee of 0.0011 SNM is more than may be kept"]);
    assert!(relay(&[]).ok().contains("fee          0.001 SNM to"));
    assert_eq!(wallet.balance(to) - before.0 + fee, claimed - before.1);
    assert_eq!(wallet.balance(anybody.account), fee);
    relay(&[]).fails(4, &["SNM already"]);
    let next = self::tree(&settled(&opening, &chain));
    assert!(next.total() > tree.total());
    let _ = settle().ok();
    for line in next.lines() {
        assert_eq!(wallet.paid_to(address(&line.device)), sosna_contracts::amount(line.cumulative));
    }
    assert_eq!(wallet.ask(&HubWallet::settledCall {}), sosna_contracts::amount(next.total()));
    // What was redeemed while the hub counted may be committed twice, and never more than that.
    let committed = wallet.ask(&HubWallet::committedCall {});
    let total = sosna_contracts::amount(next.total());
    assert!(committed >= total && committed <= total + cumulative, "{committed} {total}");

    // Books that are in use are kept for this wallet.
    let mut opening = opening;
    opening.world.stop_hub();
    let other = opening.world.run(
        opening
            .world
            .hub_command(&opening.world.hub_data())
            .env("SOSNA_HUB_CHAIN_WALLET", chain.people.owner.to_string())
            .arg("serve"),
    );
    other.fails(1, &["these books are kept for the wallet ", "Set `[chain]` back"]);
    opening.world.start_hub();
    opening.world.until_online(2);
    opening.world.assert_books();
    opening.world.finish();
}

/// One course of mishaps: after each, work goes on, and everybody is owed what vouchers say, once.
#[test]
fn a_hub_keeps_its_word_whatever_the_chain_does() {
    const TEST: &str = "a_hub_keeps_its_word_whatever_the_chain_does";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(180)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let wallet = Wallet::of_hub(&mut world, &chain, &[chain.url()], 6);
    // What the chain takes back below is not the wallet.
    chain.mine(10).unwrap();
    let mut opening = Opening::start(world, image, &["one"]);

    // Killed after it has signed and sent; what was sent is forgotten by everybody. It sends the same again.
    chain.mine_by_itself(false).unwrap();
    assert_eq!(opening.run(&[], &["echo", "one"]).ok(), "one");
    let newest = |world: &World| shown(world)["roots"][0].clone();
    opening
        .world
        .until("a root that was sent", || newest(&opening.world)["transactions"][0]["state"] == "open");
    let sent = newest(&opening.world);
    assert!(sent["active_ms"].is_null());
    opening.world.kill_hub();
    chain.forget_waiting().unwrap();
    opening.world.start_hub();
    opening.world.until("the same again", || {
        chain.mine(1).unwrap();
        wallet.ask(&HubWallet::rootsCall {}).newest != alloy_primitives::B256::ZERO
    });
    let again = newest(&opening.world);
    assert_eq!(items(&again["transactions"]).len(), 1);
    assert_eq!(again["transactions"][0]["hash"], sent["transactions"][0]["hash"]);

    // The chain takes five blocks back, and the root with them.
    chain.mine(3).unwrap();
    chain.reorganise(5).unwrap();
    assert_eq!(wallet.ask(&HubWallet::rootsCall {}).newest, alloy_primitives::B256::ZERO);
    assert!(newest(&opening.world)["active_ms"].is_null(), "six blocks are asked for");
    chain.mine_by_itself(true).unwrap();
    let first = tree(&settled(&opening, &chain));
    assert_eq!(newest(&opening.world)["transactions"][0]["hash"], sent["transactions"][0]["hash"]);

    // Another program spends the transaction's place.
    chain.mine_by_itself(false).unwrap();
    opening.world.until_online(1);
    assert_eq!(opening.run(&[], &["echo", "two"]).ok(), "two");
    opening.world.until("a second root that was sent", || {
        newest(&opening.world)["transactions"][0]["state"] == "open"
            && newest(&opening.world)["root"] != first.root().to_string()
    });
    opening.world.kill_hub();
    chain.forget_waiting().unwrap();
    chain.mine_by_itself(true).unwrap();
    let nothing = SNM::approveCall { spender: chain.people.owner, value: U256::ZERO };
    chain.send(address(&wallet.hub_address()), chain.contracts.token, &nothing).unwrap();
    opening.world.start_hub();
    let second = tree(&settled(&opening, &chain));
    assert!(opening.world.hub_log().contains("was sent by another program"), "{}", opening.world.hub_log());
    assert!(second.total() > first.total());
    let roots = shown(&opening.world)["roots"].clone();
    let state = |at: usize| text(&roots[at]["transactions"][0]["state"]).to_owned();
    assert_eq!([state(0), state(1), state(2)], ["done", "replaced", "done"]);

    // A root that these books do not know: another hub's, or theirs before a restoration. None is posted over it.
    let unknown = HubWallet::postCall {
        root: alloy_primitives::B256::repeat_byte(7),
        total: wallet.ask(&HubWallet::committedCall {}),
        paidSeen: U256::ZERO,
    };
    chain.send(address(&wallet.hub_address()), wallet.at, &unknown).unwrap();
    chain.wait(24 * 3600).unwrap();
    opening.world.until_online(1);
    assert_eq!(opening.run(&[], &["echo", "three"]).ok(), "three");
    opening.world.until("the trouble told", || {
        shown(&opening.world)["trouble"].as_str().is_some_and(|said| said.contains("not in these books"))
    });
    assert_eq!(wallet.ask(&HubWallet::rootsCall {}).newest, unknown.root);
    let told = opening.world.cli(&opening.world.admin(), &["wallet"]);
    assert!(told.ok().contains("TROUBLE"), "{told}");

    // All in all: whoever settles by the last root that the hub knows pays each device its sum, once.
    let device = second.lines()[0].device;
    wallet.relay(&second.multiproof(&[0]).unwrap().settle(0)).unwrap();
    assert_eq!(wallet.balance(address(&device)), sosna_contracts::amount(second.total()));
    assert!(second.total() > Amount::ZERO);
    opening.world.assert_books();
    opening.world.finish();
}

/// Books from an old backup, at first beside the hub whose they were, and then in its place.
#[test]
fn a_second_hub_and_an_old_backup_take_nothing_from_anybody() {
    const TEST: &str = "a_second_hub_and_an_old_backup_take_nothing_from_anybody";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(180)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let wallet = Wallet::of_hub(&mut world, &chain, &[chain.url()], 1);
    let mut opening = Opening::start(world, image, &["one"]);
    assert_eq!(opening.run(&[], &["echo", "one"]).ok(), "one");
    let first = tree(&settled(&opening, &chain));
    let device = address(&first.lines()[0].device);
    let (backup, copy) = (opening.world.dir().join("backup"), opening.world.dir().join("copy"));
    let books = |data: &Path, what: &str| {
        let world = &opening.world;
        let done = world.run(world.hub_command(data).arg(what).arg(&backup));
        assert_eq!(done.code, Some(0), "{done}");
    };
    books(&opening.world.hub_data(), "backup");
    // What the backup does not know.
    assert_eq!(opening.run(&[], &["echo", "two"]).ok(), "two");
    let second = tree(&settled(&opening, &chain));
    assert!(second.total() > first.total());

    // A second hub with the same key and wallet tells, and leaves the wallet to the first, which goes on.
    books(&copy, "restore");
    let mut other = opening.world.start_other_hub(&copy);
    opening.world.until("the other tells", || {
        assert!(other.ended().is_none(), "{}", other.said());
        other.said().contains("another hub uses this wallet, or these books were restored")
    });
    assert_eq!(opening.run(&[], &["echo", "three"]).ok(), "three");
    let third = tree(&settled(&opening, &chain));
    assert_eq!(wallet.ask(&HubWallet::rootsCall {}).newest, sosna_contracts::hash(&third.root()));
    other.stop();
    let anybody = Anybody::new(&opening.world, &chain);
    assert!(anybody.payouts(&opening.world, &["settle"]).ok().starts_with("paid"));
    assert_eq!(wallet.balance(device), sosna_contracts::amount(third.total()));

    // The old books alone: the device proves what it is owed. No root is posted over the one that they do not know until
    // the operator says so; then the next is over all of it, and pays what is new, once.
    opening.world.kill_hub();
    opening.world.start_hub_on(&copy);
    opening.world.until_online(1);
    assert_eq!(opening.run(&[], &["echo", "four"]).ok(), "four");
    let world = &mut opening.world;
    world.until("the trouble told", || {
        shown(world)["trouble"].as_str().is_some_and(|said| said.contains("not in these books"))
    });
    world.until("vouchers", || all_held(&world.ask(&world.admin(), &["devices"])));
    assert_eq!(wallet.ask(&HubWallet::rootsCall {}).newest, sosna_contracts::hash(&third.root()));
    world.stop_hub();
    world.set_hub("chain.over_unknown_root", "true");
    world.start_hub_on(&copy);
    world.until_online(1);
    let last = tree(&settled(&opening, &chain));
    assert!(last.total() > third.total(), "{} {}", last.total(), third.total());
    assert!(anybody.payouts(&opening.world, &["settle"]).ok().starts_with("paid"));
    assert_eq!(wallet.balance(device), sosna_contracts::amount(last.total()));
    assert_eq!(wallet.ask(&HubWallet::paidCall {}), sosna_contracts::amount(last.total()));
    opening.world.finish();
}

/// Each thing that keeps a hub from posting is told in words, and is over when it is mended.
#[test]
fn what_keeps_a_hub_from_committing_is_told() {
    const TEST: &str = "what_keeps_a_hub_from_committing_is_told";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let wallet = Wallet::of_hub(&mut world, &chain, &[chain.url()], 1);
    let hub = address(&wallet.hub_address());
    world.set_hub("chain.most_gwei", "0");
    let mut opening = Opening::start(world, image, &["one"]);
    let until_told = |opening: &Opening, why: &str| {
        opening
            .world
            .until(why, || shown(&opening.world)["trouble"].as_str().is_some_and(|said| said.contains(why)));
    };
    assert_eq!(opening.run(&[], &["echo", "one"]).ok(), "one");
    until_told(&opening, "`chain.most_gwei` is 0: what is to be sent waits until it is cheaper");

    chain.set_ether(hub, U256::ZERO).unwrap();
    opening.world.stop_hub();
    opening.world.set_hub("chain.most_gwei", "100");
    opening.world.start_hub();
    until_told(&opening, "has 0.000 ether and a root may cost");
    assert_eq!(wallet.ask(&HubWallet::committedCall {}), U256::ZERO);
    chain.set_ether(hub, U256::from(10).pow(U256::from(18))).unwrap();
    let first = tree(&settled(&opening, &chain));
    assert_eq!(wallet.ask(&HubWallet::committedCall {}), sosna_contracts::amount(first.total()));

    // The owner has promised all that was free to somebody else.
    let lock = |free: U256| free * U256::from(100) / U256::from(130);
    for _ in 0..2 {
        let amount = lock(wallet.ask(&HubWallet::freeCall {}));
        let approve = HubWallet::approvePayoutCall { miner: chain.people.relayer, amount };
        chain.send(chain.people.owner, wallet.at, &approve).unwrap();
    }
    opening.world.until_online(1);
    assert_eq!(opening.run(&[], &["echo", "two"]).ok(), "two");
    until_told(&opening, "are needed for what devices are owed and the lock; send it some");

    // No block comes: more is offered, and more again, for the same place; one of them is taken.
    opening.world.stop_hub();
    let more = SNM::transferCall { to: wallet.at, value: U256::from(10).pow(U256::from(21)) };
    chain.send(chain.people.holder, chain.contracts.token, &more).unwrap();
    opening.world.set_hub("chain.raise_ms", "500");
    chain.mine_by_itself(false).unwrap();
    opening.world.start_hub();
    opening.world.until_online(1);
    let offered = |opening: &Opening| items(&shown(&opening.world)["roots"][0]["transactions"]).to_vec();
    opening.world.until("two more offers", || offered(&opening).len() >= 3);
    assert!(opening.world.hub_log().contains("more is offered for it"));
    let nonces: Vec<_> = offered(&opening).iter().map(|one| one["nonce"].clone()).collect();
    assert!(nonces.windows(2).all(|two| two[0] == two[1]), "{nonces:?}");
    chain.mine_by_itself(true).unwrap();
    let raised = tree(&settled(&opening, &chain));
    let states: Vec<_> = offered(&opening).iter().map(|one| text(&one["state"]).to_owned()).collect();
    assert_eq!(states.iter().filter(|state| *state == "done").count(), 1, "{states:?}");
    assert!(states.iter().all(|state| state == "done" || state == "replaced"), "{states:?}");
    assert!(raised.total() > first.total());
    assert_eq!(opening.run(&[], &["echo", "three"]).ok(), "three");

    // The period is over, and begins anew.
    chain.wait(60 * 24 * 3600).unwrap();
    chain.send(chain.people.owner, wallet.at, &HubWallet::paydayCall {}).unwrap();
    until_told(&opening, "the wallet's period is over, and no root can be posted");
    chain.send(chain.people.holder, chain.contracts.token, &more).unwrap();
    chain.send(chain.people.owner, wallet.at, &HubWallet::registerCall {}).unwrap();
    let second = tree(&settled(&opening, &chain));
    assert!(second.total() > raised.total());
    opening.world.until("no trouble", || shown(&opening.world)["trouble"].is_null());
    opening.world.assert_books();
    opening.world.finish();
}
