//! The REST interface: [`sosna_api::route`] says what there is and who may; this says how it is done.
//!
//! Duties: know who asks, refuse what they may not, read requests within bounds, show what the store holds, and
//! stream changes. It must never decide about jobs or devices, and never change the store by itself: that is
//! [`crate::admin`]'s and [`Hub`]'s.

mod boinc;
mod caller;
mod content;
mod deposits;
mod devices;
mod extract;
mod failure;
mod health;
mod info;
mod jobs;
mod ledger;
pub mod openapi;
mod outputs;
mod owners;
mod stream;
mod users;
mod view;
mod wallet;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Uri,
    routing::{delete, get, post},
};
use sosna_api::{Code, route};
use tokio::sync::{Semaphore, watch};

pub(crate) use caller::Caller;
pub(crate) use extract::{JsonBody, Named};
pub(crate) use failure::Failure;
pub(crate) use wallet::proven;

use crate::{
    hub::Hub,
    web::{self, Sessions},
};

/// The largest body of a request, content aside: a job with many inputs and a long environment.
const BODY_BYTES: usize = 2 << 20;
/// Streams at once, of everybody.
const STREAMS: usize = 1024;

/// What every request is served with.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) hub: Arc<Hub>,
    pub(crate) sessions: Sessions,
    pub(crate) shutdown: watch::Receiver<bool>,
    streams: Arc<Semaphore>,
    written: health::Written,
}

/// Everything that the hub serves to people and their programs. Streams end when `shutdown` turns true.
pub fn router(hub: Arc<Hub>, shutdown: watch::Receiver<bool>) -> Router {
    let streams = Arc::new(Semaphore::new(STREAMS));
    let served = Arc::new(Served {
        hub,
        sessions: Sessions::default(),
        shutdown,
        streams,
        written: health::Written::default(),
    });
    Router::new()
        .route(route::JOBS, get(jobs::list).post(jobs::submit))
        .route(route::JOB, get(jobs::show).delete(jobs::cancel))
        .route(route::JOB_CANCEL, post(jobs::cancel))
        .route(route::JOB_LOGS, get(stream::logs))
        .route(route::JOB_EVENTS, get(stream::job))
        .route(outputs::ROUTE, get(outputs::show))
        .route(route::EVENTS, get(stream::fleet))
        .route(route::DEVICES, get(devices::list))
        .route(route::DEVICE, get(devices::show))
        .route(route::DEVICE_APPROVE, post(devices::approve))
        .route(route::DEVICE_REVOKE, post(devices::revoke))
        .route(route::DEVICE_DRAIN, post(devices::drain))
        .route(route::DEVICE_LABEL, post(devices::label))
        .route(route::JOIN_TOKENS, post(owners::create_join_token))
        .route(route::OWNERS, get(owners::list))
        .route(route::OWNER_ADMIT, post(owners::admit))
        .route(route::LEDGER, get(ledger::show))
        .route(route::LEDGER_CREDIT, post(ledger::credit))
        .route(route::DEPOSITS, get(deposits::list))
        .route(route::DEPOSITS_ACCOUNT, post(deposits::link))
        .route(route::DEPOSITS_VOUCHER, post(deposits::confirm))
        .route(
            route::BOINC_PAYMENTS,
            get(boinc::list).merge(post(boinc::pay).layer(DefaultBodyLimit::max(boinc::BODY_BYTES))),
        )
        .route(route::BOINC_PAYMENT, get(boinc::show))
        .route(route::WALLET, get(wallet::show))
        .route(route::PAYOUTS, get(wallet::list))
        .route(route::PAYOUT, get(wallet::proof))
        .route(route::HUB, get(info::hub))
        .route(route::ME, get(users::me))
        .route(route::USERS, get(users::list).post(users::add))
        .route(route::USER, delete(users::remove))
        .route(route::USER_TOKEN, post(users::renew))
        .route("/openapi.json", get(openapi::show))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        // Content is streamed to disk and has a limit of its own.
        .route(route::CONTENT, get(content::read).head(content::read).put(content::write))
        .merge(web::pages())
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(served)
}

async fn not_found(uri: Uri) -> Failure {
    let detail = format!("there is nothing at {}; /openapi.json lists what there is", uri.path());
    Failure::new(Code::NotFound, detail)
}

async fn not_allowed(uri: Uri) -> Failure {
    Failure::not_allowed(uri.path())
}
