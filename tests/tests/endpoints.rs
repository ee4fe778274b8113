//! Nodes of the chain that are away, slow, lost, or lie: what a device believes, and what a hub does.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use alloy_primitives::U256;
use serde_json::Value;
use sosna_contracts::{
    address,
    bindings::{HubWallet, SNM},
};
use sosna_tests::{
    books::{all_held, items, text, units},
    chain::{Anybody, Wallet, chain},
    node::{Fault, FaultyNode},
    opening::{Opening, prepare},
    world::World,
};

/// What a device says of the hub's wallet.
fn seen(world: &World) -> Value {
    world.agent_status(0)["wallet"].clone()
}

fn words(world: &World) -> String {
    text(&seen(world)["words"]).to_owned()
}

/// Waits until the device checks, or does not check, for a reason with these words.
fn until_seen(world: &World, is_checked: bool, why: &str) {
    world.until(&format!("the wallet seen: {is_checked}, {why}"), || {
        let seen = seen(world);
        seen["is_checked"] == is_checked && text(&seen["words"]).contains(why)
    });
}

/// Waits until the device has refused something of a job for this reason.
fn until_refused(world: &World, job: &str, reason: &str) {
    world.until(&format!("a refusal for {reason}"), || {
        let job = world.job(job);
        items(&job["tasks"])
            .iter()
            .flat_map(|task| items(&task["assignments"]))
            .any(|assignment| assignment["refusal"] == reason)
    });
}

#[test]
fn a_device_sees_for_itself_whether_its_hub_can_pay() {
    const TEST: &str = "a_device_sees_for_itself_whether_its_hub_can_pay";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(180)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let node = FaultyNode::before(chain.url());
    let wallet = Wallet::of_hub(&mut world, &chain, &[chain.url()], 1);
    wallet.show_to_agents(&mut world, &[chain.url(), &node.url()]);
    world.set_hub("times.ask_again_ms", "500");
    // A small task costs 0.0362: at first one, then five of them.
    world.set_agents("exposure.start", "0.05");
    world.set_agents("exposure.limit", "0.2");
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let vouchered = || world.until("vouchers", || all_held(&world.ask(&world.admin(), &["devices"])));

    // Work names the wallet. Once the hub has signed for something, the device risks more than at first.
    assert_eq!(opening.run(&[], &["echo", "one"]).ok(), "one");
    vouchered();
    until_seen(world, true, "registered");
    assert_eq!(opening.run(&["--tasks", "4"], &["true"]).code, Some(0));
    vouchered();
    let block = seen(world)["block"].as_u64().unwrap();
    chain.mine(3).unwrap();
    world.until("newer blocks", || seen(world)["block"].as_u64().is_some_and(|now| now >= block + 3));
    assert_eq!(units(&seen(world)["unbacked"]), 0);

    // To whom the device is paid in bulk is its own word, once.
    let payee = world.agent_signs(0, &["payee", "--share", "20"]);
    let anybody = Anybody::new(world, &chain);
    assert!(anybody.relay(world, &payee, &[]).ok().contains("may keep 2.0 % of each payment"));
    let device = address(&world.address(0).parse().unwrap());
    assert_eq!(wallet.ask(&HubWallet::accountOfCall { device }).sharePerMille, U256::from(20));
    anybody.relay(world, &payee, &[]).fails(4, &["it has been used"]);
    world.until("it sees that", || seen(world)["payee_nonce"] == 1);
    assert_eq!(world.agent_signs(0, &["payee"])["payee"]["nonce"], 1);

    // The root's line: the device holds what it will be paid by.
    world.until("the line of a root over all of it", || {
        chain.wait(24 * 3600).unwrap();
        let earnings = &world.agent_status(0)["earnings"];
        items(&earnings["lines"]).iter().any(|line| line["cumulative"] == earnings["voucher"])
    });

    // One node lies, or has other blocks: nothing is believed from then on, and little risked.
    for fault in [Fault::Lying, Fault::Forked] {
        node.set(fault);
        until_seen(world, false, "nodes disagree about block");
        let job = opening.submit(&[], &["echo", "later"]);
        until_refused(world, &job, "exposure");
        node.set(Fault::None);
        until_seen(world, true, "registered");
        let _ = world.until_over(&job);
        vouchered();
    }
    // One that is of another chain, away, or slow says nothing; what was seen counts for a while.
    for (fault, why) in [
        (Fault::OtherChain, "is of chain 7, not "),
        (Fault::Down, "it answers HTTP 503"),
        (Fault::Slow(Duration::from_secs(3)), "two nodes must agree"),
    ] {
        node.set(fault);
        until_seen(world, false, why);
        node.set(Fault::None);
        until_seen(world, true, "registered");
    }
    // One that says to be ahead keeps nobody from agreeing on what both know.
    node.set(Fault::Ahead(1000));
    chain.mine(1).unwrap();
    let block = seen(world)["block"].as_u64().unwrap();
    world.until("newer blocks", || seen(world)["block"].as_u64().is_some_and(|now| now > block));
    assert_eq!(words(world), "registered");
    node.set(Fault::None);

    // All that is free is promised to somebody else: what no root has yet is not covered, and counts as owed.
    let all = wallet.ask(&HubWallet::freeCall {});
    let most = all * U256::from(100) / U256::from(130) - U256::from(10).pow(U256::from(18));
    let approve = HubWallet::approvePayoutCall { miner: chain.people.relayer, amount: most };
    chain.send(chain.people.owner, wallet.at, &approve).unwrap();
    let drained = HubWallet::approvePayoutCall {
        miner: chain.people.relayer,
        amount: wallet.ask(&HubWallet::freeCall {}) * U256::from(100) / U256::from(130),
    };
    chain.send(chain.people.owner, wallet.at, &drained).unwrap();
    let job = opening.submit(&["--tasks", "8"], &["true"]);
    until_refused(world, &job, "exposure");
    assert!(units(&seen(world)["unbacked"]) > 0, "{}", seen(world));
    let more = SNM::transferCall { to: wallet.at, value: U256::from(10).pow(U256::from(20)) };
    chain.send(chain.people.holder, chain.contracts.token, &more).unwrap();
    let _ = world.until_over(&job);
    vouchered();

    // The DAO suspects the wallet: no more work for it. What a root has committed is paid all the same.
    world.until("the line of a root over all of it", || {
        chain.wait(24 * 3600).unwrap();
        let earnings = &world.agent_status(0)["earnings"];
        items(&earnings["lines"]).iter().any(|line| line["cumulative"] == earnings["voucher"])
    });
    chain.wait(24 * 3600).unwrap();
    chain.send(chain.people.dao, wallet.at, &HubWallet::suspectCall {}).unwrap();
    until_seen(world, true, "the DAO suspects");
    let job = opening.submit(&[], &["echo", "never"]);
    until_refused(world, &job, "wallet");
    let claim = world.agent_signs(0, &["claim", "--by-root", "--fee", "0.01"]);
    let done = anybody.relay(world, &claim, &[]);
    assert!(done.ok().contains("fee          0.01 SNM to"), "{done}");
    let cumulative: U256 = text(&claim["payout"]["cumulative"]).parse().unwrap();
    assert_eq!(wallet.balance(device) + wallet.balance(anybody.account), cumulative);
    assert_eq!(wallet.balance(anybody.account), U256::from(10_u64.pow(16)));
    anybody.relay(world, &claim, &[]).fails(4, &["SNM already"]);
    world.until("it sees what it was paid", || {
        seen(world)["paid"] == world.agent_status(0)["earnings"]["voucher"]
    });
    let _ = world.cli(&opening.alice, &["cancel", &job]).ok();
    world.assert_books();
    opening.world.finish();
}

