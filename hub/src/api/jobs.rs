//! Jobs.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use sosna_api::{
    Code,
    job::{Job, JobDetail, JobList, JobQuery, NewJob},
    text::JobIdText,
};
use sosna_store::{JobState, Role};

use super::{
    Caller, Failure, JsonBody, Served,
    extract::{Named, Params, idempotency_key, list_limit},
    view,
};
use crate::error::HubError;

/// `POST /v1/jobs`.
pub(super) async fn submit(
    State(served): State<Arc<Served>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(new): JsonBody<NewJob>,
) -> Result<(StatusCode, Json<Job>), Failure> {
    caller.require(&[Role::Buyer, Role::Admin])?;
    let key = idempotency_key(&headers)?;
    let submitted = served.hub.submit(&caller.0.name, key, new).await?;
    let status = if submitted.fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown(&served, submitted.job).await?)))
}

/// `GET /v1/jobs`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Params(query): Params<JobQuery>,
) -> Result<Json<JobList>, Failure> {
    let limit = list_limit(query.limit)?;
    let state = query.state.map(|state| JobState::from_word(state.word()).unwrap_or(JobState::Queued));
    let list = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let before_ms = match query.before {
                    Some(id) => {
                        let unknown = "`before` names no job; use the value of `next`";
                        let job = caller.own(tx.job(&id).await?);
                        job.map_err(|_| HubError::refused(Code::Invalid, unknown))?.created_ms
                    }
                    None => u64::MAX,
                };
                let buyer = (!caller.sees_all()).then_some(caller.0.name.as_str());
                let found = tx.jobs(buyer, state, before_ms, limit).await?;
                let mut jobs = Vec::with_capacity(found.len());
                for job in &found {
                    jobs.push(view::job(tx, job).await?);
                }
                let full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
                let next = found.last().filter(|_| full).map(|job| JobIdText::from(job.id));
                Ok::<_, HubError>(JobList { jobs, next })
            })
        })
        .await?;
    Ok(Json(list))
}

/// `GET /v1/jobs/{id}`.
pub(super) async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(id): Named<JobIdText>,
) -> Result<Json<JobDetail>, Failure> {
    let hub = served.hub.clone();
    let detail = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let job = caller.own(tx.job(&id).await?)?;
                view::job_detail(tx, &hub, &job).await
            })
        })
        .await?;
    Ok(Json(detail))
}

/// `POST /v1/jobs/{id}/cancel` and `DELETE /v1/jobs/{id}`.
pub(super) async fn cancel(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(id): Named<JobIdText>,
) -> Result<Json<Job>, Failure> {
    served.hub.store.read(|tx| Box::pin(async move { caller.own(tx.job(&id).await?).map(drop) })).await?;
    let job = served.hub.cancel(*id).await?;
    Ok(Json(shown(&served, job).await?))
}

async fn shown(served: &Served, job: sosna_store::Job) -> Result<Job, Failure> {
    Ok(served.hub.store.read(|tx| Box::pin(async move { view::job(tx, &job).await })).await?)
}
