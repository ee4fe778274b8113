//! `sosna hubs` and `sosna payouts` on a chain, as owners of wallets and anybody with a key run them: whatever fails, the
//! same command again does what is left, and nothing twice.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use alloy_primitives::U256;
use serde_json::Value;
use sosna_agent::{
    identity::key_path,
    status::{Earnings, Signed},
    wallet::{
        claim::{self, Wish},
        keystore,
    },
};
use sosna_api::wallet::{PayoutLine, PayoutList};
use sosna_contracts::{
    address, amount,
    bindings::{HubWallet, HubWalletFactory, SNM},
    hash,
    payouts::{Line, Payouts},
};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Address, Amount, Hash,
    eip712::{Typed as _, Voucher},
    identity::Sign as _,
};
use sosna_tests::{
    books::{items, text},
    chain::{Wallet, chain},
    program::{Done, built, run},
};
use tempfile::TempDir;
use xtask::chain::DevChain;

const DAY: u64 = 24 * 3600;

/// Somebody with a key, at the command line.
struct Person<'a> {
    chain: &'a DevChain,
    home: TempDir,
    key: IdentityKey,
}

impl<'a> Person<'a> {
    /// Without ether.
    fn new(chain: &'a DevChain) -> Self {
        let home = tempfile::tempdir().unwrap();
        // Where `sosna owner key` keeps it.
        let folder = home.path().join(".config/sosna");
        fs::create_dir_all(&folder).unwrap();
        let key = IdentityKey::load_or_create(&folder.join("owner.key")).unwrap();
        Self { chain, home, key }
    }

    /// With ether, and so many SNM.
    fn with_money(chain: &'a DevChain, snm: u128) -> Self {
        let person = Self::new(chain);
        chain.adopt(person.account()).unwrap();
        person.gets(snm);
        person
    }

    fn gets(&self, snm: u128) {
        let call = SNM::transferCall { to: self.account(), value: units(snm) };
        self.chain.send(self.chain.people.holder, self.chain.contracts.token, &call).unwrap();
    }

    fn account(&self) -> alloy_primitives::Address {
        address(&self.key.address())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("sosna"));
        command.args(arguments).current_dir(self.home.path()).env_clear();
        command
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("SOSNA_ENDPOINT", self.chain.url())
            .env("SOSNA_FACTORY", self.chain.contracts.factory.to_string());
        command
    }

    fn finish(&self, command: &mut Command) -> Done {
        run(command, self.home.path(), Duration::from_secs(30))
    }

    fn says(&self, arguments: &[&str]) -> Done {
        self.finish(&mut self.command(arguments))
    }

    #[track_caller]
    fn asks(&self, arguments: &[&str]) -> Value {
        let done = self.says(&[arguments, &["--json"]].concat());
        serde_json::from_str(done.ok()).unwrap_or_else(|error| panic!("{error} in {done}"))
    }

    /// SNM of an account.
    fn balance(&self, account: alloy_primitives::Address) -> U256 {
        let call = SNM::balanceOfCall { account };
        self.chain.ask(account, self.chain.contracts.token, &call).unwrap()
    }
}

fn units(snm: u128) -> U256 {
    U256::from(snm) * U256::from(10_u128.pow(18))
}

fn shown(key: &IdentityKey) -> String {
    key.address().checksummed().as_str().to_owned()
}

/// Which steps of a registration took a transaction.
fn steps(done: &Value) -> Vec<(&str, bool)> {
    items(&done["steps"]).iter().map(|step| (text(&step["step"]), !step["transaction"].is_null())).collect()
}

