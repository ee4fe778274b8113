//! The honest hub's part: a wallet, a buyer's deposit, work that is verified, a period's root, claims, payday.

use std::time::Duration;

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use sosna_contracts::bindings::{HubWallet, Parameters};
use sosna_protocol::Amount;

use super::super::run::{Rendering, SHORT, online, wait};
use super::super::view::{SeenView, StatusView};
use super::super::world::{self, Body, DeviceSpec, World};
use super::super::{Demo, DemoError, devices_table};
use super::scene::{DAY, Person, Scene, address_of, amount_of, brief, ensure, refused, snm, transaction_of};
use super::story::{Said, Story};

/// Anna has two, which are settled in bulk; Boris has his claimed.
const DEVICES: [DeviceSpec; 3] = [
    DeviceSpec { name: "spruce", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "larch", owner: "anna", program: "sosna-agent" },
    DeviceSpec { name: "birch", owner: "boris", program: "sosna-agent" },
];
/// Smaller than the demo's own picture: it is about the money.
const RENDERING: Rendering = Rendering {
    name: "pines, for money",
    tiles: 4,
    size: (320, 180),
    verify: "replicate:2",
    timeout: "5m",
    patience: Duration::from_secs(300),
};
/// What the wallet gets at first.
const FUNDS: Amount = snm(100);
/// What the buyer deposits.
pub(super) const DEPOSIT: Amount = snm(10);
/// What the relayer may keep of Boris's claim.
const FEE: &str = "0.001";
/// How long what devices sign is good: the chain's clock is put forward.
const GOOD_FOR: &str = "60";

/// A device, and what it was owed and paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Paid {
    /// Its name.
    pub(super) name: &'static str,
    /// Whose it is.
    pub(super) owner: &'static str,
    /// Its address.
    device: String,
    /// What the hub has signed for.
    voucher: String,
    /// What it got, with what its relayer kept.
    paid: String,
    #[serde(skip)]
    pub(super) at: Address,
    #[serde(skip)]
    pub(super) owed: Amount,
}

/// What came of the honest hub.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its wallet.
    pub(super) wallet: Address,
    /// Owners of devices, who are paid.
    pub(super) anna: Address,
    /// The other.
    pub(super) boris: Address,
    /// Each device.
    pub(super) devices: Vec<Paid>,
    /// What the relayer was allowed to keep.
    pub(super) fee: Amount,
    /// What the buyer owed, and the escrow has paid.
    pub(super) spent: Amount,
    /// What the DAO is due at payday, reckoned from its terms.
    pub(super) dao_fee: Amount,
    /// Everything that is not as it should be.
    pub(super) faults: Vec<String>,
}

/// `sosna ledger --json`.
#[derive(Deserialize)]
struct Ledger {
    accounts: Vec<Account>,
}

#[derive(Deserialize)]
struct Account {
    buyer: String,
    available: String,
    spent: String,
}

/// `sosna deposits put --json`.
#[derive(Deserialize)]
struct Deposited {
    steps: Vec<PutStep>,
}

#[derive(Deserialize)]
struct PutStep {
    transaction: String,
}

/// `sosna deposits --json`.
#[derive(Deserialize)]
struct DepositList {
    deposits: Vec<DepositView>,
}

/// `sosna deposits confirm --json`.
#[derive(Deserialize)]
struct DepositView {
    claimed: String,
    confirmed: String,
    redemption: Option<Sent>,
}

/// `sosna wallet --json`.
#[derive(Deserialize)]
struct WalletView {
    roots: Vec<RootView>,
}

#[derive(Deserialize)]
struct RootView {
    root: String,
    total: String,
    active_ms: Option<u64>,
    transactions: Vec<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    hash: String,
}

/// What commands say that send one transaction.
#[derive(Deserialize)]
struct Done {
    transaction: String,
    #[serde(default)]
    fee: String,
    #[serde(default)]
    unlocked: String,
    #[serde(default)]
    withdrawn: String,
}

