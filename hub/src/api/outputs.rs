//! The files of a result that counts, one at a time: what pages show.
//!
//! They are strangers' work. They must never run in the hub's origin: see [`crate::content`].

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, Method},
    response::Response,
};
use sosna_api::text::JobIdText;
use sosna_host::manifest::{Manifest, OutputKind};
use sosna_protocol::Hash;

use super::{Caller, Failure, Served, view};
use crate::{
    content::{Shown, missing as gone, send},
    error::HubError,
};

/// Where they are.
pub(super) const ROUTE: &str = "/v1/jobs/{id}/tasks/{index}/outputs/{number}";

/// `GET /v1/jobs/{id}/tasks/{index}/outputs/{number}`: the regular file with this number among a task's accepted
/// outputs, from 0.
pub(super) async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Path((id, index, number)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let missing = || HubError::not_found("output");
    let id: JobIdText = id.parse().map_err(|_| missing())?;
    let index: u32 = index.parse().map_err(|_| missing())?;
    let number: usize = number.parse().map_err(|_| missing())?;
    let manifest = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                caller.own(tx.job(&id).await?)?;
                let task = tx.tasks_of(&id).await?.into_iter().find(|task| task.place == index);
                task.and_then(|task| task.end).map(|end| end.manifest).ok_or_else(missing)
            })
        })
        .await?;
    let (name, file) = output(&view::manifest(&served.hub, &manifest).await?, number).ok_or_else(missing)?;
    let answer = send(&served.hub.content, &name, &method, &headers, Shown::Picture(file)).await?;
    match answer {
        Some(answer) => Ok(answer),
        None => Err(gone(&served.hub, None, &name, "output").await.into()),
    }
}

fn output(manifest: &Manifest, number: usize) -> Option<(Hash, String)> {
    let mut files = manifest.outputs.iter().filter(|output| output.kind == OutputKind::File);
    let output = files.nth(number)?;
    let file = output.path.rsplit('/').next().unwrap_or_default();
    Some((output.sha256.parse().ok()?, file.to_owned()))
}
