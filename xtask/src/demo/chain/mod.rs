//! `cargo xtask demo --chain`: the money's way, on an EVM of this machine's own: a buyer's deposit becomes what a hub's
//! wallet pays devices for verified work; a hub that cheats loses what it has promised to nobody. Clocks are put forward
//! and nobody is believed: balances are read from the chain, and must add up.

mod balances;
mod cheat;
mod hub;
mod scene;
mod story;

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use sosna_contracts::bindings::SNM;
use sosna_protocol::Amount;

use self::balances::Row;
use self::scene::{Scene, refused, small, snm};
use self::story::{Said, Story};
use super::{Demo, DemoError};
use crate::chain::DevChain;

/// What people have at first: the hubs' owners, the buyer.
const OWNER: Amount = snm(1_000);
const RIVAL: Amount = snm(500);
const BUYER: Amount = snm(50);

impl Demo<'_> {
    /// Runs the demo on a chain, prints who has what, and says whether all of it is as it should be; for machines as one
    /// JSON object.
    ///
    /// # Errors
    /// [`DemoError`] when it could not be run to its end.
    pub fn run_chain(&self, keep: bool, is_for_machines: bool) -> Result<bool, DemoError> {
        self.build()?;
        let image = self.compose()?;
        let begun = Instant::now();
        let folder = self.tree.demo().join("chain");
        let mut story = Story::new(self, is_for_machines);
        story.act("1  A chain of this machine's own, and a wallet for a hub");
        let (mut scene, supply, rest) = open(&mut story, &folder)?;
        let wallet = hub::wallet(&mut story, &mut scene)?;
        story.act("2  The buyer's money");
        hub::deposit(&mut story, &mut scene, wallet)?;
        story.act("3  Devices work, and look for themselves whether the hub can pay");
        let mut honest = hub::work(&mut story, &mut scene, &image.dir, wallet)?;
        story.act("4  The hub commits to what it owes");
        hub::commit(&mut story, &scene, &honest)?;
        story.act("5  Devices are paid");
        hub::claims(&mut story, &scene, &mut honest)?;
        story.act("6  The buyer pays, and the period ends");
        hub::payday(&mut story, &scene, &mut honest)?;
        story.act("7  Another hub cheats");
        let cheat = cheat::play(&mut story, &scene)?;

        let rows = rows(&scene, rest, &honest, &cheat)?;
        let mut faults = honest.faults.clone();
        faults.extend(balances::faults(&rows, supply));
        story.say(&format!("\n{}\n", balances::table(&rows)));
        if faults.is_empty() {
            story.say(&format!("Both columns add up to all {supply} SNM that there are, to the last unit."));
        }
        story.say(&format!("time      {:.1} s from the chain's start", begun.elapsed().as_secs_f32()));
        for fault in &faults {
            story.say(&format!("WRONG     {fault}"));
        }
        if keep {
            story.say(&format!("chain     {}", scene.chain.url()));
            self.keep(&scene.world, &folder);
        }
        let told = faults.len();
        faults.extend(scene.world.stop());
        faults
            .extend(super::world::leftovers(&folder).into_iter().map(|left| format!("left behind: {left}")));
        for fault in &faults[told..] {
            story.say(&format!("WRONG     {fault}"));
        }
        if is_for_machines {
            let told = json!({
                "chain_id": scene.chain_id,
                "supply": supply.to_string(),
                "facts": story.facts,
                "devices": honest.devices,
                "balances": balances::told(&rows),
                "faults": faults,
            });
            self.live().say(&told.to_string());
        } else if faults.is_empty() {
            story.say(
                "All of it is as it should be: every device got what its vouchers say, the relayer its fee, and the hub \
                 that cheated\nlost what it had promised to nobody.",
            );
        }
        Ok(faults.is_empty())
    }
}

