//! Devices.

use std::collections::HashMap;

use sosna_api::device::{Device, DeviceState, Reputation};
use sosna_protocol::{Address, Amount};
use sosna_store::{Account, Tx};

use crate::{admin, error::HubError, fleet::Live};

/// One device.
pub(crate) async fn device(tx: &mut Tx, live: &Live) -> Result<Device, HubError> {
    let address = live.device.address;
    let earned = tx.ever_taken(&Account::Device(address)).await?;
    show(tx, live, &HashMap::from([(address, earned)])).await
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
    let (vouchered, held) = vouchers(tx, &address).await?;
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
        missing_limits: serde_json::from_str(&device.described.missing_limits).unwrap_or_default(),
        labels: admin::read_labels(&device.labels),
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

/// The cumulative amounts of the latest voucher, and of the latest one that the device has confirmed.
async fn vouchers(tx: &mut Tx, device: &Address) -> Result<(Amount, Amount), HubError> {
    let Some(latest) = tx.latest_voucher(device).await? else { return Ok(Default::default()) };
    let vouchered = latest.statement.cumulative;
    // Confirming one confirms all before it: what is held is what the first unconfirmed one began with.
    let Some(first) = tx.unheld_vouchers(device).await?.into_iter().next() else {
        return Ok((vouchered, vouchered));
    };
    let mut held = first.statement.cumulative;
    for id in tx.covered_by(device, held).await? {
        let owed = tx.assignment(&id).await?.map(|one| one.owed).unwrap_or_default();
        held = held.checked_sub(owed).unwrap_or_default();
    }
    Ok((vouchered, held))
}
