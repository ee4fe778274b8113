//! `sosna payouts settle`: pays whoever is owed something by the hub's newest root, many devices by one transaction.

use std::collections::BTreeSet;

use alloy_primitives::U256;
use serde::Serialize;
use sosna_api::{
    text::{AddressText, AmountText, HashText},
    wallet::PayoutList,
};
use sosna_contracts::{bindings::HubWallet, from_amount, payouts::Payouts};
use sosna_protocol::{Address, Amount, Hash};

use crate::{
    args::SettleArgs,
    chain::{
        Advice, Block, Node, Sender, ether,
        wallet::{self, Roots},
    },
    client::Hub,
    error::Error,
    output,
    quantity::show_duration,
    show,
};

/// A line of the list that is not paid whole.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// Its place in the list.
    place: usize,
    /// What is missing.
    missing: Amount,
}

/// The same, as it is told.
#[derive(Debug, Serialize)]
struct Missing {
    device: AddressText,
    cumulative: AmountText,
    missing: AmountText,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    /// By which root.
    root: HashText,
    /// Devices that were owed something before, and how many were not.
    devices: Vec<Missing>,
    passed_over: usize,
    /// Devices that are owed less than is paid now.
    below: Vec<Missing>,
    /// What was missing, and what came to devices and their payees of it.
    owed: AmountText,
    paid: AmountText,
    /// What devices let the sender keep.
    fees: AmountText,
    transactions: Vec<HashText>,
    gas_ether: AmountText,
}

pub(super) async fn settle(hub: &Hub, args: &SettleArgs) -> Result<(), Error> {
    let (list, tree) = super::fetch(hub, None).await?;
    let node = args.act.chain.node().await?;
    node.require_chain("the hub's list", list.chain_id)?;
    let head = node.head().await?;
    let at = *list.wallet;
    wallet::open(&node, at, args.act.chain.factory.map(|it| it.0), head).await?;
    let roots = wallet::roots(&node, at, head).await?;
    // While the newest waits, the one before can be claimed by.
    let (list, tree) = match before(&list, &roots, head) {
        Some(before) => super::fetch(hub, Some(before)).await?,
        None => (list, tree),
    };
    require_claimable(&list, at, &roots, head)?;
    let wanted = wanted(&tree, &args.only)?;

    let bar = output::count_bar("devices looked at", count(wanted.len()));
    let owed = owed(&node, at, &tree, &wanted, head, |more| bar.inc(count(more))).await;
    bar.finish_and_clear();
    let (owed, below) = split(owed?, args.least.map(|least| least.0));
    let sum = owed.iter().try_fold(Amount::ZERO, |sum, line| sum.checked_add(line.missing));
    let sum = sum.ok_or_else(|| Error::Failed("the sum of what is owed cannot exist".to_owned()))?;
    let mut done = Done {
        root: list.root,
        devices: owed.iter().map(|line| line.told(&tree)).collect(),
        passed_over: wanted.len() - owed.len() - below.len(),
        below: below.iter().map(|line| line.told(&tree)).collect(),
        owed: sum.into(),
        paid: Amount::ZERO.into(),
        fees: Amount::ZERO.into(),
        transactions: Vec::new(),
        gas_ether: Amount::ZERO.into(),
    };
    if owed.is_empty() {
        let text = if below.is_empty() {
            format!(
                "nothing is owed: each of {} has been paid all that the root 0x{} says; nothing was sent",
                devices(wanted.len()),
                list.root
            )
        } else {
            format!("nobody is owed so much; {} owed less; nothing was sent", are(below.len()))
        };
        return if args.act.json { output::json(&done) } else { output::line(&text) };
    }
    if args.dry_run {
        let lines = done.devices.iter().map(|line| (*line.device, *line.cumulative, *line.missing));
        let table = show::owed(&lines.collect::<Vec<_>>());
        let transactions = owed.len().div_ceil(usize::from(args.batch));
        let text = format!(
            "{table}\n\n{} owed {sum} SNM: {transactions} transactions; {} paid already, {} owed less; nothing was sent",
            devices(owed.len()),
            done.passed_over,
            below.len()
        );
        return if args.act.json { output::json(&done) } else { output::line(&text) };
    }
    let mut sender = args.act.sign.sender(node)?;
    pay(&mut sender, args, at, &tree, &owed, &mut done).await?;
    if args.act.json {
        return output::json(&done);
    }
    output::line(&show::facts(&[
        ("paid", format!("{} SNM to {}", done.paid, devices(done.devices.len()))),
        ("passed over", format!("{} paid already, {} owed less", devices(done.passed_over), below.len())),
        ("fees", format!("{} SNM to {}", done.fees, sender.account().checksummed())),
        ("root", format!("0x{}", done.root)),
        (
            "gas",
            format!("{} ether in {} transactions", ether(done.gas_ether.units()), done.transactions.len()),
        ),
    ]))
}

// === impl Owed ===

impl Owed {
    fn told(&self, tree: &Payouts) -> Missing {
        let line = tree.lines()[self.place];
        Missing {
            device: line.device.into(),
            cumulative: line.cumulative.into(),
            missing: self.missing.into(),
        }
    }
}

