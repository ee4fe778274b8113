//! `sosna devices`, `device`.

use std::collections::BTreeMap;

use serde::Serialize;
use sosna_api::{
    device::{Device, DeviceDetail, DeviceList, Drain, Labels, Revoke},
    route,
    text::AddressText,
};

use crate::{
    args::{DeviceArgs, DeviceCommand, ListArgs},
    client::Hub,
    error::Error,
    output, show,
};

pub(super) async fn list(hub: &Hub, args: &ListArgs) -> Result<(), Error> {
    let list: DeviceList = hub.get(route::DEVICES).await?;
    if args.json { output::json(&list) } else { output::line(&show::devices(&list.devices)) }
}

pub(super) async fn device(hub: &Hub, args: DeviceArgs) -> Result<(), Error> {
    match args.command {
        Some(DeviceCommand::Approve { id }) => {
            decide(hub, &id, route::DEVICE_APPROVE, &serde_json::json!({})).await
        }
        Some(DeviceCommand::Revoke { id, reason }) => {
            decide(hub, &id, route::DEVICE_REVOKE, &Revoke { reason }).await
        }
        Some(DeviceCommand::Drain { id, off }) => {
            decide(hub, &id, route::DEVICE_DRAIN, &Drain { draining: !off }).await
        }
        Some(DeviceCommand::Label { id, labels }) => {
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            decide(hub, &id, route::DEVICE_LABEL, &Labels { labels }).await
        }
        None => {
            let id =
                args.id.ok_or_else(|| Error::Usage("which device? `sosna devices` lists them".to_owned()))?;
            let address = resolve(hub, &id).await?;
            let detail: DeviceDetail = hub.get(&route::fill(route::DEVICE, address)).await?;
            if args.json { output::json(&detail) } else { output::line(&show::device(&detail)) }
        }
    }
}

async fn decide(hub: &Hub, id: &str, path: &str, body: &impl Serialize) -> Result<(), Error> {
    let address = resolve(hub, id).await?;
    let device: Device = hub.post(&route::fill(path, address), body).await?;
    let labels: Vec<String> = device.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    output::line(&format!("{} ({}) {}{}", device.address, device.hostname, device.state, labels.concat()))
}

/// A device's address: whole, or the only one that begins so, or whose host name it is.
async fn resolve(hub: &Hub, text: &str) -> Result<AddressText, Error> {
    if text.len() >= 40
        && let Ok(address) = text.parse()
    {
        return Ok(address);
    }
    let list: DeviceList = hub.get(route::DEVICES).await?;
    let start = text.to_ascii_lowercase();
    let fits = |device: &&Device| {
        let address = device.address.to_string().to_ascii_lowercase();
        device.hostname == text || (start.len() >= 4 && address.starts_with(&start))
    };
    let fitting: Vec<&Device> = list.devices.iter().filter(fits).collect();
    match fitting.as_slice() {
        [device] => Ok(device.address),
        [] => Err(Error::NotFound(format!("no device is called `{text}`; `sosna devices` lists them"))),
        more => {
            let addresses: Vec<String> = more.iter().map(|device| device.address.to_string()).collect();
            let what = format!("`{text}` fits more than one device; say which: {}", addresses.join(", "));
            Err(Error::Usage(what))
        }
    }
}
