//! A device greets: it is told the time and where both sides stand, and whatever it may have missed.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use sosna_api::device::DeviceSystem;
use sosna_protocol::{
    Address,
    codec::{Bounded, List},
    message::VERSIONS,
    message::{
        ack::Position,
        hello::{Farewell, Hello, Up, Welcome},
        result::Closed,
    },
    window::Contiguous,
};
use sosna_store::{Assignment, AssignmentState, Described, Setting, TaskState, Tx};

use super::{Heard, Trouble, admit, drop_it};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    job::JobSpec,
    ledger, schedule, verify,
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    Up::read(&heard.frame()?).map_err(drop_it)?;
    let device = heard.device;
    let greeted = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                if !admit::passing(tx, &heard).await? {
                    hub.metrics.messages_replayed.add_one();
                    return Ok((false, Vec::new()));
                }
                let frame = heard.frame()?;
                let Up::Hello(hello) = Up::read(&frame).map_err(|error| HubError::internal("a message", error))?;
                let (oldest, newest) = VERSIONS;
                if hello.oldest > newest || hello.newest < oldest {
                    let explanation = format!(
                        "this hub speaks versions {oldest} to {newest} of the protocol and the device {} to {}; update the older one",
                        hello.oldest, hello.newest
                    );
                    let farewell = Farewell {
                        nonce: hello.nonce,
                        time_ms: hub.now_ms(),
                        explanation: Bounded(&explanation),
                    };
                    return Ok((false, vec![Effect::send(heard.device, &farewell)?]));
                }
                if let Some(system) = hello.system.filter(|system| system.boot_image.0.starts_with("differs")) {
                    tracing::warn!(device = %heard.device, "the boot image of a device {}", system.boot_image.0);
                }
                let effects = greet(tx, &hub, heard.device, &hello).await?;
                hub.metrics.messages_taken.add_one();
                Ok((true, effects))
            })
        })
        .await?;
    if greeted {
        if let Some(live) = hub.fleet().get_mut(&device) {
            live.online = true;
            live.has_greeted = true;
            live.seen_ms = hub.now_ms();
        }
        hub.perform(vec![Effect::Event(Event::Device(device)), Effect::Schedule]).await;
    }
    Ok(())
}

async fn greet(
    tx: &mut Tx,
    hub: &Arc<Hub>,
    device: Address,
    hello: &Hello<'_>,
) -> Result<Vec<Effect>, HubError> {
    let now = hub.now_ms();
    let missing: Vec<&str> = hello.missing_limits.iter().map(|text| text.0).collect();
    let described = Described {
        class: hello.class,
        agent: hello.agent.0.to_owned(),
        resources: hello.resources,
        ask: hello.ask,
        missing_limits: serde_json::to_string(&missing)
            .map_err(|error| HubError::internal("texts", error))?,
        exposure_limit: hello.exposure_limit,
        setting: setting(hello)?,
    };
    tx.describe_device(&device, &described, now).await?;
    let proof = hello.earned.map(|bytes| bytes.0);
    let mut effects = ledger::recover(tx, hub, device, hello.voucher.as_ref(), proof).await?;

    let held: HashSet<_> = hello.held.iter().collect();
    let open = tx.open_assignments_of(&device).await?;
    let known: HashSet<_> = open.iter().map(|one| one.id).collect();
    let mut unwanted = Vec::new();
    for id in held.difference(&known) {
        // A lease that ran out may still bring a result; everything else that is not open is over.
        let late = tx
            .assignment(id)
            .await?
            .is_some_and(|one| one.device == device && one.state == AssignmentState::Expired);
        if !late {
            unwanted.push(*id);
        }
    }
    for one in tx.lapsed_assignments_of(&device).await? {
        if !held.contains(&one.id) {
            // Its work is lost: it may begin anew.
            tx.ask_again(&one.id, now).await?;
        }
    }
    let positions = positions(tx, &device).await?;
    let addresses =
        hub.addresses.get().ok_or(HubError::Internal("a device greets before the hub listens", None))?;
    let welcome = Welcome {
        nonce: hello.nonce,
        version: VERSIONS.1,
        time_ms: now,
        beat_ms: hub.config.times.beat_ms,
        lease_ms: hub.config.times.lease_ms,
        positions: List::new(&positions),
        unwanted: List::new(&unwanted),
        main: Bounded(&addresses.main),
        content: Bounded(&addresses.content),
    };
    effects.extend(super::described(tx, &device).await?);
    effects.push(Effect::Owed(device, ledger::unvouchered(tx, &device).await?));
    effects.push(Effect::send(device, &welcome)?);
    for one in open {
        effects.extend(remind(tx, hub, &one, held.contains(&one.id), hello).await?);
    }
    let held_amount = hello.voucher.map(|statement| statement.cumulative).unwrap_or_default();
    effects.extend(ledger::resend_vouchers(tx, &device, held_amount).await?);
    Ok(effects)
}