/// Sends one transaction after another; what was paid is paid, wherever it stops.
async fn pay(
    sender: &mut Sender,
    args: &SettleArgs,
    at: Address,
    tree: &Payouts,
    owed: &[Owed],
    done: &mut Done,
) -> Result<(), Error> {
    let bar = output::count_bar("devices paid", count(owed.len()));
    let batches = owed.chunks(usize::from(args.batch));
    let total = batches.len();
    let (mut paid, mut fees, mut gas) = (0_u128, 0_u128, 0_u128);
    for (number, batch) in batches.enumerate() {
        let moment = sender.moment().await?;
        // Others may have paid some meanwhile.
        let places: Vec<usize> = batch.iter().map(|line| line.place).collect();
        let node = sender.node().clone();
        let left = self::owed(&node, at, tree, &places, moment.block, |_| ()).await?;
        if !left.is_empty() {
            let places: Vec<usize> = left.iter().map(|line| line.place).collect();
            let proof = tree.multiproof(&places).map_err(|error| Error::Failed(error.to_string()))?;
            let call = proof.settle(args.share);
            if number == 0 && total > 1 {
                let about = sender.cost(moment, at, &call).await?.saturating_mul(total as u128);
                output::note(&format!("{total} transactions, about {} ether for gas in all", ether(about)));
            }
            let what = format!("paying {}, {} of {total}", devices(left.len()), number + 1);
            let sent = sender.send(moment, &what, at, &call, Advice::Repeat).await?;
            let units =
                |sum: u128, value: &U256| sum.saturating_add(from_amount(value).unwrap_or_default().units());
            let all = sent.events(at).fold(0, |sum, it: HubWallet::Paid| units(sum, &it.amount));
            let kept = sent.events(at).fold(0, |sum, it: HubWallet::Relayed| units(sum, &it.fee));
            paid = all.saturating_sub(kept).saturating_add(paid);
            (fees, gas) = (kept.saturating_add(fees), sent.cost.saturating_add(gas));
            done.transactions.push(sent.hash.into());
        }
        bar.inc(count(batch.len()));
    }
    bar.finish_and_clear();
    done.paid = Amount::from_units(paid).into();
    done.fees = Amount::from_units(fees).into();
    done.gas_ether = Amount::from_units(gas).into();
    Ok(())
}

/// The places in the list of whom to pay.
fn wanted(tree: &Payouts, only: &[AddressText]) -> Result<Vec<usize>, Error> {
    let mut named: BTreeSet<Address> = only.iter().map(|device| device.0).collect();
    let is_all = named.is_empty();
    let lines = tree.lines().iter().enumerate();
    let places = lines.filter(|(_, line)| is_all || named.remove(&line.device)).map(|(place, _)| place);
    let places: Vec<usize> = places.collect();
    match named.first() {
        None => Ok(places),
        Some(device) => Err(Error::NotFound(format!(
            "{} is not in the hub's list: nothing is owed to it by this root",
            device.checksummed()
        ))),
    }
}

/// Which of them are not paid whole, as of a block.
async fn owed(
    node: &Node,
    at: Address,
    tree: &Payouts,
    places: &[usize],
    block: Block,
    each: impl FnMut(usize),
) -> Result<Vec<Owed>, Error> {
    let asked: Vec<Address> = places.iter().map(|place| tree.lines()[*place].device).collect();
    let paid = wallet::paid(node, at, &asked, block, each).await?;
    let lines = places.iter().zip(paid).map(|(place, paid)| {
        let missing = tree.lines()[*place].cumulative.checked_sub(paid).unwrap_or_default();
        Owed { place: *place, missing }
    });
    Ok(lines.filter(|line| line.missing > Amount::ZERO).collect())
}

/// The root to settle by instead of the list's, which cannot be claimed by yet.
fn before(list: &PayoutList, roots: &Roots, head: Block) -> Option<Hash> {
    let waits = *roots.newest == *list.root && roots.active_ms > head.time.saturating_mul(1000);
    (waits && *roots.before != Hash::ZERO).then_some(*roots.before)
}

/// That the wallet pays by the list's root now.
fn require_claimable(list: &PayoutList, at: Address, roots: &Roots, head: Block) -> Result<(), Error> {
    let now_ms = head.time.saturating_mul(1000);
    if *list.wallet != at {
        return Err(Error::Contradiction("the hub's lists are for two different wallets".to_owned()));
    }
    if *roots.before == *list.root || (*roots.newest == *list.root && roots.active_ms <= now_ms) {
        return Ok(());
    }
    if *roots.newest == *list.root {
        let left = show_duration(roots.active_ms - now_ms);
        return Err(Error::Refused(format!(
            "the root 0x{} can be claimed by in {left}, and not before; repeat the command then",
            list.root
        )));
    }
    Err(Error::Contradiction(format!(
        "the hub's list is over the root 0x{}, and its wallet {} has 0x{} and before it 0x{}: the hub has not seen what is \
         on the chain yet, or hides it; repeat the command in a while",
        list.root, list.wallet, roots.newest, roots.before
    )))
}

/// Who is owed as much as is paid now, and who is not.
fn split(owed: Vec<Owed>, least: Option<Amount>) -> (Vec<Owed>, Vec<Owed>) {
    owed.into_iter().partition(|line| least.is_none_or(|least| line.missing >= least))
}

fn are(count: usize) -> String {
    format!("{} {}", devices(count), if count == 1 { "is" } else { "are" })
}

fn devices(count: usize) -> String {
    if count == 1 { "1 device".to_owned() } else { format!("{count} devices") }
}

fn count(number: usize) -> u64 {
    number as u64
}
