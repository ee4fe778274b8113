//! The hub's wallet, and the lists that its roots are over.

use std::sync::Arc;

use axum::{Json, extract::State};
use sosna_api::{
    text::AddressText,
    wallet::{
        PayoutLine, PayoutList, PayoutProof, PayoutQuery, PayoutRoot, PayoutTransaction, TransactionState,
        Wallet, WalletPhase, WalletState,
    },
};
use sosna_contracts::Phase;
use sosna_protocol::{Address, Amount};

use super::{
    Caller, Failure, Served,
    extract::{Named, Params},
};
use crate::{
    error::HubError,
    ledger::chain::{Chain, List, View},
};

/// How many roots are shown.
const ROOTS: u32 = 12;

fn chain(served: &Served) -> Result<&Arc<Chain>, HubError> {
    served.hub.chain.as_ref().ok_or_else(|| {
        HubError::refused(
            sosna_api::Code::NotFound,
            "this hub has no wallet on a chain: its vouchers are the record of what devices are owed",
        )
    })
}

/// `GET /v1/wallet`.
pub(super) async fn show(State(served): State<Arc<Served>>, _: Caller) -> Result<Json<Wallet>, Failure> {
    let chain = chain(&served)?;
    let roots = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let mut roots = Vec::new();
                for root in tx.roots(ROOTS).await? {
                    let transactions = tx.transactions_of(root.id).await?;
                    roots.push(view_root(&root, &transactions));
                }
                Ok::<_, HubError>(roots)
            })
        })
        .await?;
    Ok(Json(Wallet {
        chain_id: chain.domain.chain_id,
        address: chain.domain.wallet.into(),
        state: chain.seen().map(|seen| state(&seen)),
        trouble: chain.trouble(),
        roots,
    }))
}

fn state(seen: &View) -> WalletState {
    WalletState {
        block: seen.block,
        seen_ms: seen.at_ms,
        phase: match seen.phase {
            Phase::Created => WalletPhase::Created,
            Phase::Registered => WalletPhase::Registered,
            Phase::Idle => WalletPhase::Idle,
            Phase::Suspected => WalletPhase::Suspected,
            Phase::Punished => WalletPhase::Punished,
        },
        owner: seen.owner.into(),
        hub: seen.hub.into(),
        frozen: seen.frozen.into(),
        locked: seen.locked.into(),
        committed: seen.committed.into(),
        paid: seen.paid.into(),
        free: seen.free.into(),
        payday_ms: (seen.payday_at != 0).then_some(seen.payday_at.saturating_mul(1000)),
        ether: Amount::from_units(seen.ether).into(),
    }
}

fn view_root(root: &sosna_store::Root, transactions: &[sosna_store::Transaction]) -> PayoutRoot {
    PayoutRoot {
        root: root.root.into(),
        total: root.total.into(),
        devices: root.lines,
        made_ms: root.made_ms,
        active_ms: root.active_at.map(|at| at.saturating_mul(1000)),
        transactions: transactions.iter().map(view_transaction).collect(),
    }
}

/// A transaction of the hub's.
pub(super) fn view_transaction(one: &sosna_store::Transaction) -> PayoutTransaction {
    PayoutTransaction {
        hash: one.hash.into(),
        nonce: one.nonce,
        state: match one.state {
            sosna_store::TransactionState::Open => TransactionState::Open,
            sosna_store::TransactionState::Done => TransactionState::Done,
            sosna_store::TransactionState::Failed => TransactionState::Failed,
            sosna_store::TransactionState::Replaced => TransactionState::Replaced,
        },
    }
}

/// A root's list.
async fn list_of(served: &Served, query: &PayoutQuery) -> Result<Arc<List>, Failure> {
    let root = query.root.as_ref().map(|root| **root);
    let found = chain(served)?.list(&served.hub.store, root).await?;
    Ok(found.ok_or_else(|| {
        let detail = match root {
            None => "no root of this hub's is on the chain yet",
            Some(_) => "this hub has made no such root, or nothing can be claimed by it any more",
        };
        HubError::refused(sosna_api::Code::NotFound, detail)
    })?)
}

/// `GET /v1/payouts`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    Params(query): Params<PayoutQuery>,
) -> Result<Json<PayoutList>, Failure> {
    let chain = chain(&served)?;
    let list = list_of(&served, &query).await?;
    let lines = list.tree.lines().iter();
    Ok(Json(PayoutList {
        chain_id: chain.domain.chain_id,
        wallet: chain.domain.wallet.into(),
        root: list.root.root.into(),
        total: list.root.total.into(),
        active_ms: list.active_ms(),
        lines: lines
            .map(|line| PayoutLine { device: line.device.into(), cumulative: line.cumulative.into() })
            .collect(),
    }))
}

/// `GET /v1/payouts/{address}`.
pub(super) async fn proof(
    State(served): State<Arc<Served>>,
    Named(device): Named<AddressText>,
    Params(query): Params<PayoutQuery>,
) -> Result<Json<PayoutProof>, Failure> {
    let list = list_of(&served, &query).await?;
    Ok(Json(proven(chain(&served)?, &list, &device)?))
}

/// A device's line of a list.
pub(crate) fn proven(chain: &Chain, list: &List, device: &Address) -> Result<PayoutProof, HubError> {
    let (cumulative, path) =
        list.proof(device).ok_or_else(|| HubError::not_found("device in the root's list"))?;
    Ok(PayoutProof {
        chain_id: chain.domain.chain_id,
        wallet: chain.domain.wallet.into(),
        root: list.root.root.into(),
        active_ms: list.active_ms(),
        count: list.tree.count(),
        device: (*device).into(),
        cumulative: cumulative.into(),
        path: path.into_iter().map(Into::into).collect(),
    })
}
