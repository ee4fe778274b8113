//! What machines that watch the hub ask.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use sosna_api::Code;
use sosna_store::StoreError;

use super::{Failure, Served};

/// How many open tasks are counted: more of them tell nobody more, and counting must stay cheap.
const MOST_TASKS: u32 = 10_000;

/// It lives.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// It can do its work: the store answers, and devices can reach it.
pub(super) async fn ready(State(served): State<Arc<Served>>) -> Result<&'static str, Failure> {
    served.hub.store.read(|tx| Box::pin(async move { tx.epoch().await })).await?;
    if served.hub.broker.get().is_none() {
        return Err(Failure::new(Code::Busy, "the broker is not up yet; try again in a moment"));
    }
    if *served.shutdown.borrow() {
        return Err(Failure::new(Code::Busy, "the hub is stopping"));
    }
    Ok("ready\n")
}

/// Counters and gauges for Prometheus.
pub(super) async fn metrics(State(served): State<Arc<Served>>) -> Result<Response, Failure> {
    let hub = &served.hub;
    let open = hub
        .store
        .read(|tx| {
            Box::pin(async move { Ok::<_, StoreError>(tx.open_tasks(u64::MAX, MOST_TASKS).await?.len()) })
        })
        .await?;
    let (devices, online) = {
        let fleet = hub.fleet();
        (fleet.devices().len(), fleet.online())
    };
    let connections = hub.broker.get().map_or(0, |broker| broker.connections());
    let gauges = [
        ("devices", "Devices that have enrolled.", devices as u64),
        ("devices_online", "Devices that are connected.", online as u64),
        ("tasks_open", "Tasks that wait for devices; 10000 stands for as many or more.", open as u64),
        ("content_bytes", "Bytes in the content store.", hub.keeping.stored()),
        ("connections", "Sessions at the broker.", connections as u64),
    ];
    let text = hub.metrics.prometheus(&gauges);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
