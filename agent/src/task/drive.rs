//! One assignment's state machine: read the state from the store, take the step that follows, write the next state,
//! and only then act on it.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use sosna_host::{
    clock::Clock as _,
    file::{self, Access},
    report,
    retry::Backoff,
};
use sosna_protocol::{
    Hash,
    eip712::{Receipt, Typed as _},
    identity::AssignmentId,
    message::result::Commit,
    result::{Cause, commitment},
};
use sosna_runtime::{ExitRecord, RuntimeError};

use super::{
    Engine, Hand,
    fetch::FetchError,
    outcome::{self, Ending, Outcome},
    plan::Plan,
};
use crate::{
    device,
    stop::raised,
    store::{
        StoreError,
        record::{ReceiptRecord, ResultRecord, State, TaskRecord},
    },
};

/// How often a container that was lost is started again while the machine goes on: its shim does not die by itself.
const MOST_RERUNS: u32 = 1;
/// How often it is started again after the machine was restarted. That is nobody's fault, unless it is the task that
/// brings the machine down, each time anew.
const MOST_RESTARTS: u32 = 8;

/// Whether the driver goes on.
enum Step {
    /// The state has changed: take the next step.
    Next,
    /// Wait until somebody says that something has.
    Wait,
    /// Nothing is left to do here.
    Over,
}

