//! The cheating hub's part: it commits to its devices, then posts a root that leaves out what it signed for. There is no
//! program behind it, only its key: all that it could do anyway is sign vouchers and post roots.

use alloy_primitives::{Address, B256, U256};
use sosna_contracts::bindings::{HubWallet, Parameters};
use sosna_contracts::payouts::{Line, Payouts};
use sosna_contracts::{address, amount, from_address, hash};
use sosna_host::identity::IdentityKey;
use sosna_protocol::eip712::{Typed as _, Voucher};
use sosna_protocol::identity::Sign as _;
use sosna_protocol::{Amount, Hash, Signature};

use super::super::DemoError;
use super::scene::{DAY, Person, Scene, brief, ensure, refused, small, snm};
use super::story::{Said, Story};

/// What its wallet gets at first.
pub(super) const FUNDS: Amount = snm(400);
/// What the first root commits to each device, and the last voucher that the hub signs for it.
const DUES: [(Amount, Amount); 2] = [(snm(40), snm(55)), (snm(60), snm(90))];
/// What the second root gives to an address of the hub's owner.
const LOOT: Amount = snm(250);

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its wallet.
    pub(super) wallet: Address,
    /// The devices, with what they were committed to.
    pub(super) devices: [(Address, Amount); 2],
}

/// The hub, and what it has signed.
struct Cheat {
    wallet: Address,
    hub: Person,
    devices: [Address; 2],
    vouchers: [HubWallet::SignedVoucher; 2],
}

/// All of it, in order.
///
/// # Errors
/// [`DemoError`].
pub(super) fn play(story: &mut Story<'_>, scene: &Scene) -> Result<Outcome, DemoError> {
    let cheat = story.step("wallet", |line| {
        line.now("sosna hubs register");
        let hub = Person::new(&scene.folder, "cheat-hub")?;
        scene.chain.adopt(hub.at).map_err(refused("give the hub's key ether"))?;
        let key = hub.at.to_string();
        let (wallet, sent) = scene.register(&scene.rival, &key, "Magpie hub", FUNDS)?;
        let devices = [IdentityKey::generate(), IdentityKey::generate()].map(|key| address(&key.address()));
        let vouchers =
            [voucher(scene, &hub, wallet, devices[0], 0)?, voucher(scene, &hub, wallet, devices[1], 1)?];
        let words = format!("{} of another owner, with {FUNDS} SNM", brief(&wallet));
        Ok(Said::new(Cheat { wallet, hub, devices, vouchers }, words).by(sent))
    })?;
    let committed = tree(&[(cheat.devices[0], DUES[0].0), (cheat.devices[1], DUES[1].0)])?;
    story.step("root", |_| {
        let sent = post(scene, &cheat, &committed)?;
        scene.wait(DAY)?;
        let words = format!(
            "it commits {} SNM to alder and {} to aspen; a day later the root is active",
            DUES[0].0, DUES[1].0
        );
        Ok(Said::new((), words).by([sent]))
    })?;
    let list = fraud(story, scene, &cheat)?;
    judged(story, scene, &cheat, &list)?;
    story.step("ban", |_| {
        let dao = scene.chain.people.dao;
        let until = small(&scene.ask(cheat.wallet, &HubWallet::judgementCall {})?)?.units();
        let now = scene.chain.now().map_err(refused("ask for the chain's time"))?;
        let seconds = u64::try_from(until).unwrap_or_default().saturating_sub(now);
        scene.wait(seconds)?;
        let before = scene.balance(dao)?;
        let sent = scene.send("ban", dao, cheat.wallet, &HubWallet::banCall {})?;
        let taken = scene.balance(dao)?.checked_sub(before).unwrap_or_default();
        let terms = scene.ask(scene.chain.contracts.parameters, &Parameters::termsCall {})?;
        let days = u64::from(terms.suspectDelay) / DAY;
        let words =
            format!("{days} days later the DAO bans it and takes the {taken} SNM promised to no device");
        Ok(Said::new((), words).by([sent]))
    })?;
    story.step("settle", |_| {
        let proof = committed.multiproof(&[0, 1]).map_err(|error| DemoError::Wrong(error.to_string()))?;
        let sent = scene.send("settle", scene.relayer.at, cheat.wallet, &proof.settle(0))?;
        let words =
            format!("what the active root had committed is paid all the same: {} SNM", committed.total());
        Ok(Said::new((), words).by([sent]))
    })?;
    story.step("voucher", |_| {
        ensure_unpaid(scene, &cheat)?;
        let (paid, signed) = DUES[1];
        let more = signed.checked_sub(paid).unwrap_or_default();
        let words = format!("aspen's voucher for {more} SNM more, which no root had committed, is refused");
        Ok(Said::new((), words))
    })?;
    let devices = [(cheat.devices[0], DUES[0].0), (cheat.devices[1], DUES[1].0)];
    Ok(Outcome { wallet: cheat.wallet, devices })
}