/// `sosna payouts settle --json`.
#[derive(Deserialize)]
struct Settled {
    paid: String,
    transactions: Vec<String>,
}

/// Gives the hub a wallet, and has it work with it.
///
/// # Errors
/// [`DemoError`].
pub(super) fn wallet(story: &mut Story<'_>, scene: &mut Scene) -> Result<Address, DemoError> {
    let key = scene.world.hub_key()?;
    let wallet = story.step("wallet", |line| {
        line.now("sosna hubs register");
        let (wallet, sent) = scene.register(&scene.owner, &key, "Pine hub", FUNDS)?;
        let words = format!(
            "`sosna hubs register` makes {}, funds it with {FUNDS} SNM, registers it",
            brief(&wallet)
        );
        Ok(Said::new(wallet, words).by(sent))
    })?;
    story.step("settings", |line| {
        line.now("the hub starts again");
        let chain = format!(
            "{}\n[chain]\nid = {}\nwallet = \"{wallet}\"\nendpoints = [\"{}\"]\nconfirmations = 1\npoll_ms = 200\n\
             root_ms = 0\nescrow = \"{}\"\nredeem_ms = 0\nredeem_least = \"0.001\"\n",
            world::HUB,
            scene.chain_id,
            scene.chain.url(),
            scene.chain.contracts.escrow,
        );
        scene.world.restart_hub(&chain)?;
        Ok(Said::new((), "the hub signs vouchers for this wallet from now on, and looks at deposits for it"))
    })?;
    Ok(wallet)
}

/// The buyer's deposit, which the hub sees and credits.
///
/// # Errors
/// [`DemoError`].
pub(super) fn deposit(story: &mut Story<'_>, scene: &mut Scene, wallet: Address) -> Result<(), DemoError> {
    story.step("deposit", |line| {
        line.now("sosna deposits put");
        scene.world.buyer("buyer")?;
        let escrow = scene.chain.contracts.escrow.to_string();
        let what = ["deposits", "put", &DEPOSIT.to_string(), "--escrow", &escrow];
        let done: Deposited = scene.sosna_as_buyer(&what)?;
        let sent = done.steps.iter().map(|step| transaction_of(&step.transaction));
        let words = format!("`sosna deposits put` puts {DEPOSIT} SNM into DealEscrow for {}", brief(&wallet));
        Ok(Said::new((), words).by(sent.collect::<Result<Vec<_>, _>>()?))
    })?;
    story.step("credit", |line| {
        line.now("the hub looks at the deposit");
        wait(SHORT, &scene.folder, "the hub does not see the deposit", || {
            Ok(account(scene)?.filter(|account| account.available == DEPOSIT.to_string()).map(drop))
        })?;
        Ok(Said::new(
            (),
            "the hub has seen it on the chain: it is the buyer's credit, and still the buyer's money",
        ))
    })
}

/// The buyer's account in the hub's ledger.
fn account(scene: &Scene) -> Result<Option<Account>, DemoError> {
    let ledger: Ledger = scene.world.sosna_json(&["ledger"])?;
    Ok(ledger.accounts.into_iter().find(|account| account.buyer == "buyer"))
}

