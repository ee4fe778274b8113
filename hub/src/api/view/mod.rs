//! What the store and the fleet hold, as the interface shows it.

mod device;
mod job;
mod task;

use std::collections::HashMap;

use sosna_host::manifest::{MAX_MANIFEST, Manifest};
use sosna_protocol::{Address, Amount, Hash};
use sosna_store::{Role, Tx};

pub(super) use device::{claims, classes, device, devices, voucher};
pub(super) use job::{job, job_detail, spec_of};
pub(super) use task::{assignment, round, task};

use crate::{error::HubError, hub::Hub};

/// A role as it is stored.
pub(super) fn role(role: sosna_api::user::Role) -> Role {
    use sosna_api::user::Role as Shown;
    match role {
        Shown::Admin => Role::Admin,
        Shown::Operator => Role::Operator,
        Shown::Buyer => Role::Buyer,
        Shown::Owner => Role::Owner,
    }
}

/// A stored role.
pub(super) fn shown_role(role: Role) -> sosna_api::user::Role {
    use sosna_api::user::Role as Shown;
    match role {
        Role::Admin => Shown::Admin,
        Role::Operator => Shown::Operator,
        Role::Buyer => Shown::Buyer,
        Role::Owner => Shown::Owner,
    }
}

/// What every device has ever earned.
pub(super) async fn earnings(tx: &mut Tx) -> Result<HashMap<Address, Amount>, HubError> {
    Ok(tx.earnings().await?.into_iter().collect())
}

/// A result's manifest from the content store.
pub(super) async fn manifest(hub: &Hub, name: &Hash) -> Result<Manifest, HubError> {
    match hub.content.length(name) {
        None => return Err(crate::content::missing(hub, None, name, "result").await),
        Some(length) if length > MAX_MANIFEST => return Err(HubError::not_found("result")),
        Some(_) => {}
    }
    let path = hub.content.path(name);
    let bytes = tokio::fs::read(&path)
        .await
        .map_err(|error| HubError::from(sosna_host::file::FileError::of("read", &path)(error)))?;
    Manifest::from_json(&bytes)
        .map_err(|error| HubError::internal("a manifest that counts cannot be read", error))
}
