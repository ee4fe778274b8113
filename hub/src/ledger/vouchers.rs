//! Issues vouchers: at most one a minute for a device at work, at once for one that has finished.

use std::sync::Arc;

use sosna_protocol::{
    Address, Amount, Hash,
    codec::List,
    eip712::{Typed as _, Voucher, receipts_root},
    identity::AssignmentId,
    message::pay::{Issue, MAX_COVERED, Statement},
};
use sosna_store::{Account, Assignment, Claim, DeviceState, Owed, StoredVoucher, Tx};

use crate::{
    error::HubError,
    fleet::Live,
    hub::{Effect, Event, Hub},
};

/// Issues what is due now.
pub(crate) async fn issue_due(hub: &Arc<Hub>) -> Result<(), HubError> {
    let owed =
        hub.store.read(|tx| Box::pin(async move { tx.devices_owed().await.map_err(HubError::from) })).await?;
    let now = hub.now_ms();
    for Owed { device, since_ms, last_ms, open } in owed {
        let delay = match hub.fleet().get(&device) {
            Some(live) if may_be_issued(hub, live) => delay(hub, live.device.state),
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

/// Whether these books say what a device is owed. After a restoration it may hold a voucher that they do not know of,
/// and shows it when it greets; one that was revoked never will, and what the books know is its all the same.
fn may_be_issued(hub: &Hub, live: &Live) -> bool {
    hub.epoch == 0 || live.has_greeted || live.device.state == DeviceState::Revoked
}

/// How long after a verdict a device in this state is paid; `None` while nothing is paid.
fn delay(hub: &Hub, state: DeviceState) -> Option<u64> {
    match state {
        DeviceState::Trusted => Some(0),
        DeviceState::Quarantined => None,
        DeviceState::Probation | DeviceState::Revoked => Some(u64::from(hub.config.probation.delay_ms)),
    }
}

/// Something that a voucher names: of these books, or claimed after a restoration.
enum Item {
    Claim(Claim),
    Assignment(Box<Assignment>),
}

/// Covers a device's accepted work by a new voucher. The amount is that of the voucher before plus what is newly
/// covered: it can be checked by whoever holds both, and the books bound it.
async fn issue(tx: &mut Tx, hub: &Hub, address: &Address) -> Result<Vec<Effect>, HubError> {
    let Some(device) = tx.device(address).await? else { return Ok(Vec::new()) };
    let now = hub.now_ms();
    let Some(delay) = delay(hub, device.state) else { return Ok(Vec::new()) };
    let until = now.saturating_sub(delay);
    let before = tx.latest_voucher(address).await?.map(|voucher| voucher.statement.cumulative);
    let before = before.unwrap_or_default();
    // The order of the voucher's tree.
    let claims = tx.uncovered_claims(address).await?;
    let claims = claims.into_iter().filter(|one| one.shown_ms <= until).map(Item::Claim);
    let limit = u32::try_from(MAX_COVERED).unwrap_or(u32::MAX);
    let work = tx.uncovered_assignments(address, until, limit).await?;
    let items: Vec<Item> =
        claims.chain(work.into_iter().map(|one| Item::Assignment(Box::new(one)))).take(MAX_COVERED).collect();
    // After a restoration the voucher before may have covered some of it already: the books say what is owed, and what
    // is not due yet is in that sum, too.
    let waiting = tx.amounts_accepted_after(address, until).await?;
    let most = tx.ever_taken(&Account::Device(*address)).await?;
    let most = waiting.into_iter().fold(most, |most, one| most.checked_sub(one).unwrap_or_default());
    let (mut cumulative, mut named) = (before, Vec::new());
    let mut beyond = Vec::new();
    for item in items {
        let sum = cumulative.checked_add(item.owed()).ok_or(sosna_store::LedgerError::Overflow)?;
        if sum <= most {
            cumulative = sum;
            named.push(item);
        } else {
            beyond.push(item);
        }
    }
    for item in beyond {
        // No voucher has this amount: it is not looked at again, and none names it.
        item.cover(tx, address, Amount::ZERO).await?;
    }
    if cumulative <= before {
        return Ok(vec![Effect::Owed(*address, unvouchered(tx, address).await?)]);
    }
    let receipts = receipts_root(named.iter().filter_map(Item::digest));
    let domain = hub.domain();
    let voucher = Voucher { device: *address, cumulative, receipts };
    let Ok(signature) = voucher.sign(&domain, &hub.signer);
    let statement =
        Statement { chain_id: domain.chain_id, wallet: domain.wallet, cumulative, receipts, signature };
    tx.put_voucher(address, &statement, now).await?;
    for item in &named {
        item.cover(tx, address, cumulative).await?;
    }
    hub.metrics.vouchers_issued.add_one();
    let ids: Vec<_> = named.iter().map(Item::id).collect();
    Ok(vec![
        Effect::send(*address, &Issue { statement, covers: List::new(&ids) })?,
        Effect::Event(Event::Device(*address)),
    ])
}

impl Item {
    fn id(&self) -> AssignmentId {
        match self {
            Self::Claim(claim) => claim.assignment,
            Self::Assignment(one) => one.id,
        }
    }

    fn owed(&self) -> Amount {
        match self {
            Self::Claim(claim) => claim.owed,
            Self::Assignment(one) => one.owed,
        }
    }

    fn digest(&self) -> Option<Hash> {
        match self {
            Self::Claim(claim) => Some(claim.digest),
            Self::Assignment(one) => Some(one.revealed?.receipt_digest),
        }
    }

    async fn cover(&self, tx: &mut Tx, device: &Address, cumulative: Amount) -> Result<(), HubError> {
        match self {
            Self::Claim(claim) => tx.cover_claim(device, &claim.assignment, cumulative).await?,
            Self::Assignment(one) => tx.cover_assignment(&one.id, cumulative).await?,
        }
        Ok(())
    }
}

/// What is owed to a device for accepted work, and in no voucher that it holds.
pub(crate) async fn unvouchered(tx: &mut Tx, device: &Address) -> Result<Amount, HubError> {
    let latest = tx.latest_voucher(device).await?.map(|voucher| voucher.statement.cumulative);
    let on_way = latest.unwrap_or_default().checked_sub(tx.held(device).await?).unwrap_or_default();
    let open = tx.uncovered_amounts(device).await?;
    let sum = open.into_iter().try_fold(on_way, |sum, one| sum.checked_add(one));
    Ok(sum.ok_or(sosna_store::LedgerError::Overflow)?)
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