/// Devices that look at the chain by themselves do verified work; each holds a voucher for it.
///
/// # Errors
/// [`DemoError`].
pub(super) fn work(
    story: &mut Story<'_>,
    scene: &mut Scene,
    image: &std::path::Path,
    wallet: Address,
) -> Result<Outcome, DemoError> {
    let (anna, boris) = story.step("devices", |line| {
        // Two names of one node stand for two nodes of different people.
        let node = scene.chain.url();
        let endpoints = format!("{node},{}", node.replace("127.0.0.1", "localhost"));
        let registry = scene.chain.contracts.registry.to_string();
        let world = &mut scene.world;
        world.set_devices("CHAIN_ID", &scene.chain_id.to_string());
        world.set_devices("CHAIN_REGISTRY", &registry);
        world.set_devices("CHAIN_ENDPOINTS", &endpoints);
        world.set_devices("CHAIN_POLL_MS", "500");
        let mut payees = Vec::new();
        for owner in ["anna", "boris"] {
            let of_owner: Vec<_> = DEVICES.iter().filter(|spec| spec.owner == owner).collect();
            let join = world.owner(owner, of_owner.len())?;
            let payee = Person::new(&scene.folder, owner)?.at;
            world.set_devices("PAYOUT_TO", &payee.to_string());
            for spec in of_owner {
                line.now(&format!("{} joins as {owner}'s", spec.name));
                world.device(*spec, &join)?;
            }
            payees.push(payee);
        }
        wait(SHORT, &scene.folder, "the devices did not all enrol", || {
            Ok((online(world)? == DEVICES.len()).then_some(()))
        })?;
        let words = "3 of 2 owners; each asks two nodes about the wallet (here one by two names)";
        Ok(Said::new((payees[0], payees[1]), words))
    })?;
    let demo = story.demo;
    let picture = demo.tree.demo().join("pines-chain.png");
    let domain = scene.domain(wallet);
    let (job, judgement) = demo.job(&scene.world, &scene.folder, image, RENDERING, &picture, Some(domain))?;
    let mut devices = Vec::new();
    story.step("seen", |line| {
        line.now("what devices see of the wallet");
        for (spec, _) in folders(&scene.world) {
            let status = wait(SHORT, &scene.folder, "a device does not see the wallet", || {
                let status = status(&scene.world, spec.name)?;
                let is_well = |seen: &SeenView| {
                    seen.is_checked && amount_of(&seen.unbacked).is_ok_and(|it| it == Amount::ZERO)
                };
                Ok(status.wallet.as_ref().is_some_and(is_well).then_some(status))
            })?;
            let text = status.device.unwrap_or_default();
            devices.push(Paid {
                name: spec.name,
                owner: spec.owner,
                at: address_of(&text)?,
                device: text,
                owed: amount_of(&status.earnings.voucher)?,
                voucher: status.earnings.voucher,
                paid: String::new(),
            });
            let words = status.wallet.map(|seen| seen.words).unwrap_or_default();
            ensure(words == "registered", || format!("{} says of the wallet: {words}", spec.name))?;
        }
        Ok(Said::new((), "two nodes tell each: the wallet is registered and covers what it is owed"))
    })?;
    story.say(&format!("\n{}", devices_table(&judgement.devices)));
    Ok(Outcome {
        wallet,
        anna,
        boris,
        devices,
        fee: amount_of(FEE)?,
        spent: amount_of(&job.price.spent)?,
        dao_fee: Amount::ZERO,
        faults: judgement.faults,
    })
}

/// The hub posts a root over all vouchers, and a day goes by.
///
/// # Errors
/// [`DemoError`].
pub(super) fn commit(story: &mut Story<'_>, scene: &Scene, outcome: &Outcome) -> Result<(), DemoError> {
    let total = sum(outcome.devices.iter().map(|device| device.owed))?;
    story.step("root", |line| {
        line.now("the hub's key gets ether, and the hub posts what it owes");
        // Without ether it has posted nothing so far: the period's root is over all of the work.
        let hub = address_of(&scene.world.hub_key()?)?;
        scene.chain.adopt(hub).map_err(refused("give the hub's key ether"))?;
        let root = wait(SHORT, &scene.folder, "the hub did not post what it owes", || {
            let roots = scene.world.sosna_json::<WalletView>(&["wallet"])?.roots;
            Ok(roots.into_iter().next().filter(|root| root.active_ms.is_some()))
        })?;
        ensure(amount_of(&root.total)? == total, || {
            format!("the root commits {} SNM, and vouchers say {total}", root.total)
        })?;
        let newest = scene.ask(outcome.wallet, &HubWallet::rootsCall {})?.newest;
        ensure(transaction_of(&root.root)? == newest, || "the root on the chain is another one".to_owned())?;
        let words = format!("the hub commits {total} SNM to {} devices by one root", outcome.devices.len());
        let sent = root.transactions.first().map(|sent| transaction_of(&sent.hash)).transpose()?;
        Ok(Said::new((), words).by(sent))
    })?;
    story.step("a day later", |line| {
        // Adds up the hub's list, and fails where that is not what the root is over.
        line.now("sosna payouts");
        scene.world.sosna(&["payouts"])?;
        scene.wait(DAY)?;
        Ok(Said::new((), "`sosna payouts` has added up the hub's list against it; the root is active"))
    })
}

