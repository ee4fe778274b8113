//! Brings a finished result to the hub: content first, the manifest last, then the reveal. It never gives up by
//! itself: a device that is offline for days delivers later.

use std::{sync::atomic::Ordering, time::Duration};

use sosna_host::{manifest::Manifest, report, retry::Backoff};
use sosna_protocol::result::Cause;

use super::{Engine, Hand, outcome, outcome::Piece, plan::Plan};
use crate::{
    content::{self, Source, TransferError},
    store::{
        StoreError,
        record::{ResultRecord, State, TaskRecord},
    },
};

/// Uploads, then reveals.
pub(super) async fn deliver(
    engine: &Engine,
    plan: &Plan,
    task: &TaskRecord,
    hand: &Hand,
) -> Result<(), StoreError> {
    let damaged = StoreError::Record { table: "tasks" };
    let Some(result) = task.result.as_ref() else { return Err(damaged) };
    let Some(reveal) = result.reveal(plan.assignment) else { return Err(damaged) };
    match pieces(engine, plan, result) {
        Ok(pieces) => upload(engine, plan, hand, &pieces).await,
        Err(explanation) => {
            // What was committed to is gone: a failed disk. The hub learns it instead of waiting.
            engine.fail(&plan.assignment, Cause::DeviceFailed, &explanation)?;
            engine.clean(&plan.assignment).await;
            return Ok(());
        }
    }
    engine.node.store.write(|tx| {
        let Some(mut task) = tx.task(&plan.assignment)?.filter(|task| task.state == State::Finished) else {
            return Ok(());
        };
        task.state = State::Revealed;
        tx.put_task(&task)?;
        tx.say(&engine.node.hub, &reveal)
    })?;
    tracing::info!(assignment = %plan.assignment, "result shown");
    Ok(())
}

/// The files of a result in the order in which they go; or why they are not there any more.
fn pieces(engine: &Engine, plan: &Plan, result: &ResultRecord) -> Result<Vec<Piece>, String> {
    let path = engine.manifest_path(&plan.assignment);
    let json = std::fs::read(&path).map_err(|error| format!("the result's manifest is lost: {error}"))?;
    if sosna_protocol::hash::sha256(&json) != result.manifest {
        return Err("the result's manifest has changed on the disk".into());
    }
    let manifest = Manifest::from_json(&json).map_err(|error| report::line(&error))?;
    let folder = engine.runtime.folder(&plan.container());
    let mut pieces = outcome::pieces(&manifest, &folder).map_err(|error| report::line(&error))?;
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        let (path, is_there) = match &piece.source {
            Source::File(path) => (path, path.is_file()),
            Source::Link(path) => (path, path.is_symlink()),
        };
        if !is_there {
            return Err(format!("the result's file {} is lost", path.display()));
        }
    }
    let source = Source::File(path);
    pieces.push(Piece { name: result.manifest, length: result.manifest_length, source });
    Ok(pieces)
}

async fn upload(engine: &Engine, plan: &Plan, hand: &Hand, pieces: &[Piece]) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
    let total = pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.length)).max(1);
    let mut sent = 0_u64;
    for piece in pieces {
        while let Err(error) = upload_one(engine, plan, piece).await {
            if matches!(error, TransferError::Over { .. }) {
                // The hub has decided without it; what is shown all the same gets its verdict.
                tracing::info!("{}", report::line(&error));
                return;
            }
            let wait = backoff.wait();
            let (assignment, seconds) = (plan.assignment, wait.as_secs());
            if error.is_passing() {
                tracing::info!(%assignment, seconds, "the result waits: {}", report::line(&error));
            } else {
                tracing::warn!(%assignment, seconds, "the result cannot be delivered: {}", report::line(&error));
            }
            tokio::time::sleep(wait).await;
        }
        backoff.reset();
        sent = sent.saturating_add(piece.length);
        let part = u16::try_from(sent.saturating_mul(1000) / total).unwrap_or(1000);
        hand.permille.store(part, Ordering::Relaxed);
    }
}

async fn upload_one(engine: &Engine, plan: &Plan, piece: &Piece) -> Result<(), TransferError> {
    let enrolment = engine.node.enrolment();
    let client = engine.node.content.client(&enrolment, &engine.node.clock)?;
    let what = (&piece.name, piece.length);
    content::upload(&client, &enrolment.content, &plan.assignment, what, &piece.source).await
}
