//! What became of what was sent.

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::SolEvent as _;
use sosna_contracts::{address, bindings::HubWallet, transaction::Draft};
use sosna_protocol::Hash;
use sosna_store::{Purpose, Transaction, TransactionState};

use super::{Chain, ChainError, endpoints::Node, send, view::View};
use crate::hub::Hub;

/// By how many eighths a replacement offers more.
const MORE: u128 = 10;

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
    // One thing at a time: all are of one nonce, the one that offers most first.
    let Some(newest) = open.first() else { return Ok(None) };
    for one in &open {
        let Some(receipt) = node.receipt(B256::from(one.hash.0)).await? else { continue };
        let above = receipt.block_number.map_or(0, |block| (view.block + 1).saturating_sub(block));
        if above < chain.settings.confirmations.max(1) {
            return Ok(Some(Waiting::default()));
        }
        confirm(chain, node, B256::from(one.hash.0), &receipt).await?;
        let done = outcome(chain, one.purpose, &receipt);
        end(hub, one, done).await?;
        return Ok(match (done, one.purpose) {
            (Outcome::Failed, Purpose::Root(_)) => Waiting::because(format!(
                "the wallet refused the root of transaction 0x{}; the next is made anew",
                one.hash
            )),
            (Outcome::Failed, Purpose::Deposit(account)) => Waiting::because(format!(
                "the escrow refused transaction 0x{}, which brought what the buyer {} has signed for",
                one.hash,
                account.checksummed()
            )),
            _ => None,
        });
    }
    let account = address(&hub.address());
    // What another program has sent with this key counts only where no re-organisation can take it back.
    let deep = view.settled(chain.settings.confirmations);
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
             or were these books restored? Nothing is paid twice; what it was for is done anew"
        )));
    }
    if let Err(said) = node.send(&newest.raw).await {
        // Another of the same nonce may have been taken in the meantime; the next round sees that.
        chain.endpoints.disappoint();
        return Ok(Waiting::because(said));
    }
    let is_old = hub.now_ms().saturating_sub(newest.made_ms) >= chain.settings.raise_ms;
    // A wallet that takes no root now would only have it refused for more.
    let is_wanted = matches!(newest.purpose, Purpose::Deposit(_)) || view.trouble().is_none();
    if is_old && is_wanted {
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

pub(super) fn disagree(one: &Node, other: &Node, what: String) -> ChainError {
    ChainError::Disagree { one: one.name().to_owned(), other: other.name().to_owned(), what }
}

/// What a transaction that is in the chain has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A root is there, claimable from a time on.
    Root(u64),
    /// The wallet was paid.
    Redeemed,
    /// Nothing.
    Failed,
}

fn outcome(chain: &Chain, purpose: Purpose, receipt: &TransactionReceipt) -> Outcome {
    match purpose {
        Purpose::Root(_) => {
            let posted = receipt.inner.logs().iter().find_map(|log| {
                let posted = HubWallet::RootPosted::decode_log(&log.inner).ok()?;
                (log.address() == chain.wallet()).then(|| posted.activeAt.saturating_to())
            });
            posted.map_or(Outcome::Failed, Outcome::Root)
        }
        Purpose::Deposit(_) if receipt.status() => Outcome::Redeemed,
        Purpose::Deposit(_) => Outcome::Failed,
    }
}

/// What became of a transaction and what it was for, in one go.
async fn end(hub: &Arc<Hub>, one: &Transaction, outcome: Outcome) -> Result<(), ChainError> {
    let (nonce, hash, purpose) = (one.nonce, one.hash, one.purpose);
    hub.change(move |tx, _| {
        Box::pin(async move {
            let state = match outcome {
                Outcome::Failed => TransactionState::Failed,
                Outcome::Root(_) | Outcome::Redeemed => TransactionState::Done,
            };
            tx.end_transactions(nonce, Some((&hash, state))).await?;
            if let (Purpose::Root(root), Outcome::Root(active_at)) = (purpose, outcome) {
                tx.settle_root(root, active_at).await?;
            }
            Ok(((), Vec::new()))
        })
    })
    .await?;
    match (purpose, outcome) {
        (_, Outcome::Failed) => {}
        (Purpose::Root(root), _) => {
            tracing::info!(root, transaction = %Hash(hash.0), "the root is on the chain");
        }
        (Purpose::Deposit(account), _) => {
            let account = account.checksummed();
            tracing::info!(%account, transaction = %Hash(hash.0), "the wallet was paid what a buyer has signed for");
        }
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
    let Some(mut draft) = Draft::read(&before.raw) else { return Ok(Waiting::default()) };
    let (most, tip) = node.fees().await?;
    // Nodes take a replacement that offers a tenth more, of both.
    let raised = |before: u128| before.saturating_mul(MORE) / 8;
    let most = most.max(raised(draft.fees.0));
    draft.fees = (most, tip.max(raised(draft.fees.1)).min(most));
    if let Some(trouble) = send::too_dear(chain, most) {
        return Ok(Waiting { trouble: Some(trouble) });
    }
    let signed = send::sign(hub, &draft, before.purpose)?;
    tracing::info!(
        nonce = signed.nonce,
        fee = signed.fee,
        "no block has a transaction yet; more is offered for it"
    );
    send::keep_and_send(hub, node, signed).await
}
