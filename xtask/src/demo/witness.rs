//! What devices say of themselves, and what their hub says of them, for the judge.

use std::path::Path;

use sosna_protocol::Amount;

use super::DemoError;
use super::judge::Witness;
use super::machine::{Machine, PageView};
use super::run::{SHORT, wait};
use super::view::{DetailView, DeviceList, DeviceView, EarningsView, SignedView, StatusView};
use super::world::{Body, World};

/// The program that lies.
pub(super) const LIAR: &str = "lying-agent";

/// Every device with what the hub and it itself say, once both say the same (or time is up: the judge will tell).
pub(super) fn witnesses(world: &World, folder: &Path) -> Result<Vec<Witness>, DemoError> {
    let settled = wait(SHORT, folder, "the vouchers did not arrive", || {
        let devices = world.sosna_json::<DeviceList>(&["devices"])?.devices();
        let all_held = devices.iter().all(|one| one.earned == one.vouchered && one.earned == one.held);
        Ok((all_held && devices.len() == world.devices.len()).then_some(devices))
    })?;
    let mut witnesses = Vec::new();
    for device in &world.devices {
        let (own, page) = match &device.body {
            Body::Process { data, .. } => (world.status::<StatusView>(data)?, None),
            Body::Machine(machine) => {
                let page = page(machine)?;
                (of_machine(world, &page)?, Some(page))
            }
        };
        let hub = hubs_view(&settled, &own, device.spec.name)?;
        witnesses.push(Witness {
            name: device.spec.name,
            owner: device.spec.owner,
            lies: device.spec.program == LIAR,
            hub,
            own,
            page,
        });
    }
    Ok(witnesses)
}

fn hubs_view(devices: &[DeviceView], own: &StatusView, name: &str) -> Result<DeviceView, DemoError> {
    let found = devices.iter().find(|one| Some(one.address.as_str()) == own.device.as_deref());
    found.cloned().ok_or_else(|| DemoError::Command {
        command: format!("the status of {name}"),
        said: "the hub does not know the device that it names".to_owned(),
    })
}

/// A machine's page, also where its agent was just too busy to say something.
fn page(machine: &Machine) -> Result<PageView, DemoError> {
    wait(SHORT, machine.folder(), "a device's page did not show its agent", || {
        Ok(machine.page().ok().filter(|page| page.health.is_some()))
    })
}

/// A machine shows its owner no voucher; but it confirms each to its hub under its signature, which then says so.
fn of_machine(world: &World, page: &PageView) -> Result<StatusView, DemoError> {
    let health = page.health.clone().unwrap_or_default();
    let device = health.device.clone().unwrap_or_default();
    let voucher = world.sosna_json::<DetailView>(&["device", &device])?.voucher;
    let held = voucher.filter(|voucher| voucher.held_ms.is_some());
    let earnings = match held {
        None => EarningsView { voucher: "0".to_owned(), signed: None, lines: Vec::new() },
        Some(held) => EarningsView {
            signed: Some(SignedView {
                chain_id: held.chain_id,
                units: units(&held.cumulative),
                wallet: held.wallet,
                receipts: held.receipts,
                signature: held.signature,
            }),
            voucher: held.cumulative,
            lines: Vec::new(),
        },
    };
    Ok(StatusView {
        device: health.device,
        hub: health.hub,
        walls: health.walls,
        missing_limits: health.missing_limits,
        earnings,
        wallet: None,
    })
}

/// What cannot be read stays as it is: the judge says so.
fn units(amount: &str) -> String {
    amount.parse::<Amount>().map_or_else(|_| amount.to_owned(), |amount| amount.units().to_string())
}
