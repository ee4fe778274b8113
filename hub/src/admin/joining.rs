//! Join tokens, and the owners whose delegations they carry.

use std::{collections::BTreeMap, sync::Arc};

use sosna_api::{Code, owner::DelegationSpec};
use sosna_host::{identity::IdentityKey, token};
use sosna_protocol::{
    Address, Hash, Signature,
    eip712::{Delegation, Domain, Typed as _},
    hash::sha256,
    identity::Sign as _,
};
use sosna_store::{JoinToken, Owner, Tx};

use super::devices::{check_label, write_labels};
use crate::{
    error::HubError,
    hub::{Addresses, Effect, Event, Hub},
};

/// The longest that a token may hold: a year.
const MAX_TTL_S: u64 = 366 * 86_400;
/// Most devices by one token.
const MAX_USES: u32 = 1_000_000;

/// A join token that was made.
pub struct Joining {
    /// The whole token, where the hub made the secret.
    pub token: Option<String>,
    /// Seconds since 1970 after which it is void.
    pub expires_s: u64,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joining").field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}

/// The hub's part of every join token: addresses, and the pin of its authority.
///
/// # Errors
/// [`Code::Busy`] until the listeners are open.
pub async fn template(hub: &Hub) -> Result<(Addresses, Hash), HubError> {
    let addresses = hub.addresses.get().cloned().ok_or_else(|| {
        HubError::refused(Code::Busy, "the hub's listeners are not open yet; try again in a moment")
    })?;
    Ok((addresses, Hash(hub.authority.read().await.spki_sha256())))
}

/// Makes a join token: with an owner's delegation, or with one of the hub's own default owner and a new secret.
/// `claimed_by` is the person who brings a delegation and becomes known as its owner.
///
/// # Errors
/// [`Code::Invalid`] for numbers, labels and delegations that cannot be; [`Code::Conflict`] for a secret that was
/// used before, or an owner's key that somebody else brought first.
pub async fn create_join_token(
    hub: &Arc<Hub>,
    (uses, ttl_s): (u32, u64),
    labels: BTreeMap<String, String>,
    delegation: Option<DelegationSpec>,
    claimed_by: Option<String>,
) -> Result<Joining, HubError> {
    for (name, value) in &labels {
        check_label(name, value)?;
    }
    let now_ms = hub.now_ms();
    let labels = write_labels(&labels);
    match delegation {
        Some(spec) => {
            let (delegation, owner, signature) = checked(hub, &spec, now_ms)?;
            let token = JoinToken { delegation, owner, signature, used: 0, labels, created_ms: now_ms };
            keep(hub, token, claimed_by, false).await?;
            Ok(Joining { token: None, expires_s: spec.expires })
        }
        None => {
            check_bounds(uses, ttl_s)?;
            let (addresses, authority) = template(hub).await?;
            let secret = Hash(sosna_host::random());
            let expires = now_ms / 1000 + ttl_s;
            let delegation = Delegation { hub: hub.address(), secret_hash: sha256(&secret.0), expires, uses };
            let signature = sign(&hub.owner, &delegation)?;
            let owner = hub.owner.address();
            let token = JoinToken { delegation, owner, signature, used: 0, labels, created_ms: now_ms };
            keep(hub, token, None, true).await?;
            let whole = token::JoinToken {
                host: addresses.host,
                bootstrap_port: addresses.bootstrap,
                hub: hub.address(),
                authority,
                secret,
                owner,
                expires,
                uses,
                delegation: signature,
            };
            Ok(Joining { token: Some(whole.to_string()), expires_s: expires })
        }
    }
}

/// Lets an owner count as one of their own, also for the devices that are here already, and before the owner's first
/// delegation: the operator knows the address from the owner.
///
/// # Errors
/// [`HubError::Store`].
pub async fn admit_owner(hub: &Arc<Hub>, address: Address) -> Result<(), HubError> {
    hub.change(move |tx, hub| {
        Box::pin(async move {
            tx.admit_owner(&address, hub.now_ms()).await?;
            let mut effects = Vec::new();
            for device in tx.devices().await?.into_iter().filter(|device| device.owner == address) {
                let event = Event::Device(device.address);
                effects.extend([Effect::Describe(Box::new(device)), Effect::Event(event)]);
            }
            effects.push(Effect::Schedule);
            Ok(((), effects))
        })
    })
    .await
}

/// The owners' keys that a person has brought delegations of. An owner's label in the store is the name of the
/// person who did so first.
///
/// # Errors
/// [`HubError::Store`].
pub async fn owners_of(tx: &mut Tx, person: &str) -> Result<Vec<Address>, HubError> {
    let owners = tx.owners().await?;
    Ok(owners.into_iter().filter(|owner| owner.label == person).map(|owner| owner.address).collect())
}

async fn keep(
    hub: &Arc<Hub>,
    token: JoinToken,
    claimed_by: Option<String>,
    admitted: bool,
) -> Result<(), HubError> {
    hub.change(move |tx, hub| {
        Box::pin(async move {
            let owners = tx.owners().await?;
            let known = owners.iter().find(|owner| owner.address == token.owner);
            let taken = |owner: &Owner| claimed_by.as_ref().is_some_and(|person| *person != owner.label);
            let is_taken = known.is_some_and(taken);
            // One who was admitted in advance is whoever proves to have the key first.
            let claimed = match &claimed_by {
                Some(person) if is_taken => tx.claim_owner(&token.owner, person).await?,
                _ => false,
            };
            if is_taken && !claimed {
                let detail =
                    "this owner's key came to the hub by somebody else; ask the operator for a token";
                return Err(HubError::refused(Code::Conflict, detail));
            }
            if tx.join_token(hub.address(), &token.delegation.secret_hash).await?.is_some() {
                let detail = "a token with this secret was made before; make a new secret for each token";
                return Err(HubError::refused(Code::Conflict, detail));
            }
            let label = claimed_by.unwrap_or_default();
            let owner = Owner { address: token.owner, admitted, label, created_ms: token.created_ms };
            tx.put_owner(&owner).await?;
            tx.put_join_token(&token).await?;
            Ok(((), Vec::new()))
        })
    })
    .await
}

fn checked(
    hub: &Hub,
    spec: &DelegationSpec,
    now_ms: u64,
) -> Result<(Delegation, Address, Signature), HubError> {
    let invalid = |detail: &str| HubError::refused(Code::Invalid, detail);
    let now_s = now_ms / 1000;
    if spec.expires <= now_s {
        return Err(invalid("the delegation has expired; sign one that holds for longer"));
    }
    check_bounds(spec.uses, spec.expires - now_s)?;
    let delegation = Delegation {
        hub: hub.address(),
        secret_hash: *spec.secret_hash,
        expires: spec.expires,
        uses: spec.uses,
    };
    let (owner, signature) = (*spec.owner, *spec.signature);
    delegation.verify(&Domain::off_chain(hub.address()), &signature, &owner).map_err(|error| {
        let detail =
            format!("the delegation does not hold: {error}; it must be signed for the hub {}", hub.address());
        invalid(&detail)
    })?;
    Ok((delegation, owner, signature))
}

fn check_bounds(uses: u32, ttl_s: u64) -> Result<(), HubError> {
    if !(1..=MAX_USES).contains(&uses) {
        let detail = format!("a join token is for 1 to {MAX_USES} devices, not {uses}");
        return Err(HubError::refused(Code::Invalid, detail));
    }
    if !(1..=MAX_TTL_S).contains(&ttl_s) {
        let detail = format!("a join token holds for 1 to {MAX_TTL_S} seconds (a year), not {ttl_s}");
        return Err(HubError::refused(Code::Invalid, detail));
    }
    Ok(())
}

fn sign(key: &IdentityKey, delegation: &Delegation) -> Result<Signature, HubError> {
    let domain = Domain::off_chain(delegation.hub);
    delegation.sign(&domain, key).map_err(|error| HubError::internal("the owner's key does not sign", error))
}
