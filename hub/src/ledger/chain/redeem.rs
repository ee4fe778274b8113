//! Brings to the escrow what buyers have signed for, which pays it to the hub's wallet.

use std::sync::Arc;

use alloy_sol_types::{SolCall as _, SolInterface as _};
use sosna_contracts::{address, amount, bindings::DealEscrow};
use sosna_protocol::Amount;
use sosna_store::{Deposit, Purpose};

use super::{
    Chain, ChainError, deposits,
    endpoints::Node,
    follow::Waiting,
    send::{Call, Tried, keep_and_send, sign, try_it},
    view::View,
};
use crate::{error::HubError, hub::Hub};

/// Gas that it is given: what it does not use is not paid for.
const GAS: u64 = 200_000;

/// How many are tried in one round before the rest waits for the next.
const TRIES: usize = 4;

/// What came of looking for something that is due.
pub(super) enum Redemption {
    /// One buyer's was sent.
    Sent(Waiting),
    /// Nothing was; a trouble, in words, where there is one.
    Nothing(Option<String>),
}

/// Sends what is due of one buyer, where anything is: those who will take back before all others, then who has signed
/// for most.
pub(super) async fn when_due(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    view: &View,
) -> Result<Redemption, ChainError> {
    let Some(escrow) = chain.escrow else { return Ok(Redemption::Nothing(None)) };
    let mut trouble = None;
    for due in due(hub, chain).await?.into_iter().take(TRIES) {
        // It may have been paid since it was last seen, by anybody.
        if let Err(error) = deposits::look_at(hub, chain, node, view, std::slice::from_ref(&due)).await {
            // A trouble with a deposit keeps no device from being paid.
            trouble = Some(sosna_host::report::line(&error));
            continue;
        }
        let account = due.account;
        let read = hub
            .store
            .read(move |tx| Box::pin(async move { tx.deposit(&account).await.map_err(HubError::from) }));
        let Some(deposit) = read.await?.filter(|one| one.redeemable() > Amount::ZERO) else { continue };
        let Some(signature) = deposit.signature else { continue };
        let redeem = DealEscrow::redeemCall {
            buyer: address(&account),
            wallet: chain.wallet(),
            cumulative: amount(deposit.confirmed),
            signature: signature.0.to_vec().into(),
        };
        let call = Call {
            to: address(&escrow.wallet),
            data: redeem.abi_encode().into(),
            gas: GAS,
            what: "having the wallet paid what a buyer has signed for",
        };
        match try_it(hub, chain, node, view, call).await? {
            Tried::Ready(draft) => {
                let signed = sign(hub, &draft, Purpose::Deposit(account))?;
                return keep_and_send(hub, node, signed).await.map(Redemption::Sent);
            }
            // Others would have to wait, too.
            Tried::Waits(said) => return Ok(Redemption::Nothing(Some(said))),
            Tried::Refused(refusal) => trouble = explain(&deposit, &refusal).or(trouble),
        }
    }
    Ok(Redemption::Nothing(trouble))
}

/// The escrow's refusal, for a person; `None` where it is none of a kind that lasts.
fn explain(deposit: &Deposit, refusal: &[u8]) -> Option<String> {
    let said = match DealEscrow::DealEscrowErrors::abi_decode(refusal) {
        // Anybody may bring it, and somebody has, in a block that does not count yet.
        Ok(DealEscrow::DealEscrowErrors::NothingDue(_)) => return None,
        Ok(DealEscrow::DealEscrowErrors::TooLittle(_)) => {
            "so much of the deposit was taken back since that it does not suffice".to_owned()
        }
        _ => format!("it says 0x{}", alloy_primitives::hex::encode(refusal)),
    };
    let (confirmed, account) = (deposit.confirmed, deposit.account.checksummed());
    Some(format!("the escrow would not pay the {confirmed} SNM that {account} has signed for: {said}"))
}

/// Of whom something is due, in the order in which it is sent.
async fn due(hub: &Arc<Hub>, chain: &Chain) -> Result<Vec<Deposit>, ChainError> {
    let now = hub.now_ms();
    let (pause, least) = (chain.settings.redeem_ms, chain.settings.redeem_least.0);
    let mut due: Vec<Deposit> = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let mut due = Vec::new();
                for deposit in tx.redeemable_deposits().await? {
                    let is_leaving = deposit.seen.open_from != 0;
                    let last = tx.last_redeemed_ms(&deposit.account).await?;
                    if is_leaving || (deposit.redeemable() >= least && now.saturating_sub(last) >= pause) {
                        due.push(deposit);
                    }
                }
                Ok::<_, HubError>(due)
            })
        })
        .await?;
    due.sort_by_key(|one| std::cmp::Reverse((one.seen.open_from != 0, one.redeemable())));
    Ok(due)
}
