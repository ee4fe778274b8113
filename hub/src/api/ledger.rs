//! The books.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use sosna_api::ledger::{Account, Entry, EntryKind, Ledger, LedgerQuery, NewCredit};
use sosna_protocol::{Address, Amount};
use sosna_store::{Role, Tx};

use super::{
    Caller, Failure, JsonBody, Served,
    extract::{Params, idempotency_key, list_limit},
};
use crate::{admin, error::HubError};

/// `GET /v1/ledger`.
pub(super) async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(query): Params<LedgerQuery>,
) -> Result<Json<Ledger>, Failure> {
    let limit = list_limit(query.limit)?;
    let ledger = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let only = (caller.0.role != Role::Admin).then_some(caller.0.name);
                let account = only.clone().map(sosna_store::Account::Buyer);
                let found = tx.entries(account.as_ref(), query.before, limit).await?;
                let full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
                let next = found.last().filter(|_| full).map(|entry| entry.id);
                let mut entries = Vec::with_capacity(found.len());
                for entry in found {
                    entries.push(view(tx, entry).await?);
                }
                Ok::<_, HubError>(Ledger { accounts: accounts(tx, only.as_deref()).await?, entries, next })
            })
        })
        .await?;
    Ok(Json(ledger))
}

/// `POST /v1/ledger/credit`.
pub(super) async fn credit(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(new): JsonBody<NewCredit>,
) -> Result<(StatusCode, Json<Account>), Failure> {
    caller.require(&[Role::Admin])?;
    let key = idempotency_key(&headers)?;
    let fresh = admin::grant_credit(&served.hub, key, &new.buyer, *new.amount).await?;
    let buyer = new.buyer;
    let account = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let mut found = accounts(tx, Some(&buyer)).await?.into_iter();
                found.next().ok_or_else(|| HubError::not_found("person"))
            })
        })
        .await?;
    Ok((if fresh { StatusCode::CREATED } else { StatusCode::OK }, Json(account)))
}

async fn accounts(tx: &mut Tx, only: Option<&str>) -> Result<Vec<Account>, HubError> {
    let available: BTreeMap<String, Amount> = match only {
        Some(name) => {
            let holds = tx.balance(&sosna_store::Account::Buyer(name.to_owned())).await?;
            BTreeMap::from([(name.to_owned(), holds)])
        }
        None => tx.credits().await?.into_iter().collect(),
    };
    let mut sums: BTreeMap<String, (Amount, Amount)> =
        available.keys().map(|name| (name.clone(), Default::default())).collect();
    for job in tx.job_sums(only).await? {
        let (reserved, spent) = sums.entry(job.buyer).or_default();
        *reserved = sum(*reserved, job.reserved)?;
        *spent = sum(*spent, job.spent)?;
    }
    let account = |(buyer, (reserved, spent)): (String, (Amount, Amount))| {
        let available = available.get(&buyer).copied().unwrap_or_default();
        let granted = sum(sum(available, reserved)?, spent)?;
        Ok(Account {
            buyer,
            granted: granted.into(),
            reserved: reserved.into(),
            spent: spent.into(),
            available: available.into(),
        })
    };
    sums.into_iter().map(account).collect()
}

fn sum(one: Amount, other: Amount) -> Result<Amount, HubError> {
    // No two amounts of the same books can be more than what was ever granted, which is an amount.
    one.checked_add(other).ok_or(HubError::Internal("the books do not add up", None))
}

async fn view(tx: &mut Tx, entry: sosna_store::Entry) -> Result<Entry, HubError> {
    let named = |prefix: &str| {
        let name = |account: &'_ str| account.strip_prefix(prefix).map(str::to_owned);
        name(&entry.from).or_else(|| name(&entry.to))
    };
    let device: Option<Address> =
        named("device:").or_else(|| named("payee:")).and_then(|device| device.parse().ok());
    // What the operator sets aside and pays for checks is no buyer's.
    let is_operators = named("check:").is_some();
    let buyer = match (named("buyer:"), &entry.job) {
        (None, Some(job)) if !is_operators => tx.job(job).await?.map(|job| job.buyer),
        (buyer, _) => buyer,
    };
    Ok(Entry {
        id: entry.id,
        at_ms: entry.at_ms,
        // What a device proved after a restoration is earned, too.
        kind: EntryKind::from_word(&entry.kind).unwrap_or(EntryKind::Earn),
        amount: entry.amount.into(),
        buyer,
        device: device.map(Into::into),
        job: entry.job.map(Into::into),
        assignment: entry.assignment.map(Into::into),
    })
}
