//! What the hub says: checked, written down, and only then handed on. A frame and the change of state that it makes
//! are one transaction with the memory of its counter, so that a replay finds it done and a crash finds it undone.

use sosna_host::clock::Clock as _;
use sosna_protocol::{
    Address, Amount,
    codec::{Bounded, DecodeError},
    eip712::Domain,
    envelope::{self, EnvelopeError, Meta},
    frame::Frame,
    identity::{AssignmentId, Nonce},
    message::{
        MAX_EXPLANATION, MessageError, ack, hello, pay,
        result::{self, Judgement},
        work::{self, Accept, Assign, Reason, Refuse},
    },
    result::Cause,
    topic::{Kind, Topic},
    window::Seen,
};

use crate::{
    device,
    node::Node,
    store::{
        StoreError, Tx,
        record::{State, TaskRecord},
    },
    task::{
        decide::{Refusal, Situation, decide},
        put_failed, say_failed,
    },
    wallet::{
        present::present,
        voucher::{self, Voucher, VoucherError},
    },
};

/// How often a result is brought again because the hub says that it has lost it.
const MOST_ASKED_AGAIN: u32 = 8;

/// What follows from a frame, after it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing.
    Nothing,
    /// The hub has welcomed us.
    Welcome(Welcomed),
    /// The hub cannot speak with us.
    Farewell(String),
    /// Acknowledged: up to these counters.
    Acknowledged(Vec<(Kind, u64)>),
    /// An assignment's record is new or has changed: its driver is to look at it.
    Drive(AssignmentId),
    /// These are over: clean up.
    End(Vec<AssignmentId>),
}

/// What a session needs of a welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Welcomed {
    pub(super) beat_ms: u32,
    pub(super) main: String,
    pub(super) content: String,
    /// Up to where the hub has what we sent.
    pub(super) positions: Vec<(Kind, u64)>,
    /// A new epoch was begun: everything is to be sent again.
    pub(super) new_epoch: Option<u32>,
    /// Assignments that are over.
    pub(super) dropped: Vec<AssignmentId>,
}