/// Drives an assignment until it is closed or the driver is told to stop.
pub(super) async fn drive(engine: Arc<Engine>, assignment: AssignmentId, hand: Arc<Hand>) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut stop = hand.stop.subscribe();
    loop {
        let step = tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            step = step(&engine, &assignment, &hand) => step,
        };
        match step {
            Ok(Step::Next) => backoff.reset(),
            Ok(Step::Over) => return,
            Ok(Step::Wait) => tokio::select! {
                () = raised(&mut stop) => return,
                () = hand.wake.notified() => {}
            },
            Err(error) => {
                // The store fails: nothing may be done that is not written first. The disk may come back.
                let wait = backoff.wait();
                tracing::error!(%assignment, "cannot go on: {}", report::line(&error));
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn step(engine: &Engine, assignment: &AssignmentId, hand: &Hand) -> Result<Step, StoreError> {
    let Some(task) = engine.node.store.task(assignment)? else { return Ok(Step::Over) };
    let Some(plan) = engine.node.store.assign_frame(assignment)?.as_deref().and_then(Plan::of_frame) else {
        return Err(StoreError::Record { table: "assigns" });
    };
    hand.permille.store(0, Ordering::Relaxed);
    match task.state {
        State::Waiting => wait(engine, &plan, hand).await,
        State::Running => run(engine, &plan, &task, hand).await,
        State::Finished if task.commits && task.reveal_by_ms.is_none() => Ok(Step::Wait),
        State::Finished => {
            super::deliver::deliver(engine, &plan, &task, hand).await?;
            Ok(Step::Next)
        }
        State::Revealed => Ok(Step::Wait),
        State::Failed { .. } | State::Settled { .. } | State::Dropped { .. } => Ok(Step::Over),
    }
}

/// Fetches what it needs, so that starting it takes no more than a moment, and asks for its container.
async fn wait(engine: &Engine, plan: &Plan, hand: &Hand) -> Result<Step, StoreError> {
    // The image stays pinned for as long as the ready container is being started and watched.
    let ready = match super::fetch::fetch(engine, plan, hand).await {
        Ok(ready) => ready,
        Err(error) => return give_up_fetching(engine, plan, &error).await,
    };
    engine.node.store.write(|tx| {
        if let Some(mut task) = tx.task(&plan.assignment)?.filter(TaskRecord::is_active) {
            task.state = State::Running;
            task.boot = device::boot();
            tx.put_task(&task)?;
        }
        Ok::<_, StoreError>(())
    })?;
    tracing::info!(assignment = %plan.assignment, image = %plan.image, "starting");
    if let Err(error) = engine.runtime.start(&ready.spec).await {
        let explanation = format!("the container cannot be started: {}", report::line(&error));
        let cause = if matches!(error, RuntimeError::BadSpec { .. }) {
            Cause::NoContainer
        } else {
            Cause::DeviceFailed
        };
        return fail(engine, plan, cause, &explanation).await;
    }
    let record = watch(engine, plan, hand).await;
    drop(ready);
    ended(engine, plan, record).await
}

/// After a restart of the agent: the container was asked for; it runs, has ended, was lost, or never began.
async fn run(engine: &Engine, plan: &Plan, task: &TaskRecord, hand: &Hand) -> Result<Step, StoreError> {
    let id = plan.container();
    let is_known = match engine.runtime.known() {
        Ok(known) => known.contains(&id),
        Err(error) => {
            tracing::warn!(assignment = %plan.assignment, "{}", report::line(&error));
            true
        }
    };
    if !is_known {
        return again(engine, task).await;
    }
    // The layers of a running container must stay where they are: pin them again; they are here, so nothing is fetched.
    let pinned = super::fetch::pin(engine, plan).await;
    let record = watch(engine, plan, hand).await;
    drop(pinned);
    ended(engine, plan, record).await
}

async fn watch(engine: &Engine, plan: &Plan, hand: &Hand) -> Result<ExitRecord, RuntimeError> {
    hand.permille.store(0, Ordering::Relaxed);
    let id = plan.container();
    // Nothing of what will be committed may be seen before.
    if plan.commits {
        return engine.runtime.wait(&id).await;
    }
    let tail = super::logs::tail(engine, plan);
    tokio::select! {
        record = engine.runtime.wait(&id) => record,
        never = tail => match never {},
    }
}

async fn ended(
    engine: &Engine,
    plan: &Plan,
    record: Result<ExitRecord, RuntimeError>,
) -> Result<Step, StoreError> {
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            let explanation = format!("the container cannot be watched: {}", report::line(&error));
            return fail(engine, plan, Cause::DeviceFailed, &explanation).await;
        }
    };
    for problem in &record.output_problems {
        tracing::warn!(assignment = %plan.assignment, "an output: {problem}");
    }
    match outcome::ending(&record) {
        Ending::Result(cause, code) => finish(engine, plan, &record, (cause, code)).await,
        Ending::NoResult(cause, explanation) => fail(engine, plan, cause, &explanation).await,
        Ending::Lost => match engine.node.store.task(&plan.assignment)? {
            Some(task) => again(engine, &task).await,
            None => Ok(Step::Over),
        },
    }
}

/// A container that was lost runs again from its start, also where nobody can be asked: the image is here. A lease that
/// has run out is no reason to give up; the hub says what it does not want any more.
async fn again(engine: &Engine, task: &TaskRecord) -> Result<Step, StoreError> {
    let is_new_boot = task.boot != device::boot();
    if is_too_often(task, is_new_boot) {
        let explanation = format!(
            "the container was lost with the machine {} times and once more, and is not started again",
            task.reruns + task.restarts
        );
        engine.fail(&task.assignment, Cause::DeviceFailed, &explanation)?;
        engine.clean(&task.assignment).await;
        return Ok(Step::Over);
    }
    let why = if is_new_boot { "the machine was restarted" } else { "its container was lost" };
    tracing::warn!(assignment = %task.assignment, "{why}; it runs again");
    engine.node.store.write(|tx| {
        if let Some(mut task) = tx.task(&task.assignment)?.filter(TaskRecord::is_active) {
            task.state = State::Waiting;
            *if is_new_boot { &mut task.restarts } else { &mut task.reruns } += 1;
            tx.put_task(&task)?;
        }
        Ok::<_, StoreError>(())
    })?;
    engine.clean(&task.assignment).await;
    Ok(Step::Next)
}

