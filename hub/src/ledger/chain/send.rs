//! Transactions of the hub's key: tried, signed, on disk, and only then sent.

use std::sync::Arc;

use alloy_primitives::Bytes;
use alloy_rpc_types_eth::TransactionRequest;
use sosna_contracts::{address, transaction::Draft};
use sosna_store::{Purpose, Transaction, TransactionState};

use super::{Chain, ChainError, endpoints::Node, follow::Waiting, view::View};
use crate::hub::Hub;

const GWEI: u128 = 1_000_000_000;

/// What is to be done on the chain.
pub(super) struct Call {
    /// Where.
    pub(super) to: alloy_primitives::Address,
    /// What.
    pub(super) data: Bytes,
    /// The gas that it is given: what it does not use is not paid for.
    pub(super) gas: u64,
    /// For people.
    pub(super) what: &'static str,
}

/// What would become of a call.
pub(super) enum Tried {
    /// It can be signed and sent.
    Ready(Draft),
    /// It has to wait, and why.
    Waits(String),
    /// The contract's error, encoded.
    Refused(Bytes),
}

/// Tries a call, and drafts it where it can be sent now.
pub(super) async fn try_it(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    view: &View,
    call: Call,
) -> Result<Tried, ChainError> {
    let account = address(&hub.address());
    let request = TransactionRequest::default().from(account).to(call.to).input(call.data.clone().into());
    if let Err(refusal) = node.estimate(request).await? {
        return Ok(Tried::Refused(refusal));
    }
    let fees = node.fees().await?;
    if let Some(trouble) = too_dear(chain, fees.0) {
        return Ok(Tried::Waits(trouble));
    }
    let nonce = node.count(account, view.block).await?;
    let chain_id = chain.domain.chain_id;
    let draft = Draft { chain_id, nonce, to: call.to, data: call.data, gas: call.gas, fees };
    if view.ether < draft.cost() {
        return Ok(Tried::Waits(format!(
            "the hub's key {} has {} ether and {} may cost {}: send it some",
            hub.address().checksummed(),
            ether(view.ether),
            call.what,
            ether(draft.cost())
        )));
    }
    Ok(Tried::Ready(draft))
}

/// Signs it, as the books keep it.
pub(super) fn sign(hub: &Hub, draft: &Draft, purpose: Purpose) -> Result<Transaction, ChainError> {
    let signed = draft.sign(&hub.key).map_err(ChainError::Sign)?;
    Ok(Transaction {
        purpose,
        nonce: draft.nonce,
        hash: signed.hash,
        raw: signed.raw,
        fee: draft.fees.0,
        made_ms: hub.now_ms(),
        state: TransactionState::Open,
    })
}

/// Keeps a signed transaction, then sends it.
pub(super) async fn keep_and_send(
    hub: &Arc<Hub>,
    node: &Node,
    signed: Transaction,
) -> Result<Waiting, ChainError> {
    let kept = signed.clone();
    hub.change(move |tx, _| {
        Box::pin(async move {
            tx.put_transaction(&kept).await?;
            Ok(((), Vec::new()))
        })
    })
    .await?;
    Ok(Waiting { trouble: node.send(&signed.raw).await.err() })
}

/// Why nothing is sent for so much a unit of gas.
pub(super) fn too_dear(chain: &Chain, fee: u128) -> Option<String> {
    let most = chain.settings.most_gwei;
    (fee > u128::from(most) * GWEI).then(|| {
        format!(
            "gas costs up to {} gwei, and `chain.most_gwei` is {most}: what is to be sent waits until it is cheaper",
            fee / GWEI
        )
    })
}

fn ether(units: u128) -> String {
    let milli = units / 10_u128.pow(15);
    format!("{}.{:03}", milli / 1000, milli % 1000)
}