/// Why a frame is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It came on a topic that is not this device's.
    #[error("it came on the topic {0:?}")]
    Topic(String),
    /// It is no frame.
    #[error("it is not a frame")]
    Frame(#[source] DecodeError),
    /// It is not the hub's, not for us, or out of date.
    #[error("its envelope does not hold")]
    Envelope(#[from] EnvelopeError),
    /// It has been here before, or is too old to tell.
    #[error("its counter {counter} was used before (or is too old to tell)")]
    Replay {
        /// The counter.
        counter: u64,
    },
    /// No message that we know.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It answers a question that we did not ask.
    #[error("it answers another greeting than ours")]
    Nonce,
    /// A voucher that is not worth its bytes.
    #[error(transparent)]
    Voucher(#[from] VoucherError),
    /// The store fails: the frame comes again when the hub has no acknowledgement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[allow(clippy::large_enum_variant, reason = "it lives on the stack for one call")]
enum Spoken<'a> {
    Hello(hello::Down<'a>),
    Work(work::Down<'a>),
    Result(result::Down<'a>),
    Pay(pay::Down<'a>),
    Ack(ack::Down<'a>),
}

/// Takes one frame. `greeting` is the nonce of the greeting that has not been answered yet.
pub(super) fn receive(
    node: &Node,
    topic: &str,
    payload: &[u8],
    greeting: Option<&Nonce>,
) -> Result<Reaction, Refused> {
    let kind = match Topic::parse(topic) {
        Some(Topic::Down { device, kind }) if device == node.device => kind,
        _ => return Err(Refused::Topic(topic.to_owned())),
    };
    let frame = Frame::decode(payload).map_err(Refused::Frame)?;
    let seal = envelope::open(&frame, &node.device, &node.hub, node.clock.trusted_ms())?;
    let unknown = MessageError::Unknown { channel: frame.channel, message: frame.message };
    let spoken = match kind {
        Kind::Hello => Spoken::Hello(hello::Down::read(&frame)?),
        Kind::Work => Spoken::Work(work::Down::read(&frame)?),
        Kind::Result => Spoken::Result(result::Down::read(&frame)?),
        Kind::Pay => Spoken::Pay(pay::Down::read(&frame)?),
        Kind::Ack => Spoken::Ack(ack::Down::read(&frame)?),
        Kind::Enrol | Kind::Beat | Kind::Log => return Err(unknown.into()),
    };
    let inbox = Inbox { node, kind, meta: seal.meta };
    match spoken {
        Spoken::Hello(message) => inbox.hello(&message, greeting),
        Spoken::Work(work::Down::Assign(assign)) => inbox.assign(&assign, payload),
        Spoken::Work(work::Down::Cancel(cancel)) => inbox.cancel(&cancel),
        Spoken::Work(work::Down::Renewed(renewed)) => inbox.renewed(&renewed),
        Spoken::Result(result::Down::Closed(closed)) => inbox.closed(&closed),
        Spoken::Result(result::Down::Verdict(verdict)) => inbox.verdict(&verdict, payload),
        Spoken::Result(result::Down::Missing(missing)) => inbox.missing(&missing),
        Spoken::Pay(pay::Down::Issue(issue)) => inbox.voucher(&issue, payload),
        Spoken::Ack(ack::Down::Ack(ack)) => inbox.ack(&ack),
    }
}

struct Inbox<'a> {
    node: &'a Node,
    kind: Kind,
    meta: Meta,
}

// === impl Inbox ===

impl Inbox<'_> {
    fn admit(&self, tx: &mut Tx<'_>) -> Result<(), Refused> {
        match tx.admit(self.kind, self.meta.epoch, self.meta.counter)? {
            Seen::Fresh => Ok(()),
            Seen::Replay | Seen::Stale | Seen::Ahead => Err(Refused::Replay { counter: self.meta.counter }),
        }
    }

    fn now_ms(&self) -> u64 {
        self.node.clock.now_ms()
    }

    fn hello(&self, message: &hello::Down<'_>, greeting: Option<&Nonce>) -> Result<Reaction, Refused> {
        let (nonce, time_ms) = match message {
            hello::Down::Welcome(welcome) => (welcome.nonce, welcome.time_ms),
            hello::Down::Farewell(farewell) => (farewell.nonce, farewell.time_ms),
        };
        // Only an answer to our own nonce tells the time: anything else could have been recorded.
        if greeting != Some(&nonce) {
            return Err(Refused::Nonce);
        }
        let node = self.node;
        node.clock.learn(time_ms);
        let now_ms = self.now_ms();
        let reaction = match message {
            hello::Down::Farewell(farewell) => node.store.write(|tx| {
                self.admit(tx)?;
                tx.save_time(now_ms)?;
                Ok::<_, Refused>(Reaction::Farewell((*farewell.explanation).to_owned()))
            })?,
            hello::Down::Welcome(welcome) => node.store.write(|tx| {
                self.admit(tx)?;
                tx.save_time(now_ms)?;
                let positions: Vec<_> = welcome.positions.iter().collect();
                let new_epoch = tx.reconcile(&node.hub, &positions)?;
                let explanation = "the hub does not want it any more";
                let dropped = drop_all(tx, welcome.unwanted.iter(), explanation, true, now_ms)?;
                show_again(tx, &node.hub)?;
                if tx.learn_hub_epoch(self.meta.epoch)? {
                    let receipts = present(tx, &node.hub)?;
                    tracing::warn!(receipts, "the hub was restored from a backup; showing it what it owes");
                }
                Ok::<_, Refused>(Reaction::Welcome(Welcomed {
                    beat_ms: welcome.beat_ms,
                    main: (*welcome.main).to_owned(),
                    content: (*welcome.content).trim_end_matches('/').to_owned(),
                    positions: positions
                        .iter()
                        .map(|position| (position.kind, position.contiguous))
                        .collect(),
                    new_epoch,
                    dropped,
                }))
            })?,
        };
        node.clock.saved(now_ms);
        Ok(reaction)
    }

    fn ack(&self, ack: &ack::Ack<'_>) -> Result<Reaction, Refused> {
        // What is lost with the power here is only sent once more.
        self.node.store.write_lazily(|tx| {
            self.admit(tx)?;
            let mut taken = Vec::new();
            for position in ack.positions.iter() {
                tx.acknowledge(&position)?;
                taken.push((position.kind, position.contiguous));
            }
            Ok(Reaction::Acknowledged(taken))
        })
    }

    fn assign(&self, assign: &Assign<'_>, payload: &[u8]) -> Result<Reaction, Refused> {
        let node = self.node;
        let id = assign.assignment;
        // Unknown space is no space: the disk does not answer.
        let disk_free = device::disk_free(&node.data).map_or(0, |(free, _)| free);
        let offer = node.offer();
        node.store.write(|tx| {
            self.admit(tx)?;
            if let Some(known) = tx.task(&id)? {
                return self.again(tx, &known, payload);
            }
            let domain = Domain { chain_id: assign.chain_id, wallet: assign.wallet };
            let open = tx.open_tasks()?;
            let situation = Situation {
                backing: node.reader.backing(&node.hub, &domain, &tx.held()?),
                ask: node.ask,
                lent: offer.lent.resources,
                taken: Node::taken(&open),
                output: open.iter().fold(0, |sum, task| task.promised_output().saturating_add(sum)),
                exposure: tx.exposure()?,
                exposure_limit: offer.exposure_limit,
                exposure_start: offer.exposure_start,
                disk_free,
                disk_reserve: offer.lent.disk_reserve,
                allowance: node.allowance(),
                is_draining: node.is_draining(),
            };
            match decide(assign, &situation) {
                Ok(()) => {
                    tx.put_task(&TaskRecord {
                        assignment: id,
                        price: assign.price,
                        resources: assign.resources,
                        log_bytes: assign.log_bytes,
                        state: State::Waiting,
                        accepted_ms: self.now_ms(),
                        lease_until_ms: assign.lease_until_ms,
                        commits: assign.commits,
                        reruns: 0,
                        restarts: 0,
                        asked_again: 0,
                        boot: String::new(),
                        reveal_by_ms: None,
                        result: None,
                        ended_ms: None,
                    })?;
                    tx.put_assign_frame(&id, payload)?;
                    tx.say(&node.hub, &Accept { assignment: id })?;
                    tracing::info!(assignment = %id, price = %assign.price, "accepted");
                    Ok(Reaction::Drive(id))
                }
                Err(refusal) => {
                    tracing::warn!(assignment = %id, reason = refusal.reason.word(), "refused: {}", refusal.explanation);
                    self.refuse(tx, id, &refusal)?;
                    Ok(Reaction::Nothing)
                }
            }
        })
    }

    fn refuse(&self, tx: &mut Tx<'_>, assignment: AssignmentId, refusal: &Refusal) -> Result<(), StoreError> {
        let explanation = Bounded(sosna_host::report::cut(&refusal.explanation, MAX_EXPLANATION));
        tx.say(&self.node.hub, &Refuse { assignment, reason: refusal.reason, explanation })
    }

    /// An assignment that is known already: the answer is given again, nothing is started twice.
    fn again(&self, tx: &mut Tx<'_>, known: &TaskRecord, payload: &[u8]) -> Result<Reaction, Refused> {
        let id = known.assignment;
        let is_same = match self.node.store.assign_frame(&id)? {
            Some(frame) => same_terms(&frame, payload),
            None => false,
        };
        if !is_same {
            let explanation = "another assignment of this name was accepted before".to_owned();
            self.refuse(tx, id, &Refusal { reason: Reason::Malformed, explanation })?;
            return Ok(Reaction::Nothing);
        }
        match &known.state {
            State::Waiting | State::Running | State::Finished | State::Revealed => {
                tx.say(&self.node.hub, &Accept { assignment: id })?;
                Ok(Reaction::Drive(id))
            }
            State::Failed { cause, explanation } => {
                let cause =
                    Cause::from_word(cause).filter(|cause| !cause.is_result()).unwrap_or(Cause::DeviceFailed);
                say_failed(tx, &self.node.hub, &id, cause, explanation)?;
                Ok(Reaction::Nothing)
            }
            State::Dropped { .. } => {
                say_failed(tx, &self.node.hub, &id, Cause::Cancelled, "it was cancelled here before")?;
                Ok(Reaction::Nothing)
            }
            State::Settled { .. } => Ok(Reaction::Nothing),
        }
    }

    fn cancel(&self, cancel: &work::Cancel<'_>) -> Result<Reaction, Refused> {
        self.node.store.write(|tx| {
            self.admit(tx)?;
            let ids = std::iter::once(cancel.assignment);
            Ok(Reaction::End(drop_all(tx, ids, &cancel.explanation, true, self.now_ms())?))
        })
    }

    fn renewed(&self, renewed: &work::Renewed<'_>) -> Result<Reaction, Refused> {
        let renew = |tx: &mut Tx<'_>| {
            self.admit(tx)?;
            for lease in renewed.leases.iter() {
                if let Some(mut task) = tx.task(&lease.assignment)?.filter(TaskRecord::is_open) {
                    task.lease_until_ms = lease.until_ms;
                    tx.put_task(&task)?;
                }
            }
            // What is finished is kept and delivered all the same: the hub may still want it.
            let explanation = "its lease was given to another device";
            Ok::<_, Refused>(Reaction::End(drop_all(
                tx,
                renewed.lost.iter(),
                explanation,
                false,
                self.now_ms(),
            )?))
        };
        if renewed.lost.is_empty() {
            // A lease that is forgotten with the power is renewed by the next beat.
            self.node.store.write_lazily(renew)
        } else {
            self.node.store.write(renew)
        }
    }

    fn closed(&self, closed: &result::Closed) -> Result<Reaction, Refused> {
        self.node.store.write(|tx| {
            self.admit(tx)?;
            // Before our own commitment there is nothing that could be closed for us.
            let is_waiting = |task: &TaskRecord| task.state == State::Finished && task.reveal_by_ms.is_none();
            match tx.task(&closed.assignment)?.filter(is_waiting) {
                Some(mut task) => {
                    task.reveal_by_ms = Some(closed.reveal_by_ms);
                    tx.put_task(&task)?;
                    Ok(Reaction::Drive(closed.assignment))
                }
                None => Ok(Reaction::Nothing),
            }
        })
    }

    /// Brings a result once more: it is kept until the hub has judged.
    fn missing(&self, missing: &result::Missing) -> Result<Reaction, Refused> {
        let id = missing.assignment;
        self.node.store.write(|tx| {
            self.admit(tx)?;
            let Some(mut task) = tx.task(&id)?.filter(|task| task.state == State::Revealed) else {
                return Ok(Reaction::Nothing);
            };
            tracing::warn!(assignment = %id, content = %missing.content, "the hub has lost a part of the result");
            if task.asked_again < MOST_ASKED_AGAIN {
                task.asked_again += 1;
                task.state = State::Finished;
                tx.put_task(&task)?;
                return Ok(Reaction::Drive(id));
            }
            let times = task.asked_again + 1;
            let explanation = format!("the result was brought {times} times, and the hub has lost it each time");
            put_failed(tx, &self.node.hub, task, (Cause::DeviceFailed, &explanation), self.now_ms())?;
            void_receipt(tx, &id)?;
            Ok(Reaction::End(vec![id]))
        })
    }

    fn verdict(&self, verdict: &result::Verdict<'_>, payload: &[u8]) -> Result<Reaction, Refused> {
        let id = verdict.assignment;
        let now_ms = self.now_ms();
        self.node.store.write(|tx| {
            self.admit(tx)?;
            let Some(mut task) = tx.task(&id)?.filter(|task| !matches!(task.state, State::Settled { .. })) else {
                return Ok(Reaction::Nothing);
            };
            task.state =
                State::Settled { judgement: verdict.judgement.word().to_owned(), owed: verdict.owed };
            task.ended_ms = Some(now_ms);
            tx.put_task(&task)?;
            if let Some(mut receipt) = tx.receipt(&id)? {
                receipt.judgement = Some(verdict.judgement.word().to_owned());
                tx.put_receipt(&receipt)?;
            }
            if verdict.judgement == Judgement::Accepted {
                tx.put_verdict(&id, verdict.earned, payload)?;
            }
            if verdict.judgement == Judgement::Accepted && verdict.owed < task.price {
                tracing::error!(assignment = %id, owed = %verdict.owed, price = %task.price, "the hub owes less than was agreed");
            }
            let (judgement, owed, why) = (verdict.judgement.word(), verdict.owed, &*verdict.explanation);
            tracing::info!(assignment = %id, judgement, %owed, why, "the hub has judged");
            Ok(Reaction::End(vec![id]))
        })
    }

    fn voucher(&self, issue: &pay::Issue<'_>, payload: &[u8]) -> Result<Reaction, Refused> {
        let node = self.node;
        let now_ms = self.now_ms();
        let judged = node.store.write(|tx| {
            self.admit(tx)?;
            let held = tx.voucher()?;
            let above = tx.above_receipts()?;
            let covers = issue.covers.iter();
            let find = |id: &AssignmentId| tx.receipt(id).map_err(Refused::from);
            let best = held.as_ref().map(|held| (held, above));
            match voucher::judge(node.device, &node.hub, &issue.statement, covers, best, find) {
                Ok(voucher) => {
                    match voucher {
                        Voucher::Better { above: more } => {
                            tx.put_voucher(&issue.statement, payload)?;
                            // It is a part of the voucher's own amount, and so no larger than any can be.
                            tx.set_above_receipts(above.checked_add(more).unwrap_or(above))?;
                        }
                        Voucher::Earlier { due } => {
                            tx.set_above_receipts(above.checked_sub(due).unwrap_or(Amount::ZERO))?;
                        }
                        Voucher::Known => {}
                    }
                    if voucher != Voucher::Known {
                        for id in issue.covers.iter() {
                            if let Some(mut receipt) = tx.receipt(&id)? {
                                receipt.covered_ms = Some(now_ms);
                                tx.put_receipt(&receipt)?;
                            }
                        }
                    }
                    tx.say(&node.hub, &pay::Held { cumulative: issue.statement.cumulative })?;
                    Ok(Ok(()))
                }
                Err(Refused::Voucher(error)) => {
                    // The envelope proves that the hub sent it: it is evidence.
                    tx.keep_evidence(payload)?;
                    Ok(Err(error))
                }
                Err(other) => Err(other),
            }
        });
        judged??;
        tracing::info!(cumulative = %issue.statement.cumulative, receipts = issue.covers.len(), "voucher held");
        Ok(Reaction::Nothing)
    }
}

/// Says again what was shown and not judged. A hub that has a result takes no notice; one that is older than what it
/// acknowledged, or has asked for content with a frame that was lost, goes on from there.
fn show_again(tx: &mut Tx<'_>, hub: &Address) -> Result<(), StoreError> {
    if tx.first_waiting(Kind::Result)?.is_some() {
        // What waits goes again by itself.
        return Ok(());
    }
    for task in tx.open_tasks()?.iter().filter(|task| task.state == State::Revealed) {
        if let Some(reveal) = task.result.as_ref().and_then(|result| result.reveal(task.assignment)) {
            tx.say(hub, &reveal)?;
        }
    }
    Ok(())
}

/// Closes every open assignment of a hub that wants nothing of this device any more.
pub(super) fn give_up_all(node: &Node, explanation: &str) -> Result<Vec<AssignmentId>, StoreError> {
    let open = node.store.open_tasks()?;
    let now_ms = node.clock.now_ms();
    let ids = open.iter().map(|task| task.assignment);
    node.store.write(|tx| drop_all(tx, ids, explanation, true, now_ms))
}

/// Closes open assignments that the hub gives up; with `even_finished` also those that have a result already.
fn drop_all(
    tx: &mut Tx<'_>,
    assignments: impl Iterator<Item = AssignmentId>,
    explanation: &str,
    even_finished: bool,
    now_ms: u64,
) -> Result<Vec<AssignmentId>, StoreError> {
    let mut dropped = Vec::new();
    for id in assignments {
        let goes = |task: &TaskRecord| task.is_active() || even_finished && task.is_open();
        let Some(mut task) = tx.task(&id)?.filter(goes) else { continue };
        tracing::info!(assignment = %id, "given up: {explanation}");
        // Of a result that was shown the verdict may have been missed: a voucher may still name its receipt.
        let was_shown = task.state == State::Revealed;
        task.state = State::Dropped { explanation: explanation.to_owned() };
        task.ended_ms = Some(now_ms);
        tx.put_task(&task)?;
        if !was_shown {
            void_receipt(tx, &id)?;
        }
        dropped.push(id);
    }
    Ok(dropped)
}

/// Nothing is owed by a receipt that nobody has judged.
fn void_receipt(tx: &mut Tx<'_>, id: &AssignmentId) -> Result<(), StoreError> {
    if let Some(mut receipt) = tx.receipt(id)?.filter(|receipt| receipt.judgement.is_none()) {
        receipt.judgement = Some(Judgement::Void.word().to_owned());
        tx.put_receipt(&receipt)?;
    }
    Ok(())
}

/// Whether two frames ask for the same; the lease's end may have moved.
fn same_terms(one: &[u8], other: &[u8]) -> bool {
    let (Ok(one), Ok(other)) = (Frame::decode(one), Frame::decode(other)) else { return false };
    if one.body == other.body {
        return true;
    }
    match (work::Down::read(&one), work::Down::read(&other)) {
        (Ok(work::Down::Assign(one)), Ok(work::Down::Assign(other))) => {
            let lease_until_ms = one.lease_until_ms;
            one == Assign { lease_until_ms, ..other }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
