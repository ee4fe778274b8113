//! Issues vouchers: at most one a minute for a device at work, at once for one that has finished.

use std::sync::Arc;

use sosna_protocol::{
    Address, Amount,
    codec::List,
    eip712::{Domain, Typed as _, Voucher, receipts_root},
    message::pay::{Issue, MAX_COVERED, Statement},
};
use sosna_store::{Account, DeviceState, Owed, StoredVoucher, Tx};

use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// Issues what is due now.
pub(crate) async fn issue_due(hub: &Arc<Hub>) -> Result<(), HubError> {
    let owed =
        hub.store.read(|tx| Box::pin(async move { tx.devices_owed().await.map_err(HubError::from) })).await?;
    let now = hub.now_ms();
    for Owed { device, since_ms, last_ms, open } in owed {
        // Not before a device has greeted: it may hold a voucher that a restored store does not know of.
        let delay = match hub.fleet().get(&device) {
            Some(live) if live.online => delay(hub, live.device.state),
            _ => None,
        };
        let due = delay.is_some_and(|delay| since_ms.saturating_add(delay) <= now)
            && (open == 0 || now.saturating_sub(last_ms) >= u64::from(hub.config.times.voucher_ms));
        if !due {
            continue;
        }
        let issued = hub
            .change(move |tx, hub| Box::pin(async move { Ok(((), issue(tx, &hub, &device).await?)) }))
            .await;
        if let Err(error) = issued {
            tracing::error!(%device, "no voucher was issued: {}", sosna_host::report::line(&error));
        }
    }
    Ok(())
}

/// How long after a verdict a device in this state is paid; `None` while nothing is paid.
fn delay(hub: &Hub, state: DeviceState) -> Option<u64> {
    match state {
        DeviceState::Trusted => Some(0),
        DeviceState::Quarantined => None,
        DeviceState::Probation | DeviceState::Revoked => Some(u64::from(hub.config.probation.delay_ms)),
    }
}

/// Covers a device's accepted work by a new voucher. The amount is that of the voucher before plus what is newly
/// covered: it can be checked by whoever holds both, and the books bound it.
async fn issue(tx: &mut Tx, hub: &Hub, address: &Address) -> Result<Vec<Effect>, HubError> {
    let Some(device) = tx.device(address).await? else { return Ok(Vec::new()) };
    let now = hub.now_ms();
    let Some(delay) = delay(hub, device.state) else { return Ok(Vec::new()) };
    let limit = u32::try_from(MAX_COVERED).unwrap_or(u32::MAX);
    let covered = tx.uncovered_assignments(address, now.saturating_sub(delay), limit).await?;
    let before = tx.latest_voucher(address).await?.map(|voucher| voucher.statement.cumulative);
    let before = before.unwrap_or_default();
    let sum = covered
        .iter()
        .try_fold(before, |sum, one| sum.checked_add(one.owed))
        .ok_or(sosna_store::LedgerError::Overflow)?;
    // After a restoration the voucher before may have covered some of it already: the books say what is owed.
    let cumulative = sum.min(tx.ever_taken(&Account::Device(*address)).await?);
    if cumulative <= before {
        for one in covered.iter().filter(|one| one.owed > Amount::ZERO) {
            tx.cover_assignment(&one.id, before).await?;
        }
        return Ok(Vec::new());
    }
    let receipts = receipts_root(covered.iter().filter_map(|one| Some(one.revealed?.receipt_digest)));
    let domain = Domain::off_chain(hub.address());
    let voucher = Voucher { device: *address, cumulative, receipts };
    let signature = voucher
        .sign(&domain, &hub.key)
        .map_err(|error| HubError::internal("a voucher could not be signed", error))?;
    let statement =
        Statement { chain_id: domain.chain_id, wallet: domain.wallet, cumulative, receipts, signature };
    tx.put_voucher(address, &statement, now).await?;
    for one in &covered {
        tx.cover_assignment(&one.id, cumulative).await?;
    }
    hub.metrics.vouchers_issued.add_one();
    let ids: Vec<_> = covered.iter().map(|one| one.id).collect();
    Ok(vec![
        Effect::send(*address, &Issue { statement, covers: List::new(&ids) })?,
        Effect::Event(Event::Device(*address)),
    ])
}

/// The vouchers that a device has not said that it holds.
pub(crate) async fn resend_vouchers(
    tx: &mut Tx,
    device: &Address,
    held: Amount,
) -> Result<Vec<Effect>, HubError> {
    let mut effects = Vec::new();
    for StoredVoucher { statement, .. } in tx.unheld_vouchers(device).await? {
        if statement.cumulative > held {
            let ids = tx.covered_by(device, statement.cumulative).await?;
            effects.push(Effect::send(*device, &Issue { statement, covers: List::new(&ids) })?);
        }
    }
    Ok(effects)
}
