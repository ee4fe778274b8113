//! The hub itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::{AddressText, HashText};

/// `GET /v1/hub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HubInfo {
    /// Its name: its key's address.
    pub address: AddressText,
    /// Its program's version.
    pub version: String,
    /// How often its store was restored from a backup.
    pub epoch: u64,
    /// The SHA-256 of the public key of its certificate authority: what clients and devices pin.
    pub authority: HashText,
    /// That authority's certificate in PEM.
    pub authority_pem: String,
    /// Where it listens.
    pub listeners: Listeners,
    /// The chain that it settles on; `null` for none.
    pub chain: Option<ChainInfo>,
    /// Its time.
    pub time_ms: u64,
}

/// Where a hub listens; `host:port` each, as others reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listeners {
    /// This interface and the pages.
    pub http: String,
    /// Devices with a certificate.
    pub main: String,
    /// Devices without.
    pub bootstrap: String,
}

/// The chain that a hub settles on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainInfo {
    /// Its number (EIP-155).
    pub id: u64,
    /// The hub's wallet there.
    pub wallet: AddressText,
}
