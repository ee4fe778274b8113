//! Owners, and the join tokens by which their devices enrol.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::{AddressText, AmountText, HashText, SignatureText};

/// `POST /v1/join-tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// How many devices may use it.
    pub uses: u32,
    /// How long it holds, in seconds. Ignored with a delegation, which says until when itself.
    pub ttl_s: u64,
    /// Labels that devices get which enrol by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// An owner's. Where absent, the hub's own default owner delegates, and the hub makes the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<DelegationSpec>,
}

/// What an owner signed (EIP-712 `Delegation`, for this hub without a chain); the hub never sees the secret
/// before a device shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DelegationSpec {
    /// Who signed.
    pub owner: AddressText,
    /// The SHA-256 of the secret.
    pub secret_hash: HashText,
    /// Seconds since 1970 after which it is void.
    pub expires: u64,
    /// How many devices may use it; the token's own number.
    pub uses: u32,
    /// The owner's.
    pub signature: SignatureText,
}

/// What came of [`NewJoinToken`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenCreated {
    /// The whole token, where the hub made the secret. It is shown once.
    pub token: Option<String>,
    /// What an owner puts together with secret and delegation into a token.
    pub template: JoinTemplate,
    /// Until when it holds, milliseconds since 1970.
    pub expires_ms: u64,
}

impl std::fmt::Debug for JoinTokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinTokenCreated").field("template", &self.template).finish_non_exhaustive()
    }
}

/// The part of a join token that is the hub's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTemplate {
    /// A name or address of the hub that devices can reach.
    pub host: String,
    /// The bootstrap listener's port.
    pub bootstrap_port: u16,
    /// The hub's identity.
    pub hub: AddressText,
    /// The SHA-256 of the public key of the hub's certificate authority.
    pub authority: HashText,
}

/// An owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Owner {
    /// Their name: their key's address.
    pub address: AddressText,
    /// Whether the operator admitted them. All owners who are not count together as one.
    pub admitted: bool,
    /// How many devices they have here, revoked ones left out.
    pub devices: u32,
    /// What the hub ever owed these devices.
    pub earned: AmountText,
    /// When the hub first heard of them.
    pub since_ms: u64,
}

/// `GET /v1/owners`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerList {
    /// By the time when the hub first heard of them.
    pub owners: Vec<Owner>,
}
