//! Payments for credit of BOINC projects.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use sosna_api::boinc::{BoincPaymentDetail, BoincPaymentList, BoincPaymentQuery, NewBoincPayment};
use sosna_store::Role;

use super::{
    Caller, Failure, JsonBody, Named, Served,
    extract::{Params, idempotency_key, list_limit},
};
use crate::{error::HubError, ledger::boinc};

/// The largest body: as many computers as one payment is about.
pub(super) const BODY_BYTES: usize = 32 << 20;

const STAFF: &[Role] = &[Role::Operator, Role::Admin];

/// `POST /v1/boinc/payments`.
pub(super) async fn pay(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(new): JsonBody<NewBoincPayment>,
) -> Result<(StatusCode, Json<BoincPaymentDetail>), Failure> {
    caller.require(&[Role::Admin])?;
    let key = idempotency_key(&headers)?;
    let (payment, fresh) = served.hub.pay_boinc(key, new).await?;
    Ok((if fresh { StatusCode::CREATED } else { StatusCode::OK }, Json(payment)))
}

/// `GET /v1/boinc/payments`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(query): Params<BoincPaymentQuery>,
) -> Result<Json<BoincPaymentList>, Failure> {
    caller.require(STAFF)?;
    let limit = list_limit(query.limit)?;
    let found = served.hub.store.read(move |tx| {
        Box::pin(async move { tx.boinc_payments(query.before, limit).await.map_err(HubError::from) })
    });
    let found = found.await?;
    let full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
    let next = found.last().filter(|_| full).map(|payment| payment.id);
    Ok(Json(BoincPaymentList { payments: found.into_iter().map(boinc::view).collect(), next }))
}

/// `GET /v1/boinc/payments/{id}`.
pub(super) async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(id): Named<u64>,
) -> Result<Json<BoincPaymentDetail>, Failure> {
    caller.require(STAFF)?;
    let found = served.hub.store.read(move |tx| {
        Box::pin(async move {
            let payment = tx.boinc_payment(id).await?.ok_or_else(|| HubError::not_found("payment"))?;
            boinc::detail(tx, payment).await
        })
    });
    Ok(Json(found.await?))
}
