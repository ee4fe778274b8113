//! Buyers' deposits on a chain: seen, credited, worked for as far as the buyer signs, brought to the hub's wallet, and
//! taken back.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use alloy_primitives::{Address, B256, U256};
use serde_json::Value;
use sosna_contracts::{
    amount,
    bindings::{HubWallet, SNM},
};
use sosna_protocol::Amount;
use sosna_tests::{
    books::{items, text, units},
    chain::{Anybody, Wallet, chain},
    node::{Fault, FaultyNode},
    opening::{Opening, prepare},
    program::Done,
    world::{Person, World},
};
use xtask::chain::DevChain;

/// What a small task costs.
const PRICE: u128 = 36_225_000_000_000_000;

/// A buyer whom nobody has granted anything.
struct Buyer<'a> {
    person: Person,
    account: Anybody,
    wallet: &'a Wallet<'a>,
}

impl<'a> Buyer<'a> {
    /// With so many SNM and ether on the chain.
    fn new(world: &World, wallet: &'a Wallet<'a>, snm: &str) -> Self {
        let (person, account) = (world.buyer("bob", "0"), Anybody::new(world, wallet.chain));
        let call = SNM::transferCall { to: account.account, value: snm_units(snm) };
        wallet.chain.send(wallet.chain.people.holder, wallet.chain.contracts.token, &call).unwrap();
        Self { person, account, wallet }
    }

    /// `sosna deposits` with these arguments.
    fn deposits(&self, world: &World, arguments: &[&str]) -> Done {
        let line = [&["deposits"], arguments, &["--key", self.account.key()]].concat();
        world.cli(&self.person, &line)
    }

    /// The same on the chain.
    fn act(&self, world: &World, arguments: &[&str]) -> Done {
        let escrow = self.wallet.chain.contracts.escrow.to_string();
        self.deposits(
            world,
            &[arguments, &["--endpoint", self.wallet.chain.url(), "--escrow", &escrow]].concat(),
        )
    }

    /// What the hub has seen of it.
    fn seen(&self, world: &World) -> Value {
        let list = world.ask(&self.person, &["deposits"]);
        items(&list["deposits"]).first().cloned().unwrap_or_default()
    }

    fn available(&self, world: &World) -> u128 {
        let ledger = world.ask(&self.person, &["ledger"]);
        units(&items(&ledger["accounts"])[0]["available"])
    }

    /// Waits until the hub has seen so much of a field, making blocks meanwhile.
    #[track_caller]
    fn until_seen(&self, world: &World, field: &str, wanted: u128) {
        world.until(field, || {
            self.wallet.chain.mine(1).unwrap();
            units(&self.seen(world)[field]) == wanted
        });
    }
}

fn snm_units(snm: &str) -> U256 {
    amount(snm.parse::<Amount>().unwrap())
}

/// A hub that looks at deposits, and lets so much work go unsigned.
fn prepared<'a>(world: &mut World, chain: &'a DevChain, endpoints: &[&str], exposure: &str) -> Wallet<'a> {
    let wallet = Wallet::of_hub(world, chain, endpoints, 2);
    world.set_hub("chain.escrow", &chain.contracts.escrow.to_string());
    world.set_hub("chain.buyer_exposure", exposure);
    world.set_hub("chain.redeem_ms", "0");
    world.set_hub("chain.redeem_least", "0.000001");
    wallet
}

/// Why a job's first task is not placed.
fn waits_for(job: &Value) -> Option<&str> {
    let unplaced = &items(&job["tasks"])[0]["unplaced_reason"];
    unplaced["excluded"].as_array()?.first()?["constraint"].as_str()
}

fn submit(opening: &Opening, buyer: &Buyer<'_>, word: &str) -> String {
    let line = ["--memory", "64M", "--disk", "8M", &opening.image, "--", "echo", word];
    opening.world.submit(&buyer.person, &line)
}

