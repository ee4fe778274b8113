//! `sosna deposits put`: makes an account known to the hub, lets the escrow take the amount, and deposits it.

use serde_json::json;
use sosna_api::{
    deposit::{Deposit, NewDepositAccount},
    route,
    wallet::WalletPhase,
};
use sosna_contracts::{
    address, amount,
    bindings::{DealEscrow, SNM},
};
use sosna_protocol::{
    Amount,
    eip712::{BuyerAccount, Typed as _},
};

use super::{Step, domain, list, own};
use crate::{
    args::PutArgs,
    chain::{Advice, ChainError, Node, Sender, escrow::Escrow, ether, wallet},
    client::Hub,
    error::Error,
    output, show,
};

pub(super) async fn put(hub: &Hub, args: &PutArgs) -> Result<(), Error> {
    let units = args.amount.0;
    if units == Amount::ZERO {
        return Err(Error::Usage("0 SNM are no deposit; name an amount above 0".to_owned()));
    }
    let list = list(hub).await?;
    let Some(named) = args.chain.escrow else {
        return Err(Error::Usage(format!(
            "name the contract that you deposit in, with --escrow or SOSNA_ESCROW. The hub says that it is {}: find out from \
             others whether that is so, since whoever names it gets the money",
            list.escrow
        )));
    };
    if named != list.escrow {
        return Err(Error::Refused(format!(
            "the hub looks at deposits in {}, and --escrow names {named}: it would not count as credit; nothing was sent",
            list.escrow
        )));
    }
    let wallet = *list.wallet;
    let node = Node::named(args.chain.endpoint.as_deref()).await?;
    node.require_chain("the hub's deposits", list.chain_id)?;
    let mut sender = args.sign.sender(node.clone())?;
    let moment = sender.moment().await?;
    let escrow = Escrow::of(&node, named.0, wallet, moment.block).await?;
    let phase = wallet::phase(&node, wallet, moment.block).await?;
    if matches!(phase, WalletPhase::Suspected | WalletPhase::Punished) {
        return Err(Error::Refused(format!(
            "the hub's wallet {} is {phase}: do not deposit for it; nothing was sent",
            list.wallet
        )));
    }
    let account = sender.account();
    let (has, allowed) = escrow.means(&node, account, moment.block).await?;
    if has < units {
        return Err(ChainError::NoTokens { account, has, needs: units }.into());
    }

    // Before any money moves: a hub that does not take the account would not credit it.
    link(hub, &list, &sender).await?;
    let mut steps = Vec::new();
    let mut moment = moment;
    if allowed < units {
        let call = SNM::approveCall { spender: address(&escrow.at), value: amount(units) };
        let what = format!("letting the escrow take {units} SNM");
        let sent = sender.send(moment, &what, escrow.token, &call, Advice::Repeat).await?;
        steps.push(Step::new("approve", &sent));
        moment = sender.moment().await?;
    }
    let call = DealEscrow::depositCall { wallet: address(&wallet), amount: amount(units) };
    let what = format!("depositing {units} SNM");
    let sent = sender.send(moment, &what, escrow.at, &call, Advice::LookFirst("sosna deposits")).await?;
    let cost = steps.iter().fold(sent.cost, |sum, step| sum.saturating_add(step.gas_ether.units()));
    steps.push(Step::new("deposit", &sent));
    let moment = sender.moment().await?;
    let held = escrow.held(&node, account, wallet, moment.block).await?;
    if args.json {
        return output::json(&json!({
            "account": sosna_api::text::AddressText::from(account),
            "deposited": sosna_api::text::AmountText::from(held.put),
            "steps": steps,
        }));
    }
    output::line(&show::facts(&[
        ("deposited", format!("{units} SNM; {} in all for the wallet {}", held.put, list.wallet)),
        ("account", account.checksummed().as_str().to_owned()),
        ("transaction", format!("0x{}", sent.hash)),
        ("gas", format!("{} ether", ether(cost))),
        (
            "next",
            "the hub counts it when it is under enough blocks; `sosna deposits` shows what it has seen"
                .to_owned(),
        ),
    ]))
}

/// Makes the key's account known to the hub, where it is not.
async fn link(hub: &Hub, list: &sosna_api::deposit::DepositList, sender: &Sender) -> Result<(), Error> {
    let account = sender.account();
    let (known, name) = own(hub, list).await?;
    if known.is_some_and(|known| *known.account == account) {
        return Ok(());
    }
    let link = BuyerAccount { account, wallet: *list.wallet, buyer: &name };
    let signature = link.sign(&domain(list), sender.key()).map_err(ChainError::from)?;
    let new = NewDepositAccount { account: account.into(), signature: signature.into() };
    let linked: Deposit = hub.post(route::DEPOSITS_ACCOUNT, &new).await?;
    output::note(&format!("the hub knows {} as the account of `{}`", linked.account, linked.buyer));
    Ok(())
}
