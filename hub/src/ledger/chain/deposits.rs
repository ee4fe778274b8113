//! What buyers have in the escrow, as of a block that is deep enough.

use std::sync::{Arc, PoisonError};

use futures_util::future;
use sosna_contracts::{address, bindings::DealEscrow};
use sosna_protocol::{Address, Amount};
use sosna_store::{Deposit, Seen};

use super::{Chain, ChainError, endpoints::Node, follow, view::View};
use crate::{
    error::HubError,
    hub::Hub,
    ledger::deposits::{book, says_nothing_new},
};

/// How many deposits are looked at in one round: more than most hubs have, and no flood of questions for those that do.
const AT_ONCE: u32 = 20;
const WHAT: &str = "a deposit";

/// Looks at deposits, the next ones in each round.
pub(super) async fn look(hub: &Arc<Hub>, chain: &Chain, node: &Node, view: &View) -> Result<(), ChainError> {
    let some = next(hub, chain).await?;
    look_at(hub, chain, node, view, &some).await
}

/// Looks at these.
pub(super) async fn look_at(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    view: &View,
    deposits: &[Deposit],
) -> Result<(), ChainError> {
    let Some(escrow) = chain.escrow.filter(|_| !deposits.is_empty()) else { return Ok(()) };
    let block = view.settled(chain.settings.confirmations);
    let witness = chain.endpoints.witness(node).await?;
    let each = deposits.iter().map(|deposit| {
        let witness = witness.as_ref();
        async move {
            let account = &deposit.account;
            let seen = ask(chain, node, &escrow.wallet, account, block).await?;
            if let Some(witness) = witness
                && ask(chain, witness, &escrow.wallet, account, block).await? != seen
            {
                let what = format!("the deposit of {} as of block {block}", account.checksummed());
                return Err(follow::disagree(node, witness, what));
            }
            Ok((deposit, seen))
        }
    });
    for (deposit, seen) in future::try_join_all(each).await? {
        if says_nothing_new(deposit, &seen) {
            continue;
        }
        let account = deposit.account;
        hub.change(move |tx, hub| Box::pin(async move { Ok(((), book(tx, &hub, account, seen).await?)) }))
            .await?;
    }
    Ok(())
}

/// Whose turn it is.
async fn next(hub: &Arc<Hub>, chain: &Chain) -> Result<Vec<Deposit>, ChainError> {
    if chain.escrow.is_none() {
        return Ok(Vec::new());
    }
    let after = *chain.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
    let some: Vec<Deposit> = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let some = tx.deposits(after.as_ref(), AT_ONCE).await?;
                match some.is_empty() && after.is_some() {
                    true => tx.deposits(None, AT_ONCE).await.map_err(HubError::from),
                    false => Ok(some),
                }
            })
        })
        .await?;
    let is_full = u32::try_from(some.len()).is_ok_and(|count| count == AT_ONCE);
    let last = some.last().map(|one| one.account).filter(|_| is_full);
    *chain.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = last;
    Ok(some)
}

async fn ask(
    chain: &Chain,
    node: &Node,
    escrow: &Address,
    account: &Address,
    block: u64,
) -> Result<Seen, ChainError> {
    let call = DealEscrow::depositOfCall { buyer: address(account), wallet: chain.wallet() };
    let found = node.ask(WHAT, address(escrow), &call, block).await?;
    Ok(Seen {
        put: Amount::from_units(found.put),
        claimed: Amount::from_units(found.claimed),
        open_from: found.openFrom.to(),
        block,
    })
}
