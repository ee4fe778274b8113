//! Buyers' deposits.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use sosna_api::deposit::{Deposit, DepositList, DepositQuery, NewBuyerVoucher, NewDepositAccount};
use sosna_protocol::Address;
use sosna_store::{Role, Tx};

use super::{
    Caller, Failure, JsonBody, Served,
    extract::{Params, list_limit},
    wallet::view_transaction,
};
use crate::error::HubError;

/// `GET /v1/deposits`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(query): Params<DepositQuery>,
) -> Result<Json<DepositList>, Failure> {
    let limit = list_limit(query.limit)?;
    let (chain, escrow) = served.hub.escrow()?;
    let (user, after) = (caller.0, query.after.map(|after| after.0));
    let (found, shown) = served
        .hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let found = match user.role {
                    Role::Admin => tx.deposits(after.as_ref(), limit).await?,
                    _ => tx.deposit_of(&user.name).await?.into_iter().collect(),
                };
                let mut shown = Vec::with_capacity(found.len());
                for deposit in &found {
                    shown.push(view(tx, deposit).await?);
                }
                Ok::<_, HubError>((found, shown))
            })
        })
        .await?;
    let full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
    let next = found.last().filter(|_| full).map(|one| one.account.into());
    Ok(Json(DepositList {
        chain_id: escrow.chain_id,
        escrow: escrow.wallet.into(),
        wallet: chain.domain.wallet.into(),
        exposure: chain.settings.buyer_exposure,
        deposits: shown,
        next,
    }))
}

/// `POST /v1/deposits/account`.
pub(super) async fn link(
    State(served): State<Arc<Served>>,
    caller: Caller,
    JsonBody(new): JsonBody<NewDepositAccount>,
) -> Result<(StatusCode, Json<Deposit>), Failure> {
    caller.require(&[Role::Buyer, Role::Admin])?;
    let fresh = served.hub.link_account(&caller.0.name, *new.account, *new.signature).await?;
    let deposit = show(&served, *new.account).await?;
    Ok((if fresh { StatusCode::CREATED } else { StatusCode::OK }, Json(deposit)))
}

/// `POST /v1/deposits/voucher`.
pub(super) async fn confirm(
    State(served): State<Arc<Served>>,
    caller: Caller,
    JsonBody(new): JsonBody<NewBuyerVoucher>,
) -> Result<Json<Deposit>, Failure> {
    caller.require(&[Role::Buyer, Role::Admin])?;
    let account = served.hub.confirm(&caller.0.name, *new.cumulative, *new.signature).await?;
    Ok(Json(show(&served, account).await?))
}

async fn show(served: &Served, account: Address) -> Result<Deposit, HubError> {
    let read = served.hub.store.read(move |tx| {
        Box::pin(async move {
            let deposit = tx.deposit(&account).await?.ok_or_else(|| HubError::not_found("deposit"))?;
            view(tx, &deposit).await
        })
    });
    read.await
}

async fn view(tx: &mut Tx, deposit: &sosna_store::Deposit) -> Result<Deposit, HubError> {
    let seen = &deposit.seen;
    let redemption = tx.last_redemption(&deposit.account).await?;
    Ok(Deposit {
        buyer: deposit.buyer.clone(),
        account: deposit.account.into(),
        deposited: seen.put.into(),
        claimed: seen.claimed.into(),
        open_ms: (seen.open_from != 0).then_some(seen.open_from.saturating_mul(1000)),
        owed: deposit.owed().into(),
        confirmed: deposit.confirmed.into(),
        unconfirmed: deposit.unconfirmed().into(),
        redemption: redemption.as_ref().map(view_transaction),
    })
}