#[test]
fn a_buyer_deposits_signs_for_work_and_takes_back_the_rest() {
    const TEST: &str = "a_buyer_deposits_signs_for_work_and_takes_back_the_rest";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let wallet = prepared(&mut world, &chain, &[chain.url()], "0.05");
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let buyer = Buyer::new(world, &wallet, "3");
    let had = wallet.balance(wallet.at);

    // Nothing without the escrow's name from somebody else, and not into another one.
    buyer
        .deposits(world, &["put", "1", "--endpoint", chain.url()])
        .fails(2, &["name the contract that you deposit in", "find out from others"]);
    let other = Address::repeat_byte(7).to_string();
    buyer
        .deposits(world, &["put", "1", "--endpoint", chain.url(), "--escrow", &other])
        .fails(4, &["it would not count as credit; nothing was sent"]);
    buyer.act(world, &["put", "3.5"]).fails(4, &["has 3 SNM and 3.5 are needed"]);
    assert!(buyer.seen(world).is_null());

    // A deposit is credit once it is under enough blocks.
    let put = buyer.act(world, &["put", "1"]);
    assert!(put.ok().contains("1 SNM; 1 in all for the wallet"), "{put}");
    buyer.until_seen(world, "deposited", Amount::SNM.units());
    assert_eq!(buyer.available(world), Amount::SNM.units());

    // The first job goes unsigned, the second waits for a signature.
    let first = world.until_over(&submit(&opening, &buyer, "one"));
    assert_eq!((text(&first["state"]), units(&first["price"]["spent"])), ("succeeded", PRICE));
    let second = submit(&opening, &buyer, "two");
    world.until("the reason", || waits_for(&world.job(&second)) == Some("confirmation"));
    assert!(world.cli(&buyer.person, &["job", &second]).ok().contains("`sosna deposits confirm` signs"));
    buyer
        .deposits(world, &["confirm", "--most", "0.03"])
        .fails(4, &["0.036225 SNM are to be signed for, and --most is 0.03: nothing was signed"]);
    assert!(buyer.deposits(world, &["confirm"]).ok().contains("signed for  0.036225 SNM"));
    assert_eq!(text(&world.until_over(&second)["state"]), "succeeded");

    // What is signed for comes to the wallet, by the hub itself.
    buyer.until_seen(world, "claimed", PRICE);
    assert_eq!(wallet.balance(wallet.at) - had, U256::from(PRICE));
    assert!(buyer.deposits(world, &["confirm"]).ok().contains("0.07245 SNM"));
    let again = buyer.deposits(world, &["confirm"]);
    let _ = again.ok();
    assert!(again.err.contains("there is nothing new to sign for"), "{again}");
    buyer.until_seen(world, "claimed", 2 * PRICE);

    // A buyer who goes on signing keeps a job going that is worth more than may go unsigned.
    let follow = ["deposits", "confirm", "--follow", "--every", "200ms", "--key", buyer.account.key()];
    let mut follow = world.cli_command(&buyer.person, &follow).stdout(Stdio::null()).spawn().unwrap();
    let line = ["--memory", "64M", "--disk", "8M", "--tasks", "3", &opening.image, "--", "echo", "on"];
    let long = world.until_over(&world.submit(&buyer.person, &line));
    assert_eq!((text(&long["state"]), units(&long["price"]["spent"])), ("succeeded", 3 * PRICE));
    buyer.until_seen(world, "confirmed", 5 * PRICE);
    assert!(Command::new("kill").args(["-INT", &follow.id().to_string()]).status().unwrap().success());
    assert!(follow.wait().unwrap().success());
    buyer.until_seen(world, "claimed", 5 * PRICE);

    // Who announces to leave is trusted with nothing more than is signed for.
    buyer.act(world, &["take-back", "all"]).fails(4, &["it was not announced"]);
    assert!(buyer.act(world, &["notice"]).ok().contains("take back    in 7d"));
    assert!(buyer.act(world, &["notice"]).ok().contains("was given before; nothing was sent"));
    world.until("the hub sees it", || {
        chain.mine(1).unwrap();
        !buyer.seen(world)["open_ms"].is_null()
    });
    let third = submit(&opening, &buyer, "three");
    world.until("the reason", || waits_for(&world.job(&third)) == Some("confirmation"));
    let _ = buyer.deposits(world, &["confirm", "--ahead", "0.1"]).ok();
    assert_eq!(text(&world.until_over(&third)["state"]), "succeeded");
    let signed = 5 * PRICE + 10_u128.pow(17);
    buyer.until_seen(world, "claimed", signed);
    buyer.act(world, &["take-back", "all"]).fails(4, &["it is too early: this is possible in"]);
    chain.wait(7 * 24 * 3600).unwrap();
    let taken = buyer.act(world, &["take-back", "all"]);
    assert!(taken.ok().contains("0.718875 SNM; 0 are left"), "{taken}");
    buyer.until_seen(world, "deposited", signed);

    // To the last unit, on the chain and in the books: what was given ahead and not worked for is still credit.
    let left = wallet.balance(buyer.account.account);
    assert_eq!(left, snm_units("3") - U256::from(signed));
    assert_eq!(wallet.balance(wallet.at) - had, U256::from(signed));
    assert_eq!(wallet.balance(chain.contracts.escrow), U256::ZERO);
    assert_eq!(buyer.available(world), signed - 6 * PRICE);
    let ledger = world.ask(&buyer.person, &["ledger"]);
    let kinds: Vec<_> = items(&ledger["entries"]).iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "deposit").count(), 1, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "taken_back").count(), 1, "{kinds:?}");
    world.assert_books();

    // A hub that has taken deposits cannot look away.
    let mut opening = opening;
    opening.world.stop_hub();
    let away = opening.world.run(
        opening.world.hub_command(&opening.world.hub_data()).env("SOSNA_HUB_CHAIN_ESCROW", "").arg("serve"),
    );
    away.fails(1, &["buyers of this hub deposit in the escrow", "set `chain.escrow` back"]);
    opening.world.start_hub();
    opening.world.until_online(1);
    opening.world.finish();
}

