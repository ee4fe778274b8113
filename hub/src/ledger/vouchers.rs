//! Issues vouchers: at most one a minute for a device at work, at once for one that has finished.

use std::sync::Arc;

use sosna_protocol::{
    Address, Amount,
    codec::List,
    eip712::{Domain, Typed as _, Voucher, receipts_root},
    message::pay::{Issue, MAX_COVERED, Statement},
};
use sosna_store::{Account, DeviceState, StoredVoucher, Tx};

use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// Issues what is due now.
pub(crate) async fn issue_due(hub: &Arc<Hub>) -> Result<(), HubError> {
    let owed =
        hub.store.read(|tx| Box::pin(async move { tx.devices_owed().await.map_err(HubError::from) })).await?;
    let now = hub.now_ms();
    for (device, last_ms, open) in owed {
        if open == 0 || now.saturating_sub(last_ms) >= u64::from(hub.config.times.voucher_ms) {
            hub.change(move |tx, hub| Box::pin(async move { Ok(((), issue(tx, &hub, &device).await?)) }))
                .await?;
        }
    }
    Ok(())
}

/// Covers a device's accepted work by a new voucher. The amount is that of the voucher before plus what is newly
/// covered: it can be checked by whoever holds both, and the books bound it.
async fn issue(tx: &mut Tx, hub: &Hub, address: &Address) -> Result<Vec<Effect>, HubError> {
    let Some(device) = tx.device(address).await? else { return Ok(Vec::new()) };
    let now = hub.now_ms();
    let delay =
        if device.state == DeviceState::Trusted { 0 } else { u64::from(hub.config.probation.delay_ms) };
    let limit = u32::try_from(MAX_COVERED).unwrap_or(u32::MAX);
    let covered = tx.uncovered_assignments(address, now.saturating_sub(delay), limit).await?;
    if covered.is_empty() || matches!(device.state, DeviceState::Quarantined) {
        return Ok(Vec::new());
    }
    let before = tx.latest_voucher(address).await?.map(|voucher| voucher.statement.cumulative);
    let cumulative = covered
        .iter()
        .try_fold(before.unwrap_or_default(), |sum, one| sum.checked_add(one.owed))
        .ok_or(sosna_store::LedgerError::Overflow)?;
    let earned = tx.ever_taken(&Account::Device(*address)).await?;
    if cumulative > earned {
        return Err(HubError::Internal("a voucher would exceed what the books owe; it was not signed", None));
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
