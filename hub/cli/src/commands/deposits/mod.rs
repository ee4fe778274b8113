//! `sosna deposits`.

mod confirm;
mod leave;
mod put;

use serde::Serialize;
use sosna_api::{
    deposit::{Deposit, DepositList},
    route,
    text::{AmountText, HashText},
    user::User,
};
use sosna_protocol::{Amount, eip712::Domain};

use crate::{
    args::{DepositsArgs, DepositsCommand},
    client::{self, Hub},
    connect::ConnectArgs,
    error::Error,
    output, show,
};

/// How many are fetched at once.
const PAGE: u32 = 1000;

pub(super) async fn deposits(connect: &ConnectArgs, args: DepositsArgs) -> Result<(), Error> {
    match args.command {
        None => {
            let list = list(&super::hub(connect)?).await?;
            if args.json { output::json(&list) } else { output::line(&show::deposits(&list)) }
        }
        Some(DepositsCommand::Put(args)) => put::put(&super::hub(connect)?, &args).await,
        Some(DepositsCommand::Confirm(args)) => confirm::confirm(&super::hub(connect)?, &args).await,
        Some(DepositsCommand::Notice(args)) => leave::notice(connect, &args).await,
        Some(DepositsCommand::TakeBack(args)) => leave::take_back(connect, &args).await,
    }
}

/// All that the hub shows of deposits.
async fn list(hub: &Hub) -> Result<DepositList, Error> {
    let limit = || Some(PAGE.to_string());
    let mut list: DepositList = hub.get(&client::query(route::DEPOSITS, &[("limit", limit())])).await?;
    while let Some(after) = list.next {
        let path = client::query(route::DEPOSITS, &[("limit", limit()), ("after", Some(after.to_string()))]);
        let more: DepositList = hub.get(&path).await?;
        list.deposits.extend(more.deposits);
        list.next = more.next;
    }
    Ok(list)
}

/// The caller's own deposit, where there is one, and the caller's name.
async fn own(hub: &Hub, list: &DepositList) -> Result<(Option<Deposit>, String), Error> {
    let me: User = hub.get(route::ME).await?;
    let deposit = list.deposits.iter().find(|one| one.buyer == me.name).cloned();
    Ok((deposit, me.name))
}

/// What is signed for.
fn domain(list: &DepositList) -> Domain {
    Domain { chain_id: list.chain_id, wallet: *list.escrow }
}

/// A transaction that was sent, for machines.
#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    transaction: HashText,
    gas_ether: AmountText,
}

impl Step {
    fn new(step: &'static str, sent: &crate::chain::Sent) -> Self {
        let gas_ether = Amount::from_units(sent.cost).into();
        Self { step, transaction: sent.hash.into(), gas_ether }
    }
}