#[test]
fn a_deposit_counts_when_two_nodes_say_so_and_as_long_as_it_is_there() {
    const TEST: &str = "a_deposit_counts_when_two_nodes_say_so_and_as_long_as_it_is_there";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let node = FaultyNode::before(chain.url());
    let wallet = prepared(&mut world, &chain, &[chain.url(), &node.url()], "1");
    // What the chain takes back below is not the wallet, nor the buyer's SNM.
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let buyer = Buyer::new(world, &wallet, "3");
    chain.mine(10).unwrap();

    node.set(Fault::Lying);
    let _ = buyer.act(world, &["put", "2"]).ok();
    let told = |why: &str| {
        world.until(why, || {
            chain.mine(1).unwrap();
            let shown = world.ask(&world.admin(), &["wallet"]);
            shown["trouble"].as_str().is_some_and(|said| said.contains(why))
        });
    };
    told("say different things about the deposit of");
    assert_eq!((units(&buyer.seen(world)["deposited"]), buyer.available(world)), (0, 0));
    node.set(Fault::Down);
    told("what has happened counts when two say so");
    assert_eq!(buyer.available(world), 0);
    node.set(Fault::None);
    buyer.until_seen(world, "deposited", 2 * Amount::SNM.units());

    // Some of it is held by a job that waits for a device of nowhere when the chain takes the deposit back.
    let line = ["--region", "nowhere", "--max-price", "1.5", &opening.image, "--", "echo", "never"];
    let held = world.submit(&buyer.person, &line);
    assert_eq!(buyer.available(world), Amount::SNM.units() / 2);
    let before = chain.height().unwrap();
    let _ = buyer.act(world, &["put", "1"]).ok();
    buyer.until_seen(world, "deposited", 3 * Amount::SNM.units());
    chain.reorganise(chain.height().unwrap() - before).unwrap();
    buyer.until_seen(world, "deposited", 2 * Amount::SNM.units());
    assert_eq!(buyer.available(world), Amount::SNM.units() / 2);
    let _ = world.cli(&buyer.person, &["cancel", &held]).ok();
    assert_eq!(buyer.available(world), 2 * Amount::SNM.units());
    opening.world.assert_books();
    opening.world.finish();
}

#[test]
fn a_doubted_deposit_keeps_no_device_from_being_paid() {
    const TEST: &str = "a_doubted_deposit_keeps_no_device_from_being_paid";
    let Some((mut world, image)) = prepare(TEST, Duration::from_secs(120)) else { return };
    let Some(chain) = chain(TEST) else { return };
    let node = FaultyNode::before(chain.url());
    let wallet = prepared(&mut world, &chain, &[chain.url(), &node.url()], "1");
    let opening = Opening::start(world, image, &["one"]);
    let world = &opening.world;
    let buyer = Buyer::new(world, &wallet, "3");
    let _ = buyer.act(world, &["put", "2"]).ok();
    buyer.until_seen(world, "deposited", 2 * Amount::SNM.units());

    // What the buyer signs for is due at once, and of the deposit there are two opinions.
    node.set(Fault::Lying);
    let _ = buyer.deposits(world, &["confirm", "--ahead", "0.5"]).ok();
    let done = world.until_over(&submit(&opening, &buyer, "one"));
    assert_eq!(text(&done["state"]), "succeeded");
    world.until("the root", || {
        chain.mine(1).unwrap();
        wallet.ask(&HubWallet::rootsCall {}).newest != B256::ZERO
    });
    let shown = world.ask(&world.admin(), &["wallet"]);
    assert!(!items(&shown["roots"]).is_empty(), "{shown}");
    assert_eq!(units(&buyer.seen(world)["claimed"]), 0);

    node.set(Fault::None);
    buyer.until_seen(world, "claimed", Amount::SNM.units() / 2);
    world.assert_books();
    opening.world.finish();
}