/// Boris's device is paid by a claim that it has signed, the others in bulk.
///
/// # Errors
/// [`DemoError`].
pub(super) fn claims(story: &mut Story<'_>, scene: &Scene, outcome: &mut Outcome) -> Result<(), DemoError> {
    let birch = find(outcome, "birch")?.clone();
    story.step("claim", |line| {
        line.now("birch fetches its line of the root");
        wait(SHORT, &scene.folder, "birch did not get its line of the root", || {
            let lines = status(&scene.world, birch.name)?.earnings.lines;
            Ok(lines.iter().any(|line| line.cumulative == birch.voucher).then_some(()))
        })?;
        let what = ["wallet", "claim", "--by-root", "--fee", FEE, "--days", GOOD_FOR];
        let done = relay(scene, birch.name, &what)?;
        ensure(done.fee == FEE, || format!("the relayer kept {} SNM of {FEE}", done.fee))?;
        let words =
            format!("birch signs for {} SNM to boris; a relayer sends it and keeps {FEE}", birch.owed);
        Ok(Said::new((), words).by([transaction_of(&done.transaction)?]))
    })?;
    story.step("payees", |_| {
        let mut sent = Vec::new();
        for name in ["spruce", "larch"] {
            let done = relay(scene, name, &["wallet", "payee", "--days", GOOD_FOR])?;
            sent.push(transaction_of(&done.transaction)?);
        }
        Ok(Said::new((), "spruce and larch sign that anna is paid for them").by(sent))
    })?;
    story.step("settle", |line| {
        line.now("sosna payouts settle");
        let done: Settled = scene.sosna(&scene.relayer, &["payouts", "settle"])?;
        let sent: Vec<B256> =
            done.transactions.iter().map(|sent| transaction_of(sent)).collect::<Result<_, _>>()?;
        let words = format!("{} SNM for spruce and larch, by one proof; birch is passed over", done.paid);
        Ok(Said::new((), words).by(sent))
    })?;
    for device in &mut outcome.devices {
        let paid = scene.paid(outcome.wallet, device.at)?;
        if paid != device.owed {
            let fault = format!("{} was paid {paid} SNM, and its voucher says {}", device.name, device.owed);
            outcome.faults.push(fault);
        }
        device.paid = paid.to_string();
    }
    Ok(())
}