/// What the device says of itself for people, as it is stored and shown.
fn setting(hello: &Hello<'_>) -> Result<Setting, HubError> {
    let system = hello.system.map(|system| DeviceSystem {
        board: system.board.0.to_owned(),
        slot: system.slot.0.to_owned(),
        version: system.version.0.to_owned(),
        boot_image: system.boot_image.0.to_owned(),
    });
    let system = system.map(|system| serde_json::to_string(&system)).transpose();
    let labels: BTreeMap<&str, &str> =
        hello.labels.iter().flat_map(List::iter).map(|label| (label.name.0, label.value.0)).collect();
    Ok(Setting {
        system: system.map_err(|error| HubError::internal("texts", error))?,
        metered: hello.metered.unwrap_or_default(),
        labels: serde_json::to_string(&labels).map_err(|error| HubError::internal("texts", error))?,
    })
}

/// Says again what a device may have missed of one assignment.
async fn remind(
    tx: &mut Tx,
    hub: &Arc<Hub>,
    one: &Assignment,
    is_held: bool,
    hello: &Hello<'_>,
) -> Result<Vec<Effect>, HubError> {
    let Some(task) = tx.task(&one.task).await? else { return Ok(Vec::new()) };
    match one.state {
        // Only what it has not answered yet; the answer to what it holds is on its way.
        AssignmentState::Offered if !is_held => {
            let Some(job) = tx.job(&task.job).await? else { return Ok(Vec::new()) };
            let Some(spec) = JobSpec::read(&job.spec) else { return Ok(Vec::new()) };
            match schedule::offer(hub, &spec, (&job, job.tasks), &task, one, hello.class) {
                Ok(offer) => Ok(vec![offer]),
                // It is another machine by now.
                Err(error) => {
                    let why = sosna_host::report::line(&error);
                    verify::give_up(tx, hub, one, AssignmentState::Failed, &why).await
                }
            }
        }
        AssignmentState::Accepted | AssignmentState::Committed if !is_held => {
            let why = "the device no longer knows of it; its data was lost";
            verify::give_up(tx, hub, one, AssignmentState::Failed, why).await
        }
        AssignmentState::Committed if task.state == TaskState::Revealing => {
            let reveal_by_ms = task.reveal_by_ms.unwrap_or_default();
            Ok(vec![Effect::send(one.device, &Closed { assignment: one.id, reveal_by_ms })?])
        }
        _ => Ok(Vec::new()),
    }
}

async fn positions(tx: &mut Tx, device: &Address) -> Result<Vec<Position>, HubError> {
    let stored = tx.positions(device).await?;
    let of = |kind| {
        stored.iter().find(|(known, _)| *known == kind).map_or(Contiguous::default(), |(_, window)| *window)
    };
    Ok(admit::OUTBOX
        .into_iter()
        .map(|kind| {
            let (epoch, contiguous) = of(kind).position();
            Position { kind, epoch, contiguous }
        })
        .collect())
}