#[test]
fn an_owner_gives_a_hub_a_wallet_and_looks_after_it() {
    let Some(chain) = chain("an_owner_gives_a_hub_a_wallet_and_looks_after_it") else { return };
    let owner = Person::new(&chain);
    let hub = shown(&IdentityKey::generate());
    let words = ["hubs", "register", "--hub-key", &hub, "--name", "Pine", "--url", "https://hub.example"];
    let register = |more: &[&str]| owner.says(&[&words, more].concat());
    let wallets = || {
        let call = HubWalletFactory::walletsOfCall { owner: owner.account() };
        chain.ask(owner.account(), chain.contracts.factory, &call).unwrap()
    };

    // Nothing to pay gas with; then a block that does not come.
    register(&[]).fails(4, &["has 0 ether", &shown(&owner.key)]);
    chain.adopt(owner.account()).unwrap();
    chain.mine_by_itself(false).unwrap();
    register(&["--wait", "1s"]).fails(5, &["transaction 0x", "Nothing is lost", "Repeat the command"]);
    register(&["--wait", "1s"]).fails(5, &["was sent before", "nothing is done twice"]);
    chain.mine_by_itself(true).unwrap();
    chain.mine(1).unwrap();
    // The wallet is there; there is nothing to register it with.
    register(&[]).fails(4, &["is not funded", "holds 0 SNM and must hold 1", "--fund AMOUNT"]);
    register(&["--fund", "10"]).fails(4, &["has 0 SNM and 10 are needed"]);
    owner.gets(100);
    fs::write(owner.path("about.md"), "a hub between pines").unwrap();
    let done = register(&["--fund", "10", "--details", "about.md"]);
    let wallet = wallets()[0];
    let id = chain.id().unwrap();
    let url = chain.url().trim_end_matches('/');
    assert_eq!(done.ok(), format!("[chain]\nid = {id}\nwallet = \"{wallet}\"\nendpoints = [\"{url}\"]"));
    assert!(done.err.contains("has no ether"), "the hub's key: {done}");
    assert_eq!(wallets().len(), 1, "one wallet, however often it was tried");

    // Again: nothing. More funds: the difference. An interruption there: no second transfer.
    let again = owner.asks(&[&words[..], &["--fund", "10"]].concat());
    let nothing = [("make", false), ("fund", false), ("register", false), ("describe", false)];
    assert_eq!(steps(&again), nothing);
    assert_eq!((text(&again["phase"]), text(&again["gas_ether"])), ("registered", "0"));
    let more = owner.asks(&[&words[..], &["--fund", "25"]].concat());
    assert_eq!(steps(&more)[1], ("fund", true));
    assert_eq!((owner.balance(wallet), owner.balance(owner.account())), (units(25), units(75)));
    chain.mine_by_itself(false).unwrap();
    register(&["--fund", "40", "--wait", "1s"]).fails(5, &["Nothing is lost"]);
    register(&["--fund", "40", "--wait", "1s"]).fails(5, &["nothing is done twice"]);
    // Stuck: another in its place, which offers more each time.
    let mut offered = vec![chain.waiting(owner.account()).unwrap()];
    for _ in 0..2 {
        register(&["--fund", "40", "--replace", "--wait", "1s"]).fails(5, &["Nothing is lost"]);
        offered.push(chain.waiting(owner.account()).unwrap());
    }
    assert!(offered.iter().all(|waiting| waiting.len() == 1), "{offered:?}");
    assert!(offered.is_sorted_by(|one, next| one[0].1 < next[0].1 && one[0].0 != next[0].0), "{offered:?}");
    chain.mine_by_itself(true).unwrap();
    chain.mine(1).unwrap();
    assert_eq!(steps(&owner.asks(&[&words[..], &["--fund", "40"]].concat())), nothing);
    assert_eq!((owner.balance(wallet), owner.balance(owner.account())), (units(40), units(60)));

    // What anybody sees.
    let (at, stranger) = (wallet.to_string(), Person::with_money(&chain, 0));
    let listed = &stranger.asks(&["hubs", "list"])["hubs"][0];
    assert_eq!((text(&listed["wallet"]), text(&listed["name"])), (at.as_str(), "Pine"));
    assert_eq!((text(&listed["standing"]), text(&listed["phase"])), ("unconfirmed", "registered"));
    let list = stranger.says(&["hubs", "list"]);
    assert!(list.ok().starts_with("WALLET") && list.out.contains("https://hub.example"), "{list}");
    let state = stranger.asks(&["hubs", "show", &at]);
    assert_eq!(text(&state["owner"]), shown(&owner.key));
    assert_eq!(text(&state["hub"]), hub);
    assert_eq!(["balance", "frozen", "free"].map(|name| text(&state[name]).to_owned()), ["40", "1", "39"]);
    let state = stranger.says(&["hubs", "show", &at]);
    assert!(state.ok().contains("payday     in 29d") && state.out.contains("Pine"), "{state}");
    stranger.says(&["hubs", "show", &chain.people.owner.to_string()]).fails(3, &["there is no contract at"]);
    stranger
        .says(&["hubs", "show", &chain.contracts.token.to_string()])
        .fails(4, &["is no wallet of the factory"]);
    let token = chain.contracts.token.to_string();
    stranger.says(&["hubs", "list", "--factory", &token]).fails(3, &["is not a factory of hubs' wallets"]);

    // What the owner alone may.
    let describe = ["hubs", "describe", &at, "--url", "https://pine.example"];
    stranger.says(&describe).fails(4, &["nothing was sent: only the wallet's owner"]);
    let _ = owner.says(&describe).ok();
    assert!(owner.says(&describe).ok().contains("says this already"));
    owner.says(&describe[..3]).fails(2, &["--name", "--details"]);
    let listed = owner.asks(&["hubs", "show", &at])["listing"].clone();
    assert_eq!((text(&listed["name"]), text(&listed["endpoint"])), ("Pine", "https://pine.example"));
    assert_ne!(text(&listed["details"]), "0".repeat(64), "what was not given stays");
    let payday = ["hubs", "payday", &at];
    owner.says(&payday).fails(4, &["too early: this is possible in 29d"]);
    owner.says(&["hubs", "withdraw", &at, "5"]).fails(4, &["is registered", "not possible in that phase"]);
    chain.wait(31 * DAY).unwrap();
    stranger.says(&payday).fails(4, &["only the wallet's owner"]);
    assert!(owner.says(&payday).ok().contains("unlocked"));
    assert!(owner.says(&payday).ok().contains("has ended already"));
    let to = shown(&stranger.key);
    let _ = owner.says(&["hubs", "withdraw", &at, "5", "--to", &to]).ok();
    assert_eq!(owner.balance(stranger.account()), units(5));
    owner.says(&["hubs", "withdraw", &at, "36"]).fails(4, &["holds 35 SNM and must hold 36"]);
    assert_eq!(text(&owner.asks(&["hubs", "withdraw", &at, "all"])["withdrawn"]), "35");
    assert!(owner.says(&["hubs", "withdraw", &at, "all"]).ok().contains("nothing to withdraw"));
    assert_eq!((owner.balance(wallet), owner.balance(owner.account())), (units(0), units(95)));
    // The next period, by the same command; what is said of the hub is the newest.
    let next = owner.asks(&[&words[..], &["--fund", "2"]].concat());
    let all = [("make", false), ("fund", true), ("register", true), ("describe", true)];
    assert_eq!(steps(&next), all);
    assert_eq!(wallets(), [wallet]);
}