/// The buyer signs for what was spent, the hub has the escrow pay it, the period ends, and the owner takes out what is left.
///
/// # Errors
/// [`DemoError`].
pub(super) fn payday(story: &mut Story<'_>, scene: &Scene, outcome: &mut Outcome) -> Result<(), DemoError> {
    let (wallet, contracts) = (outcome.wallet, scene.chain.contracts);
    story.step("buyer", |line| {
        line.now("sosna deposits confirm");
        let spent = amount_of(&account(scene)?.map(|account| account.spent).unwrap_or_default())?;
        ensure(spent == outcome.spent, || {
            format!("the ledger says that {spent} SNM were spent, and the job cost {}", outcome.spent)
        })?;
        let key = scene.buyer.path.display().to_string();
        let signed: DepositView = scene.world.sosna_json_as_buyer(&["deposits", "confirm", "--key", &key])?;
        ensure(signed.confirmed == spent.to_string(), || {
            format!("the buyer has signed for {} SNM, and {spent} were spent", signed.confirmed)
        })?;
        Ok(Said::new(
            (),
            format!("`sosna deposits confirm` signs for the {spent} SNM that were spent; no gas"),
        ))
    })?;
    story.step("redeemed", |line| {
        line.now("the hub brings the signature to the escrow");
        let spent = outcome.spent.to_string();
        let done = wait(SHORT, &scene.folder, "the escrow did not pay the hub's wallet", || {
            let list: DepositList = scene.world.sosna_json_as_buyer(&["deposits"])?;
            Ok(list.deposits.into_iter().next().filter(|deposit| deposit.claimed == spent))
        })?;
        let sent = done.redemption.map(|sent| transaction_of(&sent.hash)).transpose()?;
        Ok(Said::new((), format!("the escrow pays the wallet {spent} SNM; the rest stays the buyer's"))
            .by(sent))
    })?;
    let terms = scene.ask(contracts.parameters, &Parameters::termsCall {})?;
    let total = sum(outcome.devices.iter().map(|device| device.owed))?;
    // As the wallet rounds: what is locked up, the fee down.
    let locked = (total.units() * u128::from(terms.lockPercent)).div_ceil(100);
    outcome.dao_fee = Amount::from_units(locked * u128::from(terms.feePerMille) / 1000);
    let period = u64::from(terms.period);
    let at = wallet.to_string();
    let days = period / DAY;
    story.step("payday", |line| {
        line.now("sosna hubs payday");
        scene.wait(period)?;
        let done: Done = scene.sosna(&scene.owner, &["hubs", "payday", &at])?;
        let words = format!(
            "{days} days later: {} SNM are unlocked; the DAO's fee of that is {}",
            done.unlocked, done.fee
        );
        Ok(Said::new((), words).by([transaction_of(&done.transaction)?]))
    })?;
    story.step("withdrawal", |line| {
        line.now("sosna hubs withdraw");
        let done: Done = scene.sosna(&scene.owner, &["hubs", "withdraw", &at, "all"])?;
        let words =
            format!("the owner takes out {} SNM, which is all: every device has been paid", done.withdrawn);
        Ok(Said::new((), words).by([transaction_of(&done.transaction)?]))
    })
}

/// Has a device sign something, and somebody else bring it to the chain.
fn relay(scene: &Scene, device: &str, what: &[&str]) -> Result<Done, DemoError> {
    let (_, data) = folders(&scene.world)
        .find(|(spec, _)| spec.name == device)
        .ok_or_else(|| DemoError::Wrong(format!("there is no device {device}")))?;
    let signed = scene.world.agent(data, what)?;
    let path = scene.folder.join(format!("{device}-signed.json"));
    std::fs::write(&path, signed)
        .map_err(|source| DemoError::Io { what: "write what a device has signed", source })?;
    scene.sosna(&scene.relayer, &["payouts", "relay", &path.display().to_string()])
}

/// The devices that are processes, with their folders.
fn folders(world: &World) -> impl Iterator<Item = (DeviceSpec, &std::path::Path)> {
    world.devices.iter().filter_map(|device| match &device.body {
        Body::Process { data, .. } => Some((device.spec, data.as_path())),
        Body::Machine(_) => None,
    })
}

fn status(world: &World, device: &str) -> Result<StatusView, DemoError> {
    let found = folders(world).find(|(spec, _)| spec.name == device);
    let (_, data) = found.ok_or_else(|| DemoError::Wrong(format!("there is no device {device}")))?;
    world.status(data)
}

fn find<'a>(outcome: &'a Outcome, name: &str) -> Result<&'a Paid, DemoError> {
    let found = outcome.devices.iter().find(|device| device.name == name);
    found.ok_or_else(|| DemoError::Wrong(format!("there is no device {name}")))
}

/// A sum of amounts.
pub(super) fn sum(amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, DemoError> {
    let sum = amounts.into_iter().try_fold(Amount::ZERO, |sum, one| sum.checked_add(one));
    sum.ok_or_else(|| DemoError::Wrong("a sum is more than any books can hold".to_owned()))
}

/// Starts the hub that the story begins with: its wallet comes later.
///
/// # Errors
/// [`DemoError`].
pub(super) fn start(demo: &Demo<'_>, folder: &std::path::Path) -> Result<World, DemoError> {
    World::start(&demo.programs(), folder, world::HUB)
}
