//! `sosna hubs`: the registry of hubs, and what owners do with their hubs' wallets.

mod register;

use std::path::Path;

use alloy_primitives::B256;
use serde_json::json;
use sosna_api::{
    text::{AddressText, AmountText, HashText},
    wallet::WalletPhase,
};
use sosna_contracts::{
    address, amount,
    bindings::{HubRegistry, HubWallet},
    from_amount, hash,
};
use sosna_host::file::FileError;
use sosna_protocol::{Address, Amount, Hash, hash::sha256};

use crate::{
    args::{DescribeArgs, HubsCommand, HubsListArgs, HubsShowArgs, PaydayArgs, WithdrawArgs, Withdrawal},
    chain::{
        Advice, ChainError, Sent, ether,
        wallet::{self, Contracts, Listing, State},
    },
    error::Error,
    output, show,
};

/// No description is longer.
const MAX_DETAILS: u64 = 16 << 20;

pub(super) async fn hubs(command: HubsCommand) -> Result<(), Error> {
    match command {
        HubsCommand::List(args) => list(&args).await,
        HubsCommand::Show(args) => show(&args).await,
        HubsCommand::Register(args) => register::register(&args).await,
        HubsCommand::Describe(args) => describe(&args).await,
        HubsCommand::Payday(args) => payday(&args).await,
        HubsCommand::Withdraw(args) => withdraw(&args).await,
    }
}

async fn list(args: &HubsListArgs) -> Result<(), Error> {
    let factory = args.chain.factory.ok_or(ChainError::NoFactory)?;
    let node = args.chain.node().await?;
    let at = node.head().await?;
    let contracts = Contracts::of(&node, factory.0, at).await?;
    let entries = contracts.entries(&node, at).await?;
    if args.json {
        return output::json(&json!({
            "chain_id": node.chain_id(),
            "registry": AddressText::from(contracts.registry),
            "block": at.number,
            "hubs": entries,
        }));
    }
    output::line(&show::entries(&entries, at.time.saturating_mul(1000)))
}

async fn show(args: &HubsShowArgs) -> Result<(), Error> {
    let node = args.chain.node().await?;
    let at = node.head().await?;
    let contracts = wallet::open(&node, args.wallet.0, factory(args.chain.factory), at).await?;
    let state = State::look(&node, args.wallet.0, &contracts, at).await?;
    if args.json { output::json(&state) } else { output::line(&show::state(&state)) }
}

async fn describe(args: &DescribeArgs) -> Result<(), Error> {
    let details = args.words.details.as_deref().map(digest).transpose()?;
    let node = args.act.chain.node().await?;
    let mut sender = args.act.sign.sender(node.clone())?;
    let moment = sender.moment().await?;
    let contracts = wallet::open(&node, args.wallet.0, factory(args.act.chain.factory), moment.block).await?;
    let listing = contracts.listing(&node, args.wallet.0, moment.block).await?;
    let listing = listing.ok_or_else(|| {
        Error::Refused(format!(
            "the wallet {} is in no registry: `sosna hubs register` registers and describes it",
            args.wallet
        ))
    })?;
    let (name, url) = (args.words.name.as_deref(), args.words.url.as_deref());
    let Some(call) = description(args.wallet.0, &listing, name, url, details) else {
        return unchanged(args.act.json, "the registry says this already; nothing was sent");
    };
    let sent = sender.send(moment, "describing the hub", contracts.registry, &call, Advice::Repeat).await?;
    told(args.act.json, "described", &sent, &[])
}

async fn payday(args: &PaydayArgs) -> Result<(), Error> {
    let node = args.act.chain.node().await?;
    let mut sender = args.act.sign.sender(node.clone())?;
    let moment = sender.moment().await?;
    let at = args.wallet.0;
    wallet::open(&node, at, factory(args.act.chain.factory), moment.block).await?;
    match wallet::phase(&node, at, moment.block).await? {
        WalletPhase::Idle => {
            return unchanged(args.act.json, "the wallet's period has ended already; nothing was sent");
        }
        WalletPhase::Created => {
            return Err(Error::Refused("the wallet has never begun a period; nothing was sent".to_owned()));
        }
        WalletPhase::Registered | WalletPhase::Suspected | WalletPhase::Punished => {}
    }
    let call = HubWallet::paydayCall {};
    let sent = sender.send(moment, "ending the period", at, &call, Advice::Repeat).await?;
    let ended: Option<HubWallet::Payday> = sent.events(at).next();
    let ended = ended.map(|it| [it.unlocked, it.fee].map(|units| from_amount(&units).unwrap_or_default()));
    let [unlocked, fee] = ended.unwrap_or_default();
    told(args.act.json, "ended", &sent, &[("unlocked", unlocked), ("fee", fee)])
}