#[test]
fn keys_and_endpoints_are_told_apart_and_keep_their_secrets() {
    let Some(chain) = chain("keys_and_endpoints_are_told_apart_and_keep_their_secrets") else { return };
    let owner = Person::with_money(&chain, 10);
    let hub = shown(&IdentityKey::generate());
    let words = ["hubs", "register", "--hub-key", &hub, "--name", "Pine", "--url", "https://hub.example"];
    // A device's key in a keystore is as good as any.
    let device = owner.path("device");
    fs::create_dir_all(&device).unwrap();
    IdentityKey::load_or_create(&key_path(&device)).unwrap();
    let keystore = owner.path("key.json");
    let account = keystore::export(&device, &keystore, "pine").unwrap();
    chain.adopt(address(&account.address())).unwrap();
    let with = |password: Option<&str>| {
        let mut command = owner.command(&[&words[..], &["--key", "key.json"]].concat());
        owner.finish(command.envs(password.map(|password| ("SOSNA_KEY_PASSWORD", password))))
    };
    with(None).fails(2, &["has a password: give --password-file"]);
    with(Some("fir")).fails(4, &["cannot be opened with this password"]);
    // Right: it is the chain that refuses, since the wallet has no funds.
    with(Some("pine")).fails(4, &["is not funded"]);
    fs::write(owner.path("password"), "pine\n").unwrap();
    let by_file = ["--key", "key.json", "--password-file", "password"];
    owner.says(&[&words[..], &by_file].concat()).fails(4, &["is not funded"]);
    owner.says(&[&words[..], &["--key", "nowhere"]].concat()).fails(3, &["there is no key in nowhere"]);
    owner.says(&[&words[..], &["--key", "password"]].concat()).fails(2, &["holds no key"]);

    // An endpoint with an access key: who answers is named, and the key is not.
    for secret in ["/v3/5ecret5ecret", "/?key=5ecret5ecret"] {
        let endpoint = format!("{}{secret}", chain.url().trim_end_matches('/'));
        let done = owner.says(&[&words[..], &["--fund", "2", "--endpoint", &endpoint]].concat());
        assert!(!done.to_string().contains("5ecret"), "{done}");
        let host = chain.url().trim_start_matches("http://").trim_end_matches('/');
        assert!(done.to_string().contains(host), "{done}");
    }
    owner
        .says(&["hubs", "list", "--endpoint", "http://127.0.0.1:9"])
        .fails(5, &["127.0.0.1:9 does not answer"]);
    owner.says(&["hubs", "list", "--endpoint", "node"]).fails(2, &["is no address of a node"]);
    let none = owner.finish(owner.command(&["hubs", "list"]).env_remove("SOSNA_FACTORY"));
    none.fails(2, &["give --factory"]);
}

