//! When a root is due, and what it says.

use std::sync::Arc;

use alloy_primitives::Bytes;
use alloy_sol_types::{SolCall as _, SolInterface as _};
use sosna_contracts::{
    amount,
    bindings::HubWallet,
    hash,
    payouts::{Line, Payouts},
};
use sosna_protocol::Amount;
use sosna_store::{Purpose, Root};

use super::{
    Chain, ChainError,
    endpoints::Node,
    follow::Waiting,
    send::{Call, Tried, sign, try_it},
    view::View,
};
use crate::{error::HubError, hub::Hub};

/// Gas that a root is given: it uses a third at most, and what it does not use is not paid for.
const GAS: u64 = 300_000;

/// Posts a root over all latest vouchers and what is paid for work elsewhere, where one is due and the wallet can take it.
/// A trouble, in words.
pub(super) async fn post_when_due(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    view: &View,
) -> Result<Option<String>, ChainError> {
    let last =
        hub.store.read(|tx| Box::pin(async move { Ok::<_, HubError>(tx.roots(1).await?.pop()) })).await?;
    let is_known = match &last {
        Some(last) => last.root == view.newest,
        None => view.newest == sosna_protocol::Hash::ZERO,
    };
    // One that failed or was replaced is not on the chain, and the one before it is.
    if !is_known && !chain.settings.over_unknown_root && !known(hub, view).await? {
        return Ok(Some(
            "the wallet's newest root is not in these books: another hub uses this wallet, or these books were restored \
             from a backup. A root of theirs could take from devices what that one gives them, so none is posted; \
             `chain.over_unknown_root = true` posts it all the same, once every device has connected again"
                .into(),
        ));
    }
    // One that is not certain to be on the chain is made anew at once.
    let last = last.filter(|last| last.active_at.is_some());
    let now_ms = hub.now_ms();
    let is_new =
        last.as_ref().is_some_and(|last| now_ms.saturating_sub(last.made_ms) < chain.settings.root_ms);
    // The one before must be claimable before it makes room for the next.
    if is_new || view.block_time < view.active_at {
        return Ok(None);
    }
    let owed = hub.store.read(|tx| {
        Box::pin(async move {
            let mut owed = tx.vouchered().await?;
            owed.extend(tx.payees().await?);
            Ok::<_, HubError>(owed)
        })
    });
    let owed = owed.await?;
    let lines: Vec<Line> = owed
        .into_iter()
        .filter(|(_, cumulative)| *cumulative > Amount::ZERO)
        .map(|(device, cumulative)| Line { device, cumulative })
        .collect();
    if lines.is_empty() || last.is_some_and(|last| last.root == view.newest && says_all(&last, &lines)) {
        return Ok(None);
    }
    let tree = tokio::task::spawn_blocking(move || Payouts::new(lines))
        .await
        .map_err(|error| HubError::internal("a root could not be reckoned", error))??;
    if tree.root() == view.newest {
        return Ok(None);
    }
    Ok(post(hub, chain, node, view, tree).await?.trouble)
}

/// Whether a root has every voucher. By its sum, which grows with each: by the time of the last voucher, one that was
/// issued while the root was reckoned would be taken for older.
fn says_all(root: &Root, lines: &[Line]) -> bool {
    let sum = lines.iter().try_fold(Amount::ZERO, |sum, line| sum.checked_add(line.cumulative));
    sum == Some(root.total)
}

/// Whether the books know the root that is the newest on the chain.
async fn known(hub: &Arc<Hub>, view: &View) -> Result<bool, ChainError> {
    let newest = view.newest;
    let known = hub.store.read(move |tx| {
        Box::pin(async move {
            let roots = tx.roots(16).await?;
            Ok::<_, HubError>(
                newest == sosna_protocol::Hash::ZERO || roots.iter().any(|one| one.root == newest),
            )
        })
    });
    Ok(known.await?)
}

/// Makes it, keeps it, sends it.
async fn post(
    hub: &Arc<Hub>,
    chain: &Chain,
    node: &Node,
    view: &View,
    tree: Payouts,
) -> Result<Waiting, ChainError> {
    let root = Root {
        id: 0,
        root: tree.root(),
        total: tree.total(),
        lines: tree.count(),
        // Read before the list: what is paid from then on is in both, and committed once.
        paid_seen: view.settled,
        made_ms: hub.now_ms(),
        active_at: None,
    };
    let call = Call { to: chain.wallet(), data: call(&root), gas: GAS, what: "a root" };
    let draft = match try_it(hub, chain, node, view, call).await? {
        Tried::Ready(draft) => draft,
        Tried::Waits(trouble) => return Ok(Waiting { trouble: Some(trouble) }),
        Tried::Refused(refusal) => return Err(ChainError::Refused(explain(&refusal))),
    };
    // On disk, whole and signed, before anybody sees it.
    let mut kept = sign(hub, &draft, Purpose::Root(0))?;
    let raw = kept.raw.clone();
    hub.change(move |tx, _| {
        Box::pin(async move {
            let lines = tree.lines().iter().map(|line| (line.device, line.cumulative));
            kept.purpose = Purpose::Root(tx.put_root(&root, lines.collect::<Vec<_>>()).await?);
            tx.put_transaction(&kept).await?;
            Ok(((), Vec::new()))
        })
    })
    .await?;
    Ok(Waiting { trouble: node.send(&raw).await.err() })
}

fn call(root: &Root) -> Bytes {
    let post = HubWallet::postCall {
        root: hash(&root.root),
        total: amount(root.total),
        paidSeen: amount(root.paid_seen),
    };
    post.abi_encode().into()
}

/// A contract's refusal, for a person.
fn explain(refusal: &[u8]) -> String {
    match HubWallet::HubWalletErrors::abi_decode(refusal) {
        Ok(HubWallet::HubWalletErrors::Underfunded(funds)) => {
            let snm = |value: &alloy_primitives::U256| {
                sosna_contracts::from_amount(value)
                    .map_or_else(|| value.to_string(), |value| value.to_string())
            };
            format!(
                "its balance is {} SNM, and {} are needed for what devices are owed and the lock; send it some",
                snm(&funds.balance),
                snm(&funds.needed)
            )
        }
        Ok(HubWallet::HubWalletErrors::NotTheHub(_)) => "it does not know this hub's key".into(),
        Ok(HubWallet::HubWalletErrors::TooEarly(_)) => "the root before is not active yet".into(),
        Ok(HubWallet::HubWalletErrors::TotalTooSmall(_)) => {
            "it has paid more than these books owe; were they restored from a backup?".into()
        }
        _ => format!("it says 0x{}", alloy_primitives::hex::encode(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use sosna_protocol::{Address, Hash};

    use super::*;

    fn line(device: u8, units: u128) -> Line {
        Line { device: Address([device; 20]), cumulative: Amount::from_units(units) }
    }

    #[test]
    fn a_voucher_that_a_root_missed_makes_the_next_due() {
        let root = Root {
            id: 1,
            root: Hash::ZERO,
            total: Amount::from_units(5),
            lines: 1,
            paid_seen: Amount::ZERO,
            made_ms: 9,
            active_at: Some(1),
        };
        assert!(says_all(&root, &[line(1, 5)]));
        assert!(!says_all(&root, &[line(1, 5), line(2, 1)]));
        assert!(!says_all(&root, &[line(1, u128::MAX), line(2, 6)]), "no sum is taken for another");
    }
}
