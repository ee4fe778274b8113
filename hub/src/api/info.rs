//! The hub itself.

use std::sync::Arc;

use axum::{Json, extract::State};
use sosna_api::hub::{ChainInfo, HubInfo, Listeners};

use super::{Failure, Served};
use crate::admin;

/// `GET /v1/hub`.
pub(super) async fn hub(State(served): State<Arc<Served>>) -> Result<Json<HubInfo>, Failure> {
    let hub = &served.hub;
    let (addresses, authority) = admin::template(hub).await?;
    Ok(Json(HubInfo {
        address: hub.address().into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: u64::from(hub.epoch),
        authority: authority.into(),
        authority_pem: hub.authority.read().await.trust().pem(),
        listeners: Listeners {
            bootstrap: bootstrap(&addresses.host, addresses.bootstrap),
            http: addresses.http,
            main: addresses.main,
        },
        chain: hub
            .chain
            .as_ref()
            .map(|chain| ChainInfo { id: chain.domain.chain_id, wallet: chain.domain.wallet.into() }),
        time_ms: hub.now_ms(),
    }))
}

fn bootstrap(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
