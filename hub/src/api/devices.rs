//! The fleet.

use std::sync::Arc;

use axum::{Json, extract::State};
use sosna_api::{
    device::{CurrentAssignment, Device, DeviceDetail, DeviceList, Drain, Labels, Revoke},
    text::AddressText,
};
use sosna_protocol::Address;
use sosna_store::{Role, Tx};

use super::{Caller, Failure, JsonBody, Served, extract::Named, view};
use crate::{admin, error::HubError, fleet::Live};

const STAFF: &[Role] = &[Role::Operator, Role::Admin];
const STAFF_AND_OWNERS: &[Role] = &[Role::Operator, Role::Admin, Role::Owner];

/// `GET /v1/devices`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<DeviceList>, Failure> {
    caller.require(STAFF_AND_OWNERS)?;
    let mut live = served.hub.fleet().devices().to_vec();
    live.sort_by_key(|live| (live.device.enrolled_ms, live.device.address));
    let devices = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let own = owned(tx, &caller).await?;
                live.retain(|live| own.as_ref().is_none_or(|own| own.contains(&live.device.owner)));
                view::devices(tx, &live).await
            })
        })
        .await?;
    Ok(Json(DeviceList { devices }))
}

/// `GET /v1/devices/{address}`.
pub(super) async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(address): Named<AddressText>,
) -> Result<Json<DeviceDetail>, Failure> {
    caller.require(STAFF_AND_OWNERS)?;
    let live = live(&served, &address)?;
    let detail = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                if owned(tx, &caller).await?.is_some_and(|own| !own.contains(&live.device.owner)) {
                    return Err(HubError::not_found("device"));
                }
                let mut current = Vec::new();
                for open in tx.open_assignments_of(&address).await? {
                    let Some(task) = tx.task(&open.task).await? else { continue };
                    current.push(CurrentAssignment {
                        assignment: open.id.into(),
                        task: open.task.into(),
                        index: task.place,
                        job: task.job.into(),
                        phase: open.phase.map(Into::into),
                        offered_ms: open.created_ms,
                        lease_until_ms: open.lease_until_ms,
                    });
                }
                let device = view::device(tx, &live).await?;
                let classes = view::classes(tx, &live).await?;
                let claims = view::claims(tx, &address).await?;
                let voucher = view::voucher(tx, &address).await?;
                Ok(DeviceDetail { device, current, classes, claims, voucher })
            })
        })
        .await?;
    Ok(Json(detail))
}

/// `POST /v1/devices/{address}/approve`.
pub(super) async fn approve(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(address): Named<AddressText>,
) -> Result<Json<Device>, Failure> {
    caller.require(STAFF)?;
    admin::approve(&served.hub, *address).await?;
    changed(&served, &address).await
}

/// `POST /v1/devices/{address}/revoke`.
pub(super) async fn revoke(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(address): Named<AddressText>,
    JsonBody(Revoke { reason }): JsonBody<Revoke>,
) -> Result<Json<Device>, Failure> {
    caller.require(STAFF)?;
    admin::revoke(&served.hub, *address, reason).await?;
    changed(&served, &address).await
}

/// `POST /v1/devices/{address}/drain`.
pub(super) async fn drain(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(address): Named<AddressText>,
    JsonBody(Drain { draining }): JsonBody<Drain>,
) -> Result<Json<Device>, Failure> {
    caller.require(STAFF)?;
    admin::drain(&served.hub, *address, draining).await?;
    changed(&served, &address).await
}

/// `POST /v1/devices/{address}/label`.
pub(super) async fn label(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(address): Named<AddressText>,
    JsonBody(Labels { labels }): JsonBody<Labels>,
) -> Result<Json<Device>, Failure> {
    caller.require(STAFF)?;
    admin::label(&served.hub, *address, labels).await?;
    changed(&served, &address).await
}

async fn changed(served: &Served, address: &Address) -> Result<Json<Device>, Failure> {
    let live = live(served, address)?;
    Ok(Json(served.hub.store.read(|tx| Box::pin(async move { view::device(tx, &live).await })).await?))
}

fn live(served: &Served, address: &Address) -> Result<Live, HubError> {
    served.hub.fleet().get(address).cloned().ok_or_else(|| HubError::not_found("device"))
}

/// Whose devices an owner sees: those of the keys that they have proved; `None` for everybody's.
async fn owned(tx: &mut Tx, caller: &Caller) -> Result<Option<Vec<Address>>, HubError> {
    if caller.sees_all() {
        return Ok(None);
    }
    admin::owners_of(tx, &caller.0.name).await.map(Some)
}
