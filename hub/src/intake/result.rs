//! What came of assignments: commitments, results, failures.

use std::{collections::HashMap, sync::Arc};

use sosna_host::manifest::{MAX_MANIFEST, Manifest};
use sosna_protocol::{
    Hash,
    codec::Bounded,
    eip712::{Receipt, Typed as _},
    hash::sha256,
    identity::AssignmentId,
    message::{
        MAX_EXPLANATION,
        result::{Commit, Failed, Judgement, Missing, Reveal, Up, Verdict},
    },
    result::commitment,
};
use sosna_store::{Assignment, AssignmentState, Holder, Revealed, Task, TaskState, Tx};

use super::{Heard, Trouble, admit};
use crate::{
    curve,
    error::HubError,
    hub::{Effect, Event, Hub},
    job::JobSpec,
    verify,
};

pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    let (known, shown) = match Up::read(&heard.frame()?) {
        Ok(Up::Reveal(reveal)) => (Ok(()), Some(reveal)),
        Ok(_) => (Ok(()), None),
        Err(error) => (Err(sosna_host::report::line(&error)), None),
    };
    // Files are read before the transaction, which must stay short. They are addressed by content: they cannot
    // change meanwhile.
    let checked = match &shown {
        Some(reveal) => Some(check(hub, heard.device, reveal).await?),
        None => None,
    };
    admit::take_outbox(hub, heard, |tx, hub, heard| {
        Box::pin(async move {
            match (Up::read(&heard.frame()?), checked) {
                (Ok(Up::Commit(commit)), _) => committed(tx, hub, heard, &commit).await,
                (Ok(Up::Reveal(reveal)), Some(checked)) => revealed(tx, hub, heard, &reveal, checked).await,
                (Ok(Up::Failed(failed)), _) => failed_there(tx, hub, heard, &failed).await,
                _ => Ok(Vec::new()),
            }
        })
    })
    .await?;
    known.map_err(Trouble::Drop)
}

async fn own(tx: &mut Tx, heard: &Heard, id: &AssignmentId) -> Result<Option<(Assignment, Task)>, HubError> {
    let Some(one) = tx.assignment(id).await?.filter(|one| one.device == heard.device) else {
        return Ok(None);
    };
    Ok(tx.task(&one.task).await?.map(|task| (one, task)))
}

async fn committed(tx: &mut Tx, hub: &Hub, heard: &Heard, commit: &Commit) -> Result<Vec<Effect>, HubError> {
    let Some((one, task)) = own(tx, heard, &commit.assignment).await? else { return Ok(Vec::new()) };
    let may = match one.state {
        AssignmentState::Offered | AssignmentState::Accepted => true,
        // Its lease ran out. It may still take part, unless its owner has another replica by now.
        AssignmentState::Expired => may_return(tx, &one, &task).await?,
        _ => return Ok(Vec::new()),
    };
    let is_open = matches!(task.state, TaskState::Queued | TaskState::Running);
    if !may || !is_open {
        // It came too late to be believed; it hurts nobody's reputation.
        let why = "the commitments of this task were closed before";
        return late(tx, hub, &one, &task, why).await;
    }
    tx.commit_assignment(&one.id, &commit.commitment, hub.now_ms()).await?;
    if task.state == TaskState::Queued {
        tx.set_task_state(&task.id, TaskState::Running, None).await?;
    }
    let mut effects = vec![Effect::Event(Event::Assignment(task.job, task.id, one.id))];
    effects.extend(verify::close_if_complete(tx, hub, &task.id).await?);
    Ok(effects)
}

/// Whether an assignment that ran out may still take part in its task: its owner has no other replica by now
/// (owners whom the operator has not admitted count as one), and the others run on its class.
async fn may_return(tx: &mut Tx, one: &Assignment, task: &Task) -> Result<bool, HubError> {
    let Some(device) = tx.device(&one.device).await? else { return Ok(false) };
    for other in tx.assignments_of_task(&task.id).await? {
        if other.id == one.id || !(other.state.is_open() || other.state == AssignmentState::Judged) {
            continue;
        }
        let unadmitted = !device.owner_admitted
            && tx.device(&other.device).await?.is_some_and(|other| !other.owner_admitted);
        if other.device == one.device || other.owner == one.owner || unadmitted {
            return Ok(false);
        }
    }
    let own = device.described.class;
    let Some(class) = task.class else {
        tx.set_task_class(&task.id, own).await?;
        return Ok(true);
    };
    let spec = tx.job(&task.job).await?.and_then(|job| JobSpec::read(&job.spec));
    Ok(class == own || class.arch == own.arch && spec.is_some_and(|spec| !spec.exact_class(task.commits())))
}

