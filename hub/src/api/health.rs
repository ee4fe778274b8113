//! What machines that watch the hub ask.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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

/// How long the store may take for a write.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the answer to that is taken for true.
const HOLDS: Duration = Duration::from_secs(1);

/// When the store was last tried, and whether it took the write.
pub(super) type Written = tokio::sync::Mutex<Option<(Instant, Option<bool>)>>;

/// It lives.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// It can do its work: the store takes writes, and devices can reach it.
pub(super) async fn ready(State(served): State<Arc<Served>>) -> Result<&'static str, Failure> {
    let busy = |why: &str| Err(Failure::new(Code::Busy, why));
    if *served.shutdown.borrow() {
        return busy("the hub is stopping");
    }
    match served.hub.broker.get() {
        None => return busy("the broker is not up yet; try again in a moment"),
        Some(broker) if !broker.is_serving() => {
            return busy(
                "the broker does not listen any more; look into the hub's log, and start the hub again",
            );
        }
        Some(_) => {}
    }
    match writable(&served).await {
        Some(true) => Ok("ready\n"),
        Some(false) => busy("the store cannot be written; is its disk full, or read-only?"),
        None => busy(
            "the store does not answer in time; is its disk overloaded, or does another program hold it?",
        ),
    }
}

/// Whether the store takes a write; `None` where it did not say so in time. Everybody may ask, so the answer holds
/// for a while.
async fn writable(served: &Served) -> Option<bool> {
    let mut last = served.written.lock().await;
    match *last {
        Some((at, answer)) if at.elapsed() < HOLDS => answer,
        _ => {
            let now = served.hub.now_ms();
            let write = served.hub.store.write(move |tx| Box::pin(async move { tx.try_to_write(now).await }));
            let answer = tokio::time::timeout(PATIENCE, write).await.ok().map(|written| written.is_ok());
            *last = Some((Instant::now(), answer));
            answer
        }
    }
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
    let trouble = u64::from(hub.chain.as_ref().is_some_and(|chain| chain.trouble().is_some()));
    let connections = hub.broker.get().map_or(0, |broker| broker.connections());
    let gauges = [
        ("devices", "Devices that have enrolled.", devices as u64),
        ("devices_online", "Devices that are connected.", online as u64),
        ("tasks_open", "Tasks that wait for devices; 10000 stands for as many or more.", open as u64),
        ("content_bytes", "Bytes in the content store.", hub.keeping.stored()),
        ("connections", "Sessions at the broker.", connections as u64),
        (
            "chain_trouble",
            "Whether something keeps the hub from its wallet; `sosna wallet` says what.",
            trouble,
        ),
    ];
    let text = hub.metrics.prometheus(&gauges);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