/// The chain, a hub without a wallet yet, and people with pocket money; all tokens that there are, and what their holder
/// has left.
fn open(story: &mut Story<'_>, folder: &Path) -> Result<(Scene, Amount, Amount), DemoError> {
    let demo = story.demo;
    let chain = story.step("chain", |line| {
        line.now("anvil, and the contracts");
        let chain = DevChain::start(demo.tree).map_err(refused("start a chain"))?;
        let words = format!("anvil at {}, with all contracts", chain.url());
        Ok(Said::new(chain, words))
    })?;
    let world = story.step("hub", |_| {
        let world = hub::start(demo, folder)?;
        let words = format!("serves at {}", world.web);
        Ok(Said::new(world, words))
    })?;
    let scene = Scene::new(chain, world, folder)?;
    let token = scene.chain.contracts.token;
    let supply = small(&scene.ask(token, &SNM::totalSupplyCall {})?)?;
    story.step("tokens", |_| {
        let holder = scene.chain.people.holder;
        let sent = [
            scene.pay(holder, scene.owner.at, OWNER)?,
            scene.pay(holder, scene.buyer.at, BUYER)?,
            scene.pay(holder, scene.rival.at, RIVAL)?,
        ];
        let words =
            format!("{OWNER} SNM for the hub's owner, {BUYER} for a buyer, {RIVAL} for another hub's owner");
        Ok(Said::new((), words).by(sent))
    })?;
    let rest = scene.balance(scene.chain.people.holder)?;
    Ok((scene, supply, rest))
}

/// Everybody's balances, and what they should be by what was done.
fn rows(
    scene: &Scene,
    rest: Amount,
    honest: &hub::Outcome,
    cheat: &cheat::Outcome,
) -> Result<Vec<Row>, DemoError> {
    let of = |owner: &str| {
        hub::sum(honest.devices.iter().filter(|device| device.owner == owner).map(|device| device.owed))
    };
    let less = |from: Amount, what: Amount| {
        from.checked_sub(what).ok_or_else(|| DemoError::Wrong(format!("{what} SNM are more than {from}")))
    };
    let (anna, boris) = (of("anna")?, of("boris")?);
    // What came from the escrow went to devices, the DAO and the owner.
    let owner = less(hub::sum([OWNER, honest.spent])?, hub::sum([anna, boris, honest.dao_fee])?)?;
    let committed = hub::sum(cheat.devices.map(|(_, due)| due))?;
    let taken = less(cheat::FUNDS, committed)?;
    let nothing = Amount::ZERO;
    let (people, contracts) = (&scene.chain.people, &scene.chain.contracts);
    let all = [
        ("holder of the rest", people.holder, rest, rest),
        ("buyer", scene.buyer.at, BUYER, less(BUYER, hub::DEPOSIT)?),
        ("DealEscrow", contracts.escrow, nothing, less(hub::DEPOSIT, honest.spent)?),
        ("hub's wallet", honest.wallet, nothing, nothing),
        ("hub's owner", scene.owner.at, OWNER, owner),
        ("anna, for spruce and larch", honest.anna, nothing, anna),
        ("boris, for birch", honest.boris, nothing, less(boris, honest.fee)?),
        ("relayer", scene.relayer.at, nothing, honest.fee),
        ("DAO", people.dao, nothing, hub::sum([honest.dao_fee, taken])?),
        ("cheating hub's wallet", cheat.wallet, nothing, nothing),
        ("cheating hub's owner", scene.rival.at, RIVAL, less(RIVAL, cheat::FUNDS)?),
        ("alder, at the cheating hub", cheat.devices[0].0, nothing, cheat.devices[0].1),
        ("aspen, at the cheating hub", cheat.devices[1].0, nothing, cheat.devices[1].1),
    ];
    let row = |(who, account, before, expected): (_, alloy_primitives::Address, _, _)| {
        let (address, after) = (account.to_string(), scene.balance(account)?);
        Ok(Row { who, address, before, after, expected })
    };
    all.into_iter().map(row).collect()
}
