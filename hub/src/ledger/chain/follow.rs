//! What became of what was sent.

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::SolEvent as _;
use sosna_contracts::{address, bindings::HubWallet, transaction};
use sosna_protocol::Hash;
use sosna_store::{Transaction, TransactionState};

use super::{
    Chain, ChainError,
    decide::{self, MORE},
    endpoints::Node,
    sign,
    view::View,
};
use crate::hub::Hub;

/// After how long a transaction that is in no block offers more.
const PATIENCE_MS: u64 = 90_000;

/// Something is under way.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) trouble: Option<String>,
}

impl Waiting {
    fn because(trouble: String) -> Option<Self> {
        Some(Self { trouble: Some(trouble) })
    }
}

/// Looks for every open transaction. `None`: nothing is under way any more.
pub(super) async fn open(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    view: &View,
) -> Result<Option<Waiting>, ChainError> {
    let open: Vec<Transaction> = hub
        .store
        .read(|tx| {
            Box::pin(async move { tx.open_transactions().await.map_err(crate::error::HubError::from) })
        })
        .await?;
    // One root at a time: all are of one nonce, the one that offers most first.
    let Some(newest) = open.first() else { return Ok(None) };
    for one in &open {
        let Some(receipt) = node.receipt(B256::from(one.hash.0)).await? else { continue };
        let above = receipt.block_number.map_or(0, |block| (view.block + 1).saturating_sub(block));
        if above < chain.settings.confirmations.max(1) {
            return Ok(Some(Waiting::default()));
        }
        confirm(chain, node, B256::from(one.hash.0), &receipt).await?;
        let active_at = receipt.inner.logs().iter().find_map(|log| {
            let posted = HubWallet::RootPosted::decode_log(&log.inner).ok()?;
            (log.address() == chain.wallet()).then(|| posted.activeAt.saturating_to())
        });
        end(hub, one, active_at).await?;
        return match active_at {
            Some(_) => Ok(None),
            None => Ok(Waiting::because(format!(
                "the wallet refused the root of transaction 0x{}; the next is made anew",
                one.hash
            ))),
        };
    }
    let account = address(&hub.address());
    // What another program has sent with this key counts only where no re-organisation can take it back.
    let deep = view.block.saturating_sub(chain.settings.confirmations.max(1) - 1);
    if node.count(account, deep).await? > newest.nonce {
        if let Some(witness) = chain.endpoints.witness(node).await?
            && witness.count(account, deep).await? <= newest.nonce
        {
            return Err(disagree(
                node,
                &witness,
                format!("how much the hub's key has sent until block {deep}"),
            ));
        }
        let nonce = newest.nonce;
        hub.change(move |tx, _| {
            Box::pin(async move {
                tx.end_transactions(nonce, None).await?;
                Ok(((), Vec::new()))
            })
        })
        .await?;
        return Ok(Waiting::because(format!(
            "transaction {nonce} of this hub's key was sent by another program: is a second hub running with this key, \
             or were these books restored? Nothing is paid twice; the root is made anew"
        )));
    }
    if let Err(said) = node.send(&newest.raw).await {
        // Another of the same nonce may have been taken in the meantime; the next round sees that.
        chain.endpoints.disappoint();
        return Ok(Waiting::because(said));
    }
    let is_old = hub.now_ms().saturating_sub(newest.made_ms) >= PATIENCE_MS;
    // A wallet that takes no root now would only have it refused for more.
    if is_old && view.trouble().is_none() {
        return offer_more(hub, chain, node, newest).await.map(Some);
    }
    Ok(Some(Waiting::default()))
}

/// Has another node say the same of a transaction, to the word.
async fn confirm(
    chain: &Chain,
    node: &Node,
    hash: B256,
    receipt: &TransactionReceipt,
) -> Result<(), ChainError> {
    let Some(witness) = chain.endpoints.witness(node).await? else { return Ok(()) };
    let other = witness.receipt(hash).await?;
    // Nodes of different makes add different things to a log.
    let is_same = other.is_some_and(|other| {
        let logs =
            |of: &TransactionReceipt| of.inner.logs().iter().map(|log| log.inner.clone()).collect::<Vec<_>>();
        (other.block_hash, other.status(), logs(&other))
            == (receipt.block_hash, receipt.status(), logs(receipt))
    });
    if is_same { Ok(()) } else { Err(disagree(node, &witness, format!("transaction {hash}"))) }
}

fn disagree(one: &Node, other: &Node, what: String) -> ChainError {
    ChainError::Disagree { one: one.name().to_owned(), other: other.name().to_owned(), what }
}

/// What became of a transaction and its root, in one go.
async fn end(hub: &Arc<Hub>, one: &Transaction, active_at: Option<u64>) -> Result<(), ChainError> {
    let (nonce, hash, root) = (one.nonce, one.hash, one.root);
    hub.change(move |tx, _| {
        Box::pin(async move {
            let state = if active_at.is_some() { TransactionState::Done } else { TransactionState::Failed };
            tx.end_transactions(nonce, Some((&hash, state))).await?;
            if let Some(active_at) = active_at {
                tx.settle_root(root, active_at).await?;
            }
            Ok(((), Vec::new()))
        })
    })
    .await?;
    if active_at.is_some() {
        tracing::info!(root, transaction = %Hash(hash.0), "the root is on the chain");
    }
    Ok(())
}

/// The same transaction, for more gas: whichever the chain takes, the other cannot follow it.
async fn offer_more(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    before: &Transaction,
) -> Result<Waiting, ChainError> {
    let Some(root) = hub
        .store
        .read({
            let root = before.root;
            move |tx| Box::pin(async move { tx.root(root).await.map_err(crate::error::HubError::from) })
        })
        .await?
    else {
        return Ok(Waiting::default());
    };
    let (most, tip) = node.fees().await?;
    // Nodes take a replacement that offers a tenth more, of both.
    let least = before.fee.saturating_mul(MORE) / 8;
    let tip = tip.max(transaction::tip(&before.raw).unwrap_or_default().saturating_mul(MORE) / 8);
    let fees = (most.max(least), tip);
    if let Some(trouble) = decide::too_dear(chain, fees.0) {
        return Ok(Waiting { trouble: Some(trouble) });
    }
    let draft = decide::draft(chain, &root, before.nonce, decide::GAS, (fees.0, fees.1.min(fees.0)));
    let signed = sign::sign(&draft, &hub.key, root.id, hub.now_ms()).map_err(ChainError::Sign)?;
    tracing::info!(
        nonce = signed.nonce,
        fee = signed.fee,
        "no block has the root yet; more is offered for it"
    );
    decide::keep_and_send(hub, node, signed).await
}
