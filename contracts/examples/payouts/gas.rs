//! What payments cost on a chain: whole transactions through a deployed wallet, with the lock and the fee of the DAO's
//! usual terms, and what of that is for storage.

use alloy_primitives::U256;
use alloy_sol_types::SolCall;
use sosna_contracts::{
    address, amount,
    bindings::{HubWallet, HubWalletFactory, SNM},
    from_address, hash,
    payouts::Payouts,
};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Address, Amount,
    eip712::{Domain, Payee, Payout, Typed as _},
    identity::Sign as _,
};
use xtask::{
    chain::{DevChain, Spent},
    paths::Tree,
};

use crate::{Any, BATCH, EARNED, print, tree};

/// A wallet with money.
struct Scene {
    chain: DevChain,
    hub: alloy_primitives::Address,
    wallet: alloy_primitives::Address,
}

impl Scene {
    fn new() -> Result<Self, Any> {
        let chain = DevChain::start_traced(&Tree::find()?)?;
        let (people, token) = (chain.people, chain.contracts.token);
        let hub = address(&IdentityKey::generate().address());
        let create = HubWalletFactory::createCall { hub };
        let wallet = chain.ask(people.owner, chain.contracts.factory, &create)?;
        chain.send(people.owner, chain.contracts.factory, &create)?;
        let value = amount(Amount::from_units(20_000_000 * 10_u128.pow(18)));
        chain.send(people.holder, token, &SNM::transferCall { to: wallet, value })?;
        // Whoever relays has tokens already, as after the first day.
        let value = U256::from(10_u128.pow(18));
        chain.send(people.holder, token, &SNM::transferCall { to: people.relayer, value })?;
        chain.send(people.owner, wallet, &HubWallet::registerCall {})?;
        chain.adopt(hub)?;
        Ok(Self { chain, hub, wallet })
    }

    fn domain(&self) -> Result<Domain, Any> {
        Ok(Domain { chain_id: self.chain.id()?, wallet: from_address(&self.wallet) })
    }

    /// Posts a root and waits until it is active.
    fn post(&self, tree: &Payouts) -> Result<Spent, Any> {
        let seen = self.chain.ask(self.hub, self.wallet, &HubWallet::settledCall {})?;
        let post =
            HubWallet::postCall { root: hash(&tree.root()), total: amount(tree.total()), paidSeen: seen };
        let spent = self.chain.spend(self.hub, self.wallet, &post)?;
        self.chain.wait(24 * 3600)?;
        Ok(spent)
    }

    fn relay<C: SolCall>(&self, call: &C) -> Result<Spent, Any> {
        Ok(self.chain.spend(self.chain.people.relayer, self.wallet, call)?)
    }
}

pub(crate) fn measure(keys: &[IdentityKey]) -> Result<(), Any> {
    let first: Vec<usize> = (0..BATCH).collect();
    let scene = Scene::new()?;
    for (periods, when) in [(1, Some("first")), (2, None), (3, Some("repeated"))] {
        let tree = tree(periods, keys)?;
        let root = scene.post(&tree)?;
        let settled = scene.relay(&tree.multiproof(&first)?.settle(0))?;
        if let Some(when) = when {
            report(&format!("root, {when}"), &root, 1, None)?;
            report(&format!("64 by one proof, each, {when}"), &settled, BATCH, None)?;
        }
    }

    // Each owner has four devices, and lets whoever settles keep a hundredth.
    let scene = Scene::new()?;
    for (number, device) in keys.iter().enumerate() {
        scene.relay(&payee(&scene, device, keys[number / 4].address())?)?;
    }
    for (periods, when) in [(1, "first"), (2, "repeated")] {
        let tree = tree(periods, keys)?;
        scene.post(&tree)?;
        let settled = scene.relay(&tree.multiproof(&first)?.settle(10))?;
        report(&format!("64 by one proof, four a payee, each, {when}"), &settled, BATCH, None)?;
    }

    let scene = Scene::new()?;
    for (periods, when) in [(1, "first"), (2, "repeated")] {
        let whitepaper = approved(&scene, &keys[1])?;
        let tree = tree(periods, keys)?;
        scene.post(&tree)?;
        let claimed = scene.relay(&claim(&scene, &tree, &keys[0])?)?;
        report(&format!("one, signed and relayed, {when}"), &claimed, 1, Some(whitepaper))?;
    }
    Ok(())
}

fn payee(scene: &Scene, device: &IdentityKey, payee: Address) -> Result<HubWallet::setPayeeCall, Any> {
    let deadline = scene.chain.now()? + 3600;
    let payee = Payee { device: device.address(), payee, share_per_mille: 10, nonce: 0, deadline };
    let signature = payee.sign(&scene.domain()?, device)?;
    Ok(HubWallet::setPayeeCall { payee: (&payee).into(), signature: signature.0.to_vec().into() })
}

fn claim(scene: &Scene, tree: &Payouts, device: &IdentityKey) -> Result<HubWallet::claimCall, Any> {
    let line = tree.lines()[0];
    let payout = Payout {
        wallet: scene.domain()?.wallet,
        device: line.device,
        to: Address([0x90; 20]),
        cumulative: line.cumulative,
        max_fee: Amount::from_units(EARNED / 10),
        deadline: scene.chain.now()? + 3600,
    };
    let signature = payout.sign(&scene.domain()?, device)?;
    Ok(HubWallet::claimCall {
        payout: (&payout).into(),
        signature: signature.0.to_vec().into(),
        proof: tree.path(0).ok_or("no such line")?.iter().map(hash).collect(),
        count: U256::from(tree.count()),
        fee: U256::from(EARNED / 100),
    })
}

/// The whitepaper's way through the same wallet: the owner approves, the device pulls.
fn approved(scene: &Scene, device: &IdentityKey) -> Result<u64, Any> {
    let device = address(&device.address());
    scene.chain.adopt(device)?;
    let approve = HubWallet::approvePayoutCall { miner: device, amount: U256::from(EARNED) };
    let approved = scene.chain.spend(scene.chain.people.owner, scene.wallet, &approve)?;
    let pulled = scene.chain.spend(device, scene.wallet, &HubWallet::pullCall {})?;
    Ok(approved.gas + pulled.gas)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(metric: &str, spent: &Spent, among: usize, whitepaper: Option<u64>) -> Result<(), Any> {
    let each = |gas: u64| gas as f64 / among as f64;
    print(metric, each(spent.gas), "gas", whitepaper.map(|gas| ("whitepaper's way", each(gas))))?;
    let known = spent.data + spent.written + spent.read + spent.events;
    for (part, gas) in [
        ("transaction and its data", spent.data),
        ("storage written", spent.written),
        ("storage read", spent.read),
        ("events", spent.events),
        ("the rest", spent.gas.saturating_sub(known)),
    ] {
        print(&format!("{metric}: {part}"), each(gas), "gas", None)?;
    }
    Ok(())
}