/// A wallet's hub, which owes devices something.
struct Debtor<'a> {
    wallet: Wallet<'a>,
    devices: Vec<IdentityKey>,
}

impl<'a> Debtor<'a> {
    fn new(chain: &'a DevChain, devices: usize) -> Self {
        let wallet = Wallet::new(chain, IdentityKey::generate());
        Self { wallet, devices: (0..devices).map(|_| IdentityKey::generate()).collect() }
    }

    /// What a device prints that was told of a voucher over so many SNM.
    fn claim(&self, device: usize, snm: u128, fee: u128, deadline: u64, chain_id: u64) -> Value {
        let key = &self.devices[device];
        let data = tempfile::tempdir().unwrap();
        key.store(&key_path(data.path())).unwrap();
        let domain = self.wallet.domain();
        let cumulative = Amount::from_units(snm * 10_u128.pow(18));
        let voucher = Voucher { device: key.address(), cumulative, receipts: Hash::ZERO };
        let signed = Signed {
            chain_id,
            wallet: self.wallet.at.to_string(),
            units: cumulative.units().to_string(),
            receipts: voucher.receipts.to_string(),
            signature: voucher.sign(&domain, &self.wallet.hub).unwrap().to_string(),
        };
        let fee = Amount::from_units(fee * 10_u128.pow(18));
        let payee = Some(Address([7; 20]));
        let held = Earnings {
            voucher: cumulative.to_string(),
            signed: Some(signed),
            uncovered: String::new(),
            open: String::new(),
            payout_to: None,
            lines: Vec::new(),
        };
        let wish = Wish { to: payee, max_fee: fee, deadline, is_by_root: false };
        let claim = claim::sign(data.path(), Some(&shown(key)), &held, &wish).unwrap();
        serde_json::to_value(claim).unwrap()
    }
}

