//! Devices.

use std::collections::HashMap;

use sosna_api::device::{Claim, ClassReputation, Device, DeviceState, Reputation, Voucher};
use sosna_protocol::{Address, Amount};
use sosna_store::{Account, Record, StoredVoucher, Tx};

use crate::{
    admin,
    error::HubError,
    fleet::{Live, reputation},
};

/// One device.
pub(crate) async fn device(tx: &mut Tx, live: &Live) -> Result<Device, HubError> {
    let address = live.device.address;
    let earned = tx.ever_taken(&Account::Device(address)).await?;
    show(tx, live, &HashMap::from([(address, earned)])).await
}

/// How a device has done with each class of images.
pub(crate) async fn classes(tx: &mut Tx, live: &Live) -> Result<Vec<ClassReputation>, HubError> {
    let device = &live.device;
    let show = |(class, record): (String, Record)| ClassReputation {
        class,
        reputation: Reputation {
            valid: record.valid,
            invalid: record.invalid,
            consecutive_valid: record.consecutive,
            lost: record.failed,
            score: reputation::within(device, Some(&record)),
        },
    };
    Ok(tx.records_of(&device.address).await?.into_iter().map(show).collect())
}

/// What a device claims since the hub was restored.
pub(crate) async fn claims(tx: &mut Tx, address: &Address) -> Result<Vec<Claim>, HubError> {
    let show = |claim: sosna_store::Claim| Claim {
        assignment: claim.assignment.into(),
        price: claim.price.into(),
        proven: claim.proven,
        vouchered: claim.voucher.is_some(),
        shown_ms: claim.shown_ms,
        explanation: claim.explanation,
    };
    Ok(tx.claims_of(address).await?.into_iter().map(show).collect())
}

/// A device's latest voucher.
pub(crate) async fn voucher(tx: &mut Tx, address: &Address) -> Result<Option<Voucher>, HubError> {
    let Some(latest) = tx.latest_voucher(address).await? else { return Ok(None) };
    let StoredVoucher { device, statement, issued_ms, held_ms } = latest;
    Ok(Some(Voucher {
        device: device.into(),
        cumulative: statement.cumulative.into(),
        receipts: statement.receipts.into(),
        chain_id: statement.chain_id,
        wallet: statement.wallet.into(),
        signature: statement.signature.into(),
        issued_ms,
        held_ms,
    }))
}

/// Many devices.
pub(crate) async fn devices(tx: &mut Tx, all: &[Live]) -> Result<Vec<Device>, HubError> {
    let earned = super::earnings(tx).await?;
    let mut devices = Vec::with_capacity(all.len());
    for live in all {
        devices.push(show(tx, live, &earned).await?);
    }
    Ok(devices)
}

async fn show(tx: &mut Tx, live: &Live, earned: &HashMap<Address, Amount>) -> Result<Device, HubError> {
    let device = &live.device;
    let address = device.address;
    let latest = tx.latest_voucher(&address).await?;
    let vouchered = latest.map(|latest| latest.statement.cumulative).unwrap_or_default();
    let held = tx.held(&address).await?;
    // A device that has not greeted yet has said nothing of what it lends.
    let described = (device.described.resources.memory > 0).then_some(&device.described);
    Ok(Device {
        address: address.into(),
        owner: device.owner.into(),
        hostname: device.hostname.clone(),
        class: device.described.class.into(),
        state: state(device),
        online: live.online,
        last_seen_ms: Some(live.seen_ms.max(device.last_seen_ms)).filter(|seen| *seen > 0),
        enrolled_ms: device.enrolled_ms,
        agent: device.described.agent.clone(),
        total: described.map(|described| described.resources.into()),
        free: described.map(|_| live.free().into()),
        ask: described.map(|described| described.ask.into()),
        reputation: Reputation {
            valid: device.valid,
            invalid: device.invalid,
            consecutive_valid: device.consecutive,
            lost: device.failed,
            score: live.score(),
        },
        earned: earned.get(&address).copied().unwrap_or_default().into(),
        vouchered: vouchered.into(),
        held: held.into(),
        exposure_limit: device.described.exposure_limit.map(Into::into),
        missing_limits: serde_json::from_str(&device.described.missing_limits).unwrap_or_default(),
        labels: admin::read_labels(&device.labels),
        owner_labels: admin::read_labels(&device.described.setting.labels),
        system: device.described.setting.system.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        metered: device.described.setting.metered,
        assignments: live.open,
    })
}

fn state(device: &sosna_store::Device) -> DeviceState {
    use sosna_store::DeviceState as Stored;
    match device.state {
        Stored::Quarantined => DeviceState::Quarantined,
        Stored::Revoked => DeviceState::Revoked,
        Stored::Probation | Stored::Trusted if device.draining => DeviceState::Draining,
        Stored::Probation => DeviceState::Probation,
        Stored::Trusted => DeviceState::Trusted,
    }
}
