//! What an operator does to a device.

use std::{collections::BTreeMap, sync::Arc};

use sosna_api::Code;
use sosna_protocol::Address;
use sosna_store::{AssignmentState, Device, DeviceState, Tx};

use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// Most labels of one device.
const MAX_LABELS: usize = 64;

/// Ends a device's probation or quarantine.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] where it was revoked, which is for good.
pub async fn approve(hub: &Arc<Hub>, address: Address) -> Result<(), HubError> {
    hub.change(move |tx, _| {
        Box::pin(async move {
            if existing(tx, &address).await?.state == DeviceState::Revoked {
                return Err(gone());
            }
            tx.set_device_state(&address, DeviceState::Trusted).await?;
            Ok(((), changed(tx, &address).await?))
        })
    })
    .await
}

/// Cuts a device off for good: its certificates end, its session ends, its open work goes to others.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn revoke(hub: &Arc<Hub>, address: Address, reason: Option<String>) -> Result<(), HubError> {
    hub.change(move |tx, hub| {
        Box::pin(async move {
            if existing(tx, &address).await?.state == DeviceState::Revoked {
                return Ok(((), Vec::new()));
            }
            let explanation = reason.map_or_else(
                || "the operator revoked the device".to_owned(),
                |reason| {
                    format!("the operator revoked the device: {}", sosna_host::report::cut(&reason, 500))
                },
            );
            tracing::warn!(device = %address, %explanation, "revoked");
            tx.set_device_state(&address, DeviceState::Revoked).await?;
            tx.revoke_certificates(&address, hub.now_ms()).await?;
            let mut effects = Vec::new();
            for open in tx.open_assignments_of(&address).await? {
                let state = AssignmentState::Cancelled;
                effects.extend(crate::verify::give_up(tx, &hub, &open, state, &explanation).await?);
            }
            effects.extend(changed(tx, &address).await?);
            // Last: the broker asks the store again for every new session, so none slips in between.
            effects.push(Effect::Disconnect(address));
            Ok(((), effects))
        })
    })
    .await
}

/// Gives a device nothing new, or work again.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn drain(hub: &Arc<Hub>, address: Address, draining: bool) -> Result<(), HubError> {
    hub.change(move |tx, _| {
        Box::pin(async move {
            existing(tx, &address).await?;
            tx.set_device_draining(&address, draining).await?;
            Ok(((), changed(tx, &address).await?))
        })
    })
    .await
}

/// Sets labels, or removes those whose value is `None`; the others stay.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for labels that cannot be.
pub async fn label(
    hub: &Arc<Hub>,
    address: Address,
    labels: BTreeMap<String, Option<String>>,
) -> Result<(), HubError> {
    for (name, value) in &labels {
        check_label(name, value.as_deref().unwrap_or_default())?;
    }
    hub.change(move |tx, _| {
        Box::pin(async move {
            let device = existing(tx, &address).await?;
            let mut all = read_labels(&device.labels);
            for (name, value) in labels {
                match value {
                    Some(value) => drop(all.insert(name, value)),
                    None => drop(all.remove(&name)),
                }
            }
            if all.len() > MAX_LABELS {
                let detail = format!("a device has at most {MAX_LABELS} labels; remove some first");
                return Err(HubError::refused(Code::Invalid, detail));
            }
            tx.set_device_labels(&address, &write_labels(&all)).await?;
            Ok(((), changed(tx, &address).await?))
        })
    })
    .await
}

/// Stored labels.
pub(crate) fn read_labels(stored: &str) -> BTreeMap<String, String> {
    serde_json::from_str(stored).unwrap_or_default()
}

/// Labels as they are stored.
pub(super) fn write_labels(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).expect("texts by texts are JSON")
}

/// Whether a label can be: short, and of characters that lists and commands can show.
pub(super) fn check_label(name: &str, value: &str) -> Result<(), HubError> {
    let plain = |text: &str| text.len() <= 128 && !text.chars().any(char::is_control);
    if !name.is_empty() && !name.contains(['=', ' ']) && plain(name) && plain(value) {
        return Ok(());
    }
    let shown: String = name.chars().filter(|one| !one.is_control()).take(128).collect();
    let rule = "names have 1 to 128 bytes without `=` and spaces, values at most 128 bytes";
    Err(HubError::refused(Code::Invalid, format!("the label `{shown}` cannot be: {rule}")))
}

async fn existing(tx: &mut Tx, address: &Address) -> Result<Device, HubError> {
    tx.device(address).await?.ok_or_else(|| HubError::not_found("device"))
}

async fn changed(tx: &mut Tx, address: &Address) -> Result<Vec<Effect>, HubError> {
    let device = existing(tx, address).await?;
    Ok(vec![Effect::Describe(Box::new(device)), Effect::Event(Event::Device(*address)), Effect::Schedule])
}

fn gone() -> HubError {
    HubError::refused(Code::Conflict, "the device was revoked, which is for good; enrol it as a new one")
}