#[test]
fn a_claim_is_brought_once_by_anybody_with_ether() {
    let Some(chain) = chain("a_claim_is_brought_once_by_anybody_with_ether") else { return };
    let hub = Debtor::new(&chain, 2);
    let relayer = Person::with_money(&chain, 0);
    let (id, soon) = (chain.id().unwrap(), chain.now().unwrap() + 3600);
    let bring = |person: &Person<'_>, claim: &Value, more: &[&str]| {
        fs::write(person.path("claim.json"), claim.to_string()).unwrap();
        person.says(&[&["payouts", "relay", "claim.json"], more].concat())
    };
    let good = hub.claim(0, 10, 2, soon, id);
    bring(&Person::new(&chain), &good, &[]).fails(4, &["has 0 ether"]);
    bring(&relayer, &hub.claim(0, 10, 2, soon, id + 1), &[])
        .fails(2, &["the claim is for chain", "is of chain"]);
    let mut changed = good.clone();
    changed["payout"]["to"] = relayer.account().to_string().into();
    bring(&relayer, &changed, &[]).fails(4, &["is not signed by its device"]);
    changed = good.clone();
    changed["hubSignature"] = good["signature"].clone();
    bring(&relayer, &changed, &[]).fails(4, &["that the wallet's hub", "has not signed"]);
    bring(&relayer, &Value::Null, &[]).fails(2, &["is no claim"]);
    relayer.says(&["payouts", "relay", "nowhere.json"]).fails(1, &["cannot read nowhere.json"]);
    bring(&relayer, &good, &["--fee", "3"])
        .fails(4, &["nothing was sent: a fee of 3 SNM is more than may be kept of this payment, 2 SNM"]);
    let other = chain.contracts.escrow.to_string();
    bring(&relayer, &good, &["--factory", &other]).fails(3, &["is not a factory"]);

    // Everything that the device allows, unless told otherwise.
    let done = bring(&relayer, &good, &[]);
    let payee = alloy_primitives::Address::repeat_byte(7);
    assert!(done.ok().starts_with(&format!("paid         8 SNM to {payee}")), "{done}");
    assert!(done.out.contains("fee          2 SNM to") && done.out.contains("transaction  0x"), "{done}");
    assert_eq!((relayer.balance(payee), relayer.balance(relayer.account())), (units(8), units(2)));
    bring(&relayer, &good, &[]).fails(4, &["nothing was sent", "has been paid 10 SNM already"]);
    // A later voucher pays the difference; its fee is bounded by that.
    let done = bring(&relayer, &hub.claim(0, 11, 2, soon, id), &["--json"]);
    let told: Value = serde_json::from_str(done.ok()).unwrap();
    assert_eq!((text(&told["paid"]), text(&told["fee"])), ("0", "1"));
    // From standard input, for nothing.
    fs::write(relayer.path("second.json"), hub.claim(1, 5, 1, soon, id).to_string()).unwrap();
    let mut shell = relayer.command(&[]);
    let program = built("sosna");
    let mut piped = Command::new("sh");
    piped.args(["-c", "\"$0\" payouts relay - --fee 0 < second.json"]).arg(program);
    piped.envs(shell.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
    shell.current_dir(relayer.home.path());
    let done = relayer.finish(piped.current_dir(relayer.home.path()));
    assert!(done.ok().starts_with(&format!("paid         5 SNM to {payee}")), "{done}");
    // Too late.
    chain.wait(2 * 3600).unwrap();
    bring(&relayer, &hub.claim(0, 20, 2, soon, id), &[]).fails(4, &["it has expired"]);
    assert_eq!(hub.wallet.paid(&hub.devices[0]), units(11));
}

/// Serves a hub's list on this machine, for as long as the test runs.
fn serve(list: &PayoutList) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = serde_json::to_string(list).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"GET /v1/payouts HTTP/1.1"), "{}", String::from_utf8_lossy(&head));
            let length = body.len();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
            let _ = write!(stream, "{head} {length}\r\n\r\n{body}");
        }
    });
    url
}