/// A root that leaves out what the hub has signed for: the voucher beside the list is all the proof it takes.
fn fraud(story: &mut Story<'_>, scene: &Scene, cheat: &Cheat) -> Result<Payouts, DemoError> {
    let list = tree(&[(cheat.devices[0], DUES[0].1), (scene.rival.at, LOOT)])?;
    story.step("fraud", |_| {
        let sent = post(scene, cheat, &list)?;
        let aspen = from_address(&cheat.devices[1]);
        let voucher = Voucher { device: aspen, cumulative: DUES[1].1, receipts: Hash::ZERO };
        let signature = Signature::from_slice(&cheat.vouchers[1].signature);
        let holds = signature.is_some_and(|it| {
            voucher.verify(&scene.domain(cheat.wallet), &it, &from_address(&cheat.hub.at)).is_ok()
        });
        ensure(holds, || "the cheating hub's voucher does not verify".to_owned())?;
        ensure(list.lines().iter().all(|line| line.device != aspen), || "aspen is in the list".to_owned())?;
        Ok(Said::new((), "its next root leaves out aspen and gives to the hub's owner").by([sent]))
    })?;
    let due = |place: usize| DUES[place].1.to_string();
    let loot = LOOT.to_string();
    story.say(&format!(
        "\n{}\n",
        crate::tables::table(
            &["device", "voucher signed by the hub, SNM", "the root's list, SNM"],
            &[1, 2],
            [
                vec!["alder".to_owned(), due(0), due(0)],
                vec!["aspen".to_owned(), due(1), "missing".to_owned()],
                vec!["the owner's own".to_owned(), "none".to_owned(), loot],
            ],
        )
    ));
    Ok(list)
}

/// The DAO suspects the wallet while that root is not active yet, which makes it void.
fn judged(story: &mut Story<'_>, scene: &Scene, cheat: &Cheat, list: &Payouts) -> Result<(), DemoError> {
    story.step("suspicion", |_| {
        let sent = scene.send("suspect", scene.chain.people.dao, cheat.wallet, &HubWallet::suspectCall {})?;
        let roots = scene.ask(cheat.wallet, &HubWallet::rootsCall {})?;
        let is_void = ![roots.newest, roots.before].contains(&hash(&list.root()));
        ensure(is_void, || "the fraudulent root still stands".to_owned())?;
        // Also once it would have become active.
        scene.wait(DAY)?;
        let proof = list.multiproof(&[1]).map_err(|error| DemoError::Wrong(error.to_string()))?;
        let refusal = scene.refusal(scene.rival.at, cheat.wallet, &proof.settle(0))?;
        ensure(matches!(refusal, HubWallet::HubWalletErrors::NoSuchRoot(_)), || format!("{refusal:?}"))?;
        let out = HubWallet::withdrawCall { to: scene.rival.at, amount: U256::ONE };
        let refusal = scene.refusal(scene.rival.at, cheat.wallet, &out)?;
        ensure(matches!(refusal, HubWallet::HubWalletErrors::WrongPhase(_)), || format!("{refusal:?}"))?;
        let words = "the DAO suspects it: that root is void, and the owner can take out nothing";
        Ok(Said::new((), words).by([sent]))
    })
}

/// A banned wallet pays by no voucher.
fn ensure_unpaid(scene: &Scene, cheat: &Cheat) -> Result<(), DemoError> {
    let redeem = HubWallet::redeemCall { vouchers: vec![cheat.vouchers[1].clone()], share: U256::ZERO };
    let refusal = scene.refusal(scene.relayer.at, cheat.wallet, &redeem)?;
    ensure(matches!(refusal, HubWallet::HubWalletErrors::WrongPhase(_)), || format!("{refusal:?}"))
}

fn tree(lines: &[(Address, Amount)]) -> Result<Payouts, DemoError> {
    let line = |(device, cumulative): &(Address, Amount)| Line {
        device: from_address(device),
        cumulative: *cumulative,
    };
    Payouts::new(lines.iter().map(line).collect()).map_err(|error| DemoError::Wrong(error.to_string()))
}

fn post(scene: &Scene, cheat: &Cheat, tree: &Payouts) -> Result<B256, DemoError> {
    let paid = scene.ask(cheat.wallet, &HubWallet::settledCall {})?;
    let call = HubWallet::postCall { root: hash(&tree.root()), total: amount(tree.total()), paidSeen: paid };
    scene.send("post a root", cheat.hub.at, cheat.wallet, &call)
}

/// The hub's last voucher for one of its devices.
fn voucher(
    scene: &Scene,
    hub: &Person,
    wallet: Address,
    device: Address,
    place: usize,
) -> Result<HubWallet::SignedVoucher, DemoError> {
    let cumulative = DUES[place].1;
    let voucher = Voucher { device: from_address(&device), cumulative, receipts: Hash::ZERO };
    let signature = voucher.sign(&scene.domain(wallet), &hub.key);
    let signature =
        signature.map_err(|_| DemoError::Wrong("the cheating hub's key does not sign".to_owned()))?;
    Ok(HubWallet::SignedVoucher {
        voucher: HubWallet::Voucher { device, cumulative: amount(cumulative), receipts: B256::ZERO },
        signature: signature.0.to_vec().into(),
    })
}
