//! People are paid on a chain for what BOINC's own exports say that their computers did, and never twice.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{fs, path::Path, time::Duration};

use alloy_primitives::{Address, U256};
use serde_json::Value;
use sosna_protocol::Amount;
use sosna_tests::{
    books::{items, text, units},
    chain::{Anybody, Wallet, chain},
    program::Done,
    world::World,
};
use xtask::chain::DevChain;

const ADA: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const GRACE: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
const HIDDEN: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
const NEWCOMER: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";
/// Of computers 7 and 9, as the operator says.
const SEVEN: &str = "0x00000000000000000000000000000000000000A7";
const NINE: &str = "0x00000000000000000000000000000000000000A9";

struct Scene<'a> {
    world: World,
    wallet: Wallet<'a>,
    anybody: Anybody,
}

impl<'a> Scene<'a> {
    /// A hub with a wallet, and no devices.
    fn open(chain: &'a DevChain) -> Self {
        let mut world = World::new(Duration::from_secs(60));
        let wallet = Wallet::of_hub(&mut world, chain, &[chain.url()], 2);
        world.start_hub();
        let anybody = Anybody::new(&world, chain);
        Self { world, wallet, anybody }
    }

    /// `sosna boinc pay` with an export of `tests/boinc`.
    fn pay(&self, export: &str, more: &[&str]) -> Done {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("boinc").join(export);
        let file = |name: &str| folder.join(name).display().to_string();
        let (users, hosts) = (file("user.gz"), file("host.gz"));
        let line = ["boinc", "pay", "https://project.example/", "--users", &users, "--hosts", &hosts];
        self.world.cli(&self.world.admin(), &[&line[..], more].concat())
    }

    /// The same, as a program sees it.
    #[track_caller]
    fn paid(&self, export: &str, more: &[&str]) -> Value {
        serde_json::from_str(self.pay(export, &[more, &["--json"]].concat()).ok()).unwrap()
    }

    /// Has everybody paid whom the books owe so much in all, by a root.
    #[track_caller]
    fn settle(&self, total: &str) {
        let chain = self.wallet.chain;
        self.world.until("the root", || {
            chain.mine(1).unwrap();
            let list = self.world.cli(&self.world.admin(), &["payouts", "--json"]);
            list.code == Some(0) && {
                let list: Value = serde_json::from_str(list.ok()).unwrap();
                units(&list["total"]) == snm(total) && list["active_ms"].is_u64()
            }
        });
        chain.wait(24 * 3600).unwrap();
        let _ = self.anybody.payouts(&self.world, &["settle"]).ok();
    }

    #[track_caller]
    fn assert_has(&self, all: &[(&str, &str)]) {
        for (address, amount) in all {
            let address: Address = address.parse().unwrap();
            assert_eq!(self.wallet.balance(address), U256::from(snm(amount)), "{address}");
        }
    }
}

fn snm(text: &str) -> u128 {
    text.parse::<Amount>().unwrap().units()
}

fn passed_over(payment: &Value) -> Vec<(u64, &str)> {
    items(&payment["passed_over"])
        .iter()
        .map(|one| (one["user"].as_u64().unwrap(), text(&one["why"])))
        .collect()
}