#[test]
fn whoever_settles_pays_each_device_what_is_missing() {
    let Some(chain) = chain("whoever_settles_pays_each_device_what_is_missing") else { return };
    let hub = Debtor::new(&chain, 5);
    let anybody = Person::with_money(&chain, 0);
    let line = |(place, device): (usize, &IdentityKey)| {
        let units = (place as u128 + 1) * 10_u128.pow(18);
        Line { device: device.address(), cumulative: Amount::from_units(units) }
    };
    let tree = Payouts::new(hub.devices.iter().enumerate().map(line).collect()).unwrap();
    let list = PayoutList {
        chain_id: chain.id().unwrap(),
        wallet: sosna_contracts::from_address(&hub.wallet.at).into(),
        root: tree.root().into(),
        total: tree.total().into(),
        active_ms: None,
        lines: tree
            .lines()
            .iter()
            .map(|line| PayoutLine { device: line.device.into(), cumulative: line.cumulative.into() })
            .collect(),
    };
    let settle_of = |list: &PayoutList, more: &[&str]| {
        let url = serve(list);
        anybody.says(&[&["payouts", "settle", "--hub", &url], more].concat())
    };
    let settle = |more: &[&str]| settle_of(&list, more);

    settle(&[]).fails(4, &["the hub has not seen what is"]);
    let root = hash(&tree.root());
    let post = HubWallet::postCall { root, total: amount(tree.total()), paidSeen: U256::ZERO };
    chain.send(address(&hub.wallet.hub_address()), hub.wallet.at, &post).unwrap();
    settle(&[]).fails(4, &["can be claimed by in "]);
    chain.wait(DAY).unwrap();
    let elsewhere = PayoutList { chain_id: 1, ..list.clone() };
    settle_of(&elsewhere, &[]).fails(2, &["the hub's list is for chain 1"]);
    let wrong = PayoutList { total: Amount::ZERO.into(), ..list.clone() };
    settle_of(&wrong, &[]).fails(1, &["does not add up"]);

    let plan = settle(&["--dry-run", "--batch", "2"]);
    assert!(plan.ok().contains("5 devices owed 15 SNM: 3 transactions"), "{plan}");
    let paid = || tree.lines().iter().map(|line| hub.wallet.balance(address(&line.device)));
    assert!(paid().all(|units| units.is_zero()), "nothing was sent");
    let first = shown(&hub.devices[0]);
    let stranger = shown(&anybody.key);
    settle(&["--only", &stranger]).fails(3, &["is not in the hub's list"]);
    let poor = Person::new(&chain);
    poor.says(&["payouts", "settle", "--hub", &serve(&list)]).fails(4, &["has 0 ether"]);

    let none = settle(&["--least", "5.000000000000000001"]);
    assert!(none.ok().starts_with("nobody is owed so much; 5 devices are owed less"), "{none}");
    let done = settle(&["--only", &first]);
    assert!(done.ok().starts_with("paid         1 SNM to 1 device\n"), "{done}");
    let most = settle(&["--least", "4", "--dry-run"]);
    assert!(
        most.ok().contains("2 devices owed 9 SNM: 1 transactions; 1 paid already, 2 owed less"),
        "{most}"
    );
    let done = settle(&["--batch", "2", "--json"]);
    let told: Value = serde_json::from_str(done.ok()).unwrap();
    assert_eq!((text(&told["paid"]), text(&told["fees"])), ("14", "0"));
    assert_eq!((items(&told["transactions"]).len(), &told["passed_over"]), (2, &1.into()));
    assert_eq!(text(&items(&told["devices"])[3]["missing"]), "5");
    assert!(paid().eq(tree.lines().iter().map(|line| amount(line.cumulative))));
    let again = settle(&[]);
    assert!(again.ok().starts_with("nothing is owed: each of 5 devices"), "{again}");
    assert!(settle(&["--only", &first]).ok().starts_with("nothing is owed: each of 1 device "));
    assert_eq!(hub.wallet.ask(&HubWallet::paidCall {}), amount(tree.total()));
}

#[test]
fn of_two_transactions_of_one_number_one_is_done_and_the_other_told() {
    let Some(chain) = chain("of_two_transactions_of_one_number_one_is_done_and_the_other_told") else {
        return;
    };
    let owner = Person::with_money(&chain, 100);
    let hub = shown(&IdentityKey::generate());
    let words = ["hubs", "register", "--hub-key", &hub, "--name", "Pine", "--url", "https://hub.example"];
    let register = |more: &[&str]| owner.says(&[&words, more].concat());
    chain.mine_by_itself(false).unwrap();
    register(&["--wait", "1s"]).fails(5, &["Nothing is lost"]);
    let first = chain.waiting(owner.account()).unwrap();

    // One takes the other's place; then the chain forgets it, and something else of the owner's comes into a block.
    let done = thread::scope(|scope| {
        let replaces = scope.spawn(|| register(&["--replace", "--wait", "60s"]));
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while chain.waiting(owner.account()).unwrap() == first {
            assert!(std::time::Instant::now() < until, "nothing was replaced");
            thread::sleep(Duration::from_millis(50));
        }
        chain.forget_waiting().unwrap();
        chain.mine_by_itself(true).unwrap();
        let call = SNM::transferCall { to: chain.people.relayer, value: units(1) };
        chain.send(owner.account(), chain.contracts.token, &call).unwrap();
        replaces.join().unwrap()
    });
    done.fails(4, &["came into a block in the place of 0x", "it does what is left, and nothing twice"]);
    let wallets = HubWalletFactory::walletsOfCall { owner: owner.account() };
    let wallets = || chain.ask(owner.account(), chain.contracts.factory, &wallets).unwrap().len();
    assert_eq!(wallets(), 0);
    // Where nothing waits there is nothing to replace.
    let _ = register(&["--replace", "--fund", "10"]).ok();
    assert_eq!(wallets(), 1);
}
