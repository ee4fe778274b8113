//! The hub's wallet, and the lists that its roots are over.

use std::sync::Arc;

use axum::{Json, extract::State};
use sosna_api::{
    Text,
    text::AddressText,
    wallet::{
        PayoutLine, PayoutList, PayoutProof, PayoutRoot, PayoutTransaction, TransactionState, Wallet,
        WalletPhase, WalletState,
    },
};
use sosna_contracts::payouts::{Line, Payouts};
use sosna_protocol::Amount;

use super::{Caller, Failure, Served, extract::Named};
use crate::{
    error::HubError,
    ledger::chain::{Chain, Phase, View},
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
    let transaction = |one: &sosna_store::Transaction| PayoutTransaction {
        hash: one.hash.into(),
        nonce: one.nonce,
        state: match one.state {
            sosna_store::TransactionState::Open => TransactionState::Open,
            sosna_store::TransactionState::Done => TransactionState::Done,
            sosna_store::TransactionState::Failed => TransactionState::Failed,
            sosna_store::TransactionState::Replaced => TransactionState::Replaced,
        },
    };
    PayoutRoot {
        root: root.root.into(),
        total: root.total.into(),
        devices: root.lines,
        made_ms: root.made_ms,
        active_ms: root.active_at.map(|at| at.saturating_mul(1000)),
        transactions: transactions.iter().map(transaction).collect(),
    }
}

/// The newest root that is certain to be on the chain, with its list.
async fn newest(served: &Served) -> Result<(sosna_store::Root, u64, Vec<Line>), Failure> {
    let found = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let roots = tx.roots(ROOTS).await?;
                let Some((root, active_at)) =
                    roots.into_iter().find_map(|root| root.active_at.map(|at| (root, at)))
                else {
                    return Ok(None);
                };
                let lines = tx.root_lines(root.id).await?;
                Ok::<_, HubError>(Some((root, active_at, lines)))
            })
        })
        .await?;
    let (root, active_at, lines) = found.ok_or_else(|| {
        HubError::refused(sosna_api::Code::NotFound, "no root of this hub's is on the chain yet")
    })?;
    let lines = lines.into_iter().map(|(device, cumulative)| Line { device, cumulative }).collect();
    Ok((root, active_at.saturating_mul(1000), lines))
}

/// `GET /v1/payouts`.
pub(super) async fn list(State(served): State<Arc<Served>>) -> Result<Json<PayoutList>, Failure> {
    let chain = chain(&served)?;
    let (root, active_ms, lines) = newest(&served).await?;
    let lines = lines
        .into_iter()
        .map(|line| PayoutLine { device: line.device.into(), cumulative: line.cumulative.into() })
        .collect();
    Ok(Json(PayoutList {
        chain_id: chain.domain.chain_id,
        wallet: chain.domain.wallet.into(),
        root: root.root.into(),
        total: root.total.into(),
        active_ms,
        lines,
    }))
}

/// `GET /v1/payouts/{address}`.
pub(super) async fn proof(
    State(served): State<Arc<Served>>,
    Named(device): Named<AddressText>,
) -> Result<Json<PayoutProof>, Failure> {
    let chain = chain(&served)?;
    let (root, active_ms, lines) = newest(&served).await?;
    let reckoned = tokio::task::spawn_blocking(move || {
        let tree = Payouts::new(lines)?;
        let at = tree.lines().iter().position(|line| line.device == *device);
        Ok::<_, sosna_contracts::payouts::PayoutsError>(
            at.and_then(|at| Some((tree.count(), tree.lines()[at], tree.path(at)?))),
        )
    });
    let reckoned =
        reckoned.await.map_err(|error| HubError::internal("a root could not be reckoned", error))?;
    let (count, line, path) = reckoned
        .map_err(|error| HubError::internal("a list is not what its root was made of", error))?
        .ok_or_else(|| HubError::not_found("device in the newest root's list"))?;
    Ok(Json(PayoutProof {
        chain_id: chain.domain.chain_id,
        wallet: chain.domain.wallet.into(),
        root: root.root.into(),
        active_ms,
        count,
        device: Text(line.device),
        cumulative: line.cumulative.into(),
        path: path.into_iter().map(Into::into).collect(),
    }))
}