async fn withdraw(args: &WithdrawArgs) -> Result<(), Error> {
    let node = args.act.chain.node().await?;
    let mut sender = args.act.sign.sender(node.clone())?;
    let moment = sender.moment().await?;
    let at = args.wallet.0;
    wallet::open(&node, at, factory(args.act.chain.factory), moment.block).await?;
    let (units, advice) = match args.amount {
        Withdrawal::Amount(amount) => (amount.0, Advice::LookFirst("sosna hubs show")),
        Withdrawal::All => {
            let free = node.ask(wallet::WALLET, at, &HubWallet::freeCall {}, moment.block).await?;
            (from_amount(&free).unwrap_or_default(), Advice::Repeat)
        }
    };
    if units == Amount::ZERO {
        return unchanged(args.act.json, "there is nothing to withdraw; nothing was sent");
    }
    let to = args.to.map_or_else(|| sender.account(), |to| to.0);
    let call = HubWallet::withdrawCall { to: address(&to), amount: amount(units) };
    let sent = sender.send(moment, &format!("withdrawing {units} SNM"), at, &call, advice).await?;
    told(args.act.json, &format!("{} got", to.checksummed()), &sent, &[("withdrawn", units)])
}

/// What changes the registry's words about a hub to these; `None` where they are these already.
fn description(
    wallet: Address,
    listing: &Listing,
    name: Option<&str>,
    endpoint: Option<&str>,
    details: Option<Hash>,
) -> Option<HubRegistry::describeCall> {
    let (name, endpoint) = (name.unwrap_or(&listing.name), endpoint.unwrap_or(&listing.endpoint));
    let details = details.unwrap_or(*listing.details);
    if name == listing.name && endpoint == listing.endpoint && details == *listing.details {
        return None;
    }
    Some(HubRegistry::describeCall {
        wallet: address(&wallet),
        description: HubRegistry::Description {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            details: B256::from(hash(&details)),
        },
    })
}

/// The SHA-256 of a description.
fn digest(path: &Path) -> Result<Hash, Error> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_DETAILS + 1).read_to_end(&mut bytes))
        .map_err(FileError::of("read", path))?;
    if bytes.len() as u64 > MAX_DETAILS {
        let mib = MAX_DETAILS >> 20;
        return Err(Error::Usage(format!(
            "{} is longer than {mib} MiB, as no description is",
            path.display()
        )));
    }
    Ok(sha256(&bytes))
}

fn factory(named: Option<AddressText>) -> Option<Address> {
    named.map(|it| it.0)
}

/// Says that nothing was to be done.
fn unchanged(json: bool, text: &str) -> Result<(), Error> {
    if json { output::json(&json!({ "transaction": null })) } else { output::line(text) }
}

/// Says what was done, in how many SNM.
fn told(json: bool, what: &str, sent: &Sent, amounts: &[(&'static str, Amount)]) -> Result<(), Error> {
    if json {
        let mut value = json!({
            "transaction": HashText::from(sent.hash),
            "gas_ether": AmountText::from(Amount::from_units(sent.cost)),
        });
        for (name, units) in amounts {
            value[*name] = json!(AmountText::from(*units));
        }
        return output::json(&value);
    }
    let amounts = amounts.iter().map(|(name, units)| (*name, format!("{units} SNM")));
    let rest = [("transaction", format!("0x{}", sent.hash)), ("gas", format!("{} ether", ether(sent.cost)))];
    let lines = show::facts(&amounts.chain(rest).collect::<Vec<_>>());
    output::line(&format!("{what}\n{lines}"))
}