async fn late(
    tx: &mut Tx,
    hub: &Hub,
    one: &Assignment,
    task: &Task,
    why: &str,
) -> Result<Vec<Effect>, HubError> {
    let owed = sosna_protocol::Amount::ZERO;
    tx.judge_assignment(&one.id, Judgement::Late, owed, why, hub.now_ms()).await?;
    let verdict = Verdict {
        assignment: one.id,
        judgement: Judgement::Late,
        owed,
        explanation: Bounded(why),
        earned: None,
    };
    Ok(vec![
        Effect::send(one.device, &verdict)?,
        Effect::Freed(one.id),
        Effect::Event(Event::Assignment(task.job, task.id, one.id)),
    ])
}

/// What checking a result against its files came to: what it says, or why it is none.
type Checked = Result<Revealed, Fault>;

/// Why what was shown is no result.
enum Fault {
    /// It will not become one.
    Wrong(String),
    /// Content is not here. The device may have brought it: a backup that was restored, or a disk, can have lost it
    /// since.
    Missing(Hash),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

/// Checks a result against the assignment and against its content in the store.
async fn check(
    hub: &Arc<Hub>,
    device: sosna_protocol::Address,
    reveal: &Reveal,
) -> Result<Checked, HubError> {
    let id = reveal.assignment;
    let found = hub
        .store
        .read(move |tx| {
            Box::pin(async move {
                let Some(one) = tx.assignment(&id).await? else { return Ok(None) };
                let Some(task) = tx.task(&one.task).await? else { return Ok(None) };
                let Some(device) = tx.device(&one.device).await? else { return Ok(None) };
                let held = tx.held_by(&Holder::Assignment(id)).await?;
                let job = tx.job(&task.job).await?;
                let place = (device.described.class.arch, task.commits());
                Ok::<_, HubError>(job.map(|job| (one, place, job.spec, held)))
            })
        })
        .await?;
    let Some((one, (arch, commits), spec, held)) = found.filter(|(one, ..)| one.device == device) else {
        return Ok(Err("there is no such assignment".into()));
    };
    let Some(spec) = JobSpec::read(&spec) else { return Ok(Err("the job cannot be read".into())) };
    if !reveal.cause.is_result() {
        return Ok(Err(format!("`{}` is no result", reveal.cause.word()).into()));
    }
    if commits {
        let expected = commitment(&hub.address(), &id, &device, &reveal.root, &reveal.salt);
        if one.commitment != Some(expected) {
            return Ok(Err("the result is not the one that was committed to".into()));
        }
    }
    let Some((image, _)) = spec.image(arch) else {
        return Ok(Err("the task's image is not known".into()));
    };
    let receipt = Receipt {
        hub: hub.address(),
        device,
        assignment: id,
        task: one.task,
        image,
        result: reveal.root,
        usage: reveal.usage,
        price: one.price,
    };
    let receipt_digest = receipt.digest(&hub.domain());
    if let Err(error) = curve::verify(&reveal.receipt, &receipt_digest, &device) {
        return Ok(Err(format!("the receipt does not hold: {error}").into()));
    }
    let (reveal, stdout_counts, hub) = (*reveal, spec.stdout_counts(), hub.clone());
    let held = held.into_iter().collect();
    let files = tokio::task::spawn_blocking(move || check_files(&hub, &reveal, stdout_counts, &held))
        .await
        .map_err(|error| HubError::internal("checking a result's files failed", error))?;
    Ok(files.map(|()| Revealed {
        root: reveal.root,
        manifest: reveal.manifest,
        cause: reveal.cause,
        exit_code: reveal.exit_code,
        usage: reveal.usage,
        receipt: reveal.receipt,
        receipt_digest,
    }))
}

/// Only what the device has sent for this assignment is its result: by naming a hash it must not come to what others
/// have sent.
fn check_files(
    hub: &Hub,
    reveal: &Reveal,
    stdout_counts: bool,
    held: &HashMap<Hash, u64>,
) -> Result<(), Fault> {
    let look_for = |name: &Hash, length: u64| match held.get(name) {
        Some(sent) if *sent != length => {
            Err(Fault::Wrong(format!("{name} was sent with {sent} bytes, and the result says {length}")))
        }
        Some(_) if hub.content.length(name) == Some(length) => Ok(()),
        _ => Err(Fault::Missing(*name)),
    };
    if reveal.manifest_length > MAX_MANIFEST {
        return Err("the result's manifest is too long".into());
    }
    look_for(&reveal.manifest, reveal.manifest_length)?;
    let said = |error| Fault::Wrong(sosna_host::report::line(&error));
    let manifest = hub.manifest(&reveal.manifest).ok_or(Fault::Missing(reveal.manifest))?.map_err(said)?;
    if manifest.cause().map_err(said)? != reveal.cause || manifest.exit_code != reveal.exit_code {
        return Err("the manifest tells another end than the device".into());
    }
    if manifest.root(stdout_counts).map_err(said)? != reveal.root {
        return Err("the manifest has another root than the device says".into());
    }
    manifest.content().map_err(said)?.iter().try_for_each(|(name, length)| look_for(name, *length))
}

async fn revealed(
    tx: &mut Tx,
    hub: &Hub,
    heard: &Heard,
    reveal: &Reveal,
    checked: Checked,
) -> Result<Vec<Effect>, HubError> {
    let Some((one, task)) = own(tx, heard, &reveal.assignment).await? else { return Ok(Vec::new()) };
    let commits = task.commits();
    let expected = match one.state {
        AssignmentState::Committed => commits,
        AssignmentState::Offered | AssignmentState::Accepted | AssignmentState::Expired => !commits,
        _ => return Ok(Vec::new()),
    };
    if task.ended_ms.is_some() {
        return late(tx, hub, &one, &task, "the task was completed by another device before").await;
    }
    let early = commits && task.state != TaskState::Revealing;
    let result = match checked {
        Ok(_) | Err(Fault::Missing(_)) if !expected || early => {
            return refuse(tx, hub, &one, "the result was shown before the commitments were closed").await;
        }
        Ok(result) => result,
        // It has until the lease, or the time to show, runs out.
        Err(Fault::Missing(content)) => {
            tracing::info!(device = %one.device, assignment = %one.id, %content, "content of a result is missing");
            let missing = Missing { assignment: one.id, content };
            return Ok(vec![Effect::send(one.device, &missing)?]);
        }
        Err(Fault::Wrong(why)) => return refuse(tx, hub, &one, &why).await,
    };
    tx.reveal_assignment(&one.id, &result, hub.now_ms()).await?;
    let mut effects = vec![Effect::Event(Event::Assignment(task.job, task.id, one.id))];
    effects.extend(verify::judge(tx, hub, &task.id).await?);
    Ok(effects)
}

/// Ends an assignment for what was shown as its result, and tells the device, which waits for a verdict.
async fn refuse(tx: &mut Tx, hub: &Hub, one: &Assignment, why: &str) -> Result<Vec<Effect>, HubError> {
    let mut effects = verify::give_up(tx, hub, one, AssignmentState::Failed, why).await?;
    let verdict = Verdict {
        assignment: one.id,
        judgement: Judgement::Void,
        owed: sosna_protocol::Amount::ZERO,
        explanation: Bounded(sosna_host::report::cut(why, MAX_EXPLANATION)),
        earned: None,
    };
    effects.push(Effect::send(one.device, &verdict)?);
    Ok(effects)
}

async fn failed_there(
    tx: &mut Tx,
    hub: &Hub,
    heard: &Heard,
    failed: &Failed<'_>,
) -> Result<Vec<Effect>, HubError> {
    let Some((one, _)) = own(tx, heard, &failed.assignment).await? else { return Ok(Vec::new()) };
    if !matches!(one.state, AssignmentState::Offered | AssignmentState::Accepted | AssignmentState::Committed)
    {
        return Ok(Vec::new());
    }
    let why = format!("{}: {}", failed.cause.word(), failed.explanation.0);
    verify::give_up_by(tx, hub, &one, (AssignmentState::Failed, failed.cause), &why).await
}

impl Hub {
    /// A result's manifest, if it is in the content store, and still what its name says.
    #[must_use]
    pub fn manifest(&self, name: &Hash) -> Option<Result<Manifest, sosna_host::manifest::ManifestError>> {
        if self.content.length(name).is_none_or(|length| length > MAX_MANIFEST) {
            return None;
        }
        let bytes = std::fs::read(self.content.path(name)).ok().filter(|bytes| sha256(bytes) == *name)?;
        Some(Manifest::from_json(&bytes))
    }

    /// What a result's manifest names; nothing where it is not there.
    #[must_use]
    pub fn manifest_content(&self, name: &Hash) -> Vec<(Hash, u64)> {
        self.manifest(name)
            .and_then(Result::ok)
            .and_then(|manifest| manifest.content().ok())
            .unwrap_or_default()
    }
}
