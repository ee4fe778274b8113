//! Owners and join tokens.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use sosna_api::{
    Code,
    owner::{JoinTemplate, JoinTokenCreated, NewJoinToken, Owner, OwnerList},
    text::AddressText,
};
use sosna_protocol::{Address, Amount};
use sosna_store::{DeviceState, Role};

use super::{Caller, Failure, JsonBody, Served, extract::Named, view};
use crate::{admin, error::HubError};

/// `POST /v1/join-tokens`.
pub(super) async fn create_join_token(
    State(served): State<Arc<Served>>,
    caller: Caller,
    JsonBody(new): JsonBody<NewJoinToken>,
) -> Result<(StatusCode, Json<JoinTokenCreated>), Failure> {
    caller.require(&[Role::Operator, Role::Admin, Role::Owner])?;
    let is_owner = caller.0.role == Role::Owner;
    if is_owner && new.delegation.is_none() {
        let detail = "an owner's token needs the owner's delegation; make one with `sosna owner delegate`";
        return Err(Failure::new(Code::Forbidden, detail));
    }
    let hub = &served.hub;
    // Looked up first: a token without them could not be told to anybody.
    let (addresses, authority) = admin::template(hub).await?;
    let claimed_by = is_owner.then(|| caller.0.name.clone());
    let made =
        admin::create_join_token(hub, (new.uses, new.ttl_s), new.labels, new.delegation, claimed_by).await?;
    let template = JoinTemplate {
        host: addresses.host,
        bootstrap_port: addresses.bootstrap,
        hub: hub.address().into(),
        authority: authority.into(),
    };
    let expires_ms = made.expires_s.saturating_mul(1000);
    Ok((StatusCode::CREATED, Json(JoinTokenCreated { token: made.token, template, expires_ms })))
}

/// `GET /v1/owners`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<OwnerList>, Failure> {
    caller.require(&[Role::Operator, Role::Admin])?;
    Ok(Json(OwnerList { owners: owners(&served).await? }))
}

/// `POST /v1/owners/{address}/admit`.
pub(super) async fn admit(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(address): Named<AddressText>,
) -> Result<Json<Owner>, Failure> {
    caller.require(&[Role::Operator, Role::Admin])?;
    admin::admit_owner(&served.hub, *address).await?;
    let mut all = owners(&served).await?.into_iter();
    let found = all.find(|owner| owner.address == address);
    Ok(Json(found.ok_or_else(|| HubError::not_found("owner"))?))
}

async fn owners(served: &Served) -> Result<Vec<Owner>, Failure> {
    let (owners, devices, earned) = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                Ok::<_, HubError>((tx.owners().await?, tx.devices().await?, view::earnings(tx).await?))
            })
        })
        .await?;
    let mut sums: BTreeMap<Address, (u32, Amount)> = BTreeMap::new();
    for device in devices {
        let (count, sum) = sums.entry(device.owner).or_default();
        *count += u32::from(device.state != DeviceState::Revoked);
        let more = earned.get(&device.address).copied().unwrap_or_default();
        *sum = sum.checked_add(more).unwrap_or(*sum);
    }
    let show = |owner: sosna_store::Owner| {
        let (devices, earned) = sums.get(&owner.address).copied().unwrap_or_default();
        Owner {
            address: owner.address.into(),
            admitted: owner.admitted,
            devices,
            earned: earned.into(),
            since_ms: owner.created_ms,
        }
    };
    Ok(owners.into_iter().map(show).collect())
}