#[test]
fn a_hub_believes_no_node_by_itself() {
    const TEST: &str = "a_hub_believes_no_node_by_itself";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let node = FaultyNode::before(chain.url());
    let wallet = Wallet::of_hub(&mut world, &chain, &[&node.url(), chain.url()], 1);
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let shown = || world.ask(&world.admin(), &["wallet"]);
    let until_trouble = |why: &str| {
        world.until(why, || shown()["trouble"].as_str().is_some_and(|said| said.contains(why)));
    };
    let until_well = || world.until("no trouble", || shown()["trouble"].is_null());

    // The first node says that what was sent is in a block. It is not, and the hub does not conclude it.
    chain.mine_by_itself(false).unwrap();
    node.set(Fault::Everything);
    assert_eq!(opening.run(&[], &["echo", "one"]).ok(), "one");
    until_trouble("say different things about transaction");
    let root = &shown()["roots"][0];
    assert!(root["active_ms"].is_null() && root["transactions"][0]["state"] == "open", "{root}");

    // With the other away nothing is concluded either; the first is honest again, and not enough.
    node.set(Fault::None);
    until_well();
    chain.mine_by_itself(true).unwrap();
    chain.mine(1).unwrap();
    world.until("the root certain", || !shown()["roots"][0]["active_ms"].is_null());

    // Nodes that are slow, away, or of another chain are passed over for the other. What happens meanwhile is seen by
    // one alone, and waits for the other.
    chain.wait(24 * 3600).unwrap();
    for (fault, why) in [
        (Fault::Slow(Duration::from_secs(5)), "counts when two say so"),
        (Fault::Down, "counts when two say so"),
        (Fault::OtherChain, "is of chain 7, not "),
    ] {
        node.set(fault);
        let before = wallet.ask(&HubWallet::rootsCall {}).newest;
        world.until_online(1);
        assert_eq!(opening.run(&[], &["echo", "more"]).ok(), "more");
        world.until("a root", || wallet.ask(&HubWallet::rootsCall {}).newest != before);
        until_trouble(why);
        node.set(Fault::None);
        until_well();
        world.until("the root certain", || !shown()["roots"][0]["active_ms"].is_null());
        chain.wait(24 * 3600).unwrap();
    }
    world.assert_books();
    opening.world.finish();
}