fn is_too_often(task: &TaskRecord, is_new_boot: bool) -> bool {
    match is_new_boot {
        true => task.restarts >= MOST_RESTARTS,
        false => task.reruns >= MOST_RERUNS,
    }
}

/// Makes the result and signs for it; from here on it is kept whatever happens.
async fn finish(
    engine: &Engine,
    plan: &Plan,
    record: &ExitRecord,
    end: (Cause, u8),
) -> Result<Step, StoreError> {
    let folder = engine.runtime.folder(&plan.container());
    let (record, stdout_counts) = (record.clone(), plan.stdout_counts);
    let made =
        tokio::task::spawn_blocking(move || outcome::outcome(&record, end, &folder, stdout_counts)).await;
    let Outcome { manifest, root, usage, bytes } = match made {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => return fail(engine, plan, Cause::DeviceFailed, &report::line(&error)).await,
        Err(error) => return fail(engine, plan, Cause::DeviceFailed, &error.to_string()).await,
    };
    let json = manifest.to_json();
    let path = engine.manifest_path(&plan.assignment);
    let written = file::create_folder(&engine.result_folder(&plan.assignment))
        .and_then(|()| file::write(&path, &json, Access::Private));
    if let Err(error) = written {
        return fail(engine, plan, Cause::DeviceFailed, &report::line(&error)).await;
    }
    let node = &engine.node;
    let receipt = Receipt {
        hub: node.hub,
        device: node.device,
        assignment: plan.assignment,
        task: plan.task,
        image: plan.image,
        result: root,
        usage,
        price: plan.price,
    };
    let signature = receipt.sign(&plan.domain, &node.keys.identity)?;
    let salt = if plan.commits { Hash(sosna_host::random()) } else { Hash::ZERO };
    let now_ms = node.clock.now_ms();
    let result = ResultRecord {
        cause: end.0.word().to_owned(),
        exit_code: end.1,
        root,
        salt,
        manifest: sosna_protocol::hash::sha256(&json),
        manifest_length: json.len() as u64,
        cpu_ns: usage.cpu_ns,
        peak_memory: usage.peak_memory,
        wall_ms: usage.wall_ms,
        receipt: signature,
        kept_bytes: bytes.saturating_add(json.len() as u64),
    };
    node.store.write(|tx| {
        let Some(mut task) = tx.task(&plan.assignment)?.filter(TaskRecord::is_active) else { return Ok(()) };
        task.state = State::Finished;
        task.result = Some(result.clone());
        tx.put_task(&task)?;
        tx.put_receipt(&ReceiptRecord {
            assignment: plan.assignment,
            task: plan.task,
            hub: node.hub,
            device: node.device,
            image: plan.image,
            result: root,
            cpu_ns: usage.cpu_ns,
            peak_memory: usage.peak_memory,
            wall_ms: usage.wall_ms,
            price: plan.price,
            chain_id: plan.domain.chain_id,
            wallet: plan.domain.wallet,
            signature,
            made_ms: now_ms,
            judgement: None,
            covered_ms: None,
        })?;
        if plan.commits {
            let commitment = commitment(&node.hub, &plan.assignment, &node.device, &root, &salt);
            tx.say(&node.hub, &Commit { assignment: plan.assignment, commitment })?;
        }
        Ok::<_, StoreError>(())
    })?;
    tracing::info!(assignment = %plan.assignment, cause = end.0.word(), code = end.1, %root, "finished");
    Ok(Step::Next)
}

async fn give_up_fetching(engine: &Engine, plan: &Plan, error: &FetchError) -> Result<Step, StoreError> {
    fail(engine, plan, error.cause(), &report::line(error)).await
}

async fn fail(engine: &Engine, plan: &Plan, cause: Cause, explanation: &str) -> Result<Step, StoreError> {
    engine.fail(&plan.assignment, cause, explanation)?;
    engine.clean(&plan.assignment).await;
    Ok(Step::Over)
}