#[test]
fn people_are_paid_on_the_chain_for_their_credit_and_not_twice() {
    const TEST: &str = "people_are_paid_on_the_chain_for_their_credit_and_not_twice";
    let Some(chain) = chain(TEST) else { return };
    let scene = Scene::open(&chain);
    let payees = scene.world.dir().join("payees.toml");
    let listed =
        format!("[hosts]\n7 = \"{SEVEN}\"\n9 = \"{NINE}\"\n70 = \"{NINE}\"\n[users]\n60 = \"{NINE}\"\n");
    fs::write(&payees, listed).unwrap();
    let payees = ["--payees", payees.to_str().unwrap()];

    // Looked at first: nothing happens.
    let rate = [&payees[..], &["--rate", "0.001", "--history"]].concat();
    let dry = scene.pay("first", &[&rate[..], &["--dry-run"]].concat());
    for said in [
        "4.200750001 SNM would be; nothing was done",
        "4200.750001 credit of 5 computers, 0.001 SNM a credit",
        "shows no computers",
        "whose capital letters do not fit",
    ] {
        assert!(dry.ok().contains(said), "{said}: {dry}");
    }
    for said in ["user 60 is not in the export of users", "computer 70 is not in the export of hosts"] {
        assert!(dry.err.contains(said), "{said}: {dry}");
    }
    scene
        .pay("first", &[&rate[..], &["--most", "4.2"]].concat())
        .fails(4, &["4.200750001 SNM would be paid, and at most 4.2 may be: nothing was paid"]);
    let none = scene.world.ask(&scene.world.admin(), &["boinc"]);
    assert!(items(&none["payments"]).is_empty());

    // Paid, once, and by the next root to whom it is owed.
    let first = scene.paid("first", &rate);
    assert_eq!(text(&first["amount"]), "4.200750001");
    let why = passed_over(&first);
    assert_eq!((why[0].0, why[1].0, why.len()), (3, 5, 2), "{why:?}");
    for more in [&rate[..], &[&payees[..], &["--pot", "1000"]].concat()] {
        let again = scene.pay("first", more);
        assert!(again.ok().contains("nothing: nobody who can be paid has new credit"), "{again}");
    }
    scene.settle("4.200750001");
    let all = [(ADA, "1.50075"), (GRACE, "2.000000001"), (SEVEN, "0.1"), (NINE, "0.6"), (HIDDEN, "0")];
    scene.assert_has(&all);
    assert!(scene.anybody.payouts(&scene.world, &["settle"]).ok().starts_with("nothing is owed"));

    // A day later: merged computers have done no work, who is new counts from now on, and an old export says nothing.
    let later = [&payees[..], &["--rate", "0.001"]].concat();
    let second = scene.paid("second", &later);
    let (amount, new) = (text(&second["amount"]), second["first_seen"].as_u64());
    assert_eq!((amount, new), ("0.4505", Some(2)), "{second}");
    for (export, more) in [("second", &later), ("first", &rate), ("second", &rate)] {
        assert_eq!(text(&scene.paid(export, more)["amount"]), "0", "{export}");
    }
    scene.settle("4.651250001");
    let all = [
        (ADA, "1.75075"),
        (GRACE, "2.000500001"),
        (SEVEN, "0.15"),
        (NINE, "0.75"),
        (HIDDEN, "0"),
        (NEWCOMER, "0"),
    ];
    scene.assert_has(&all);
    let list = scene.world.cli(&scene.world.admin(), &["boinc"]);
    assert!(list.ok().contains("project.example"), "{list}");
    let shown = scene.world.ask(&scene.world.admin(), &["boinc", "show", "1"]);
    assert_eq!(shown["lines"], first["lines"]);

    let paid = scene.wallet.ask(&sosna_contracts::bindings::HubWallet::settledCall {});
    assert_eq!(paid, U256::from(snm("4.651250001")));
    scene.world.finish();
}

#[test]
fn what_is_no_export_is_told_before_anything_happens() {
    const TEST: &str = "what_is_no_export_is_told_before_anything_happens";
    let Some(chain) = chain(TEST) else { return };
    let scene = Scene::open(&chain);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("boinc/first");
    let (users, hosts) = (folder.join("user.gz"), folder.join("host.gz"));
    let cut = scene.world.dir().join("cut.gz");
    let whole = fs::read(&hosts).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let page = scene.world.dir().join("page.html");
    fs::write(&page, "<html><body>404</body></html>").unwrap();
    for (users, hosts, code, said) in [
        (&hosts, &users, 2, "is an export of `hosts`, and one of `users` is wanted here"),
        (&users, &cut, 2, "cannot be read any further than byte"),
        (&page, &hosts, 2, "is an export of `html`"),
        (&users, &scene.world.dir().join("nowhere.gz"), 1, "nowhere.gz"),
    ] {
        let (users, hosts) = (users.display().to_string(), hosts.display().to_string());
        let line = [
            "boinc",
            "pay",
            "project.example",
            "--users",
            &users,
            "--hosts",
            &hosts,
            "--rate",
            "1",
            "--history",
        ];
        scene.world.cli(&scene.world.admin(), &line).fails(code, &[said]);
    }
    scene.pay("first", &["--rate", "1", "--pot", "1"]).fails(2, &["cannot be used with"]);
    scene.pay("first", &[]).fails(2, &["--rate <AMOUNT>|--pot <AMOUNT>"]);
    let buyer = scene.world.buyer("bob", "0");
    scene.world.cli(&buyer, &["boinc"]).fails(4, &["this is for operator and admin"]);
    let none = scene.world.ask(&scene.world.admin(), &["boinc"]);
    assert!(items(&none["payments"]).is_empty());
    scene.world.finish();
}
