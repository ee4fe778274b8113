//! A device as its hub knows it, without a line: frames in, frames out. It keeps all that the agent keeps on its disk,
//! so that coming back after an absence is what a restart is for a real one.

use std::collections::BTreeMap;

use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Address, Amount, Hash,
    codec::{Bounded, List},
    eip712::{Typed as _, receipts_root},
    envelope::{self, EnvelopeError},
    frame::Frame,
    identity::{AssignmentId, Nonce, Sign as _},
    message::{
        MessageError, VERSIONS, ack,
        ack::Position,
        beat::{Beat, Progress},
        enrol, hello,
        hello::Hello,
        pay::{self, Held, Issue, Statement},
        result::{self, Judgement, Verdict},
        work::{self, Accept, Assign, Reason, Refuse},
    },
    resources::Resources,
    topic::Kind,
};

use crate::{
    conduct::Conduct,
    outbox::{Outbox, Sealed},
    population::Profile,
    tally::{Breach, Event},
    work::{Made, Maker, Step, Work},
};

/// What follows from a frame, or from time.
#[derive(Debug)]
pub(crate) enum Act {
    /// This goes to the hub.
    Send(Sealed),
    /// Content goes to the hub; [`Device::brought`] afterwards.
    Bring(AssignmentId, Vec<Vec<u8>>),
    /// Something that is counted.
    Tell(Event),
    /// The session begins: the hub has greeted back.
    Begin,
    /// The device hangs up.
    Leave,
}

/// Why a frame of the hub's does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Deaf {
    #[error("it is no frame")]
    Frame(#[from] sosna_protocol::codec::DecodeError),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// How much longer than its work takes a [tardy](Conduct::Tardy) device is silent about it: longer than most leases last.
const LATE_MS: u64 = 5_000;

/// A simulated device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) profile: Profile,
    key: IdentityKey,
    hub: Address,
    /// Whether what the hub says is believed only when its signature holds.
    verifies: bool,
    outbox: Outbox,
    chance: fastrand::Rng,
    works: BTreeMap<AssignmentId, Work>,
    greeting: Option<Nonce>,
    beat_ms: u32,
    next_beat_ms: u64,
    /// When the swarm's own time began, milliseconds since 1970.
    started_ms: i128,
    /// The hub's time less the swarm's own, once it is known.
    hub_time: Option<i128>,
    voucher: Option<Statement>,
    /// By how much it is above all receipts that vouchers have named.
    above: Amount,
    /// By assignment, until a voucher names it: the digest of the receipt, and the price.
    receipts: BTreeMap<AssignmentId, (Hash, Amount)>,
}

// === impl Device ===

impl Device {
    pub(crate) fn new(
        profile: Profile,
        key: IdentityKey,
        hub: Address,
        (started_ms, verifies): (u64, bool),
        chance: fastrand::Rng,
    ) -> Self {
        Self {
            profile,
            // Seconds since 1970: higher in each later run.
            outbox: Outbox::new(key.clone(), hub, u32::try_from(started_ms / 1000).unwrap_or(u32::MAX)),
            key,
            hub,
            verifies,
            chance,
            works: BTreeMap::new(),
            greeting: None,
            beat_ms: 10_000,
            next_beat_ms: u64::MAX,
            started_ms: i128::from(started_ms),
            hub_time: None,
            voucher: None,
            above: Amount::ZERO,
            receipts: BTreeMap::new(),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    pub(crate) fn chance(&mut self) -> &mut fastrand::Rng {
        &mut self.chance
    }

    fn nonce(&mut self) -> Nonce {
        Nonce(std::array::from_fn(|_| self.chance.u8(..)))
    }

    /// A request for enrolment, or for the next certificate where there is no `secret`.
    pub(crate) fn ask_to_enrol(&mut self, csr: &[u8], secret: Option<Hash>) -> (Nonce, Sealed) {
        let nonce = self.nonce();
        let csr = Bounded(csr);
        let sealed = match secret {
            Some(secret) => self.outbox.seal(&enrol::Request {
                nonce,
                secret,
                csr,
                // Nothing is ever sealed to a simulated device.
                encryption_key: Hash(std::array::from_fn(|_| self.chance.u8(..))),
                agent: Bounded(AGENT),
                class: self.profile.class,
                hostname: Bounded(&format!("swarm-{}", self.profile.index)),
            }),
            None => self.outbox.seal(&enrol::Renew { nonce, csr }),
        };
        (nonce, sealed)
    }

    /// The greeting of a new session.
    pub(crate) fn greet(&mut self) -> Sealed {
        let nonce = self.nonce();
        self.greeting = Some(nonce);
        self.next_beat_ms = u64::MAX;
        let held: Vec<_> = self.works.keys().copied().take(256).collect();
        self.outbox.seal(&Hello {
            oldest: VERSIONS.0,
            newest: VERSIONS.1,
            nonce,
            agent: Bounded(AGENT),
            class: self.profile.class,
            resources: self.profile.resources,
            ask: self.profile.ask,
            held: List::new(&held),
            voucher: self.voucher,
            missing_limits: List::default(),
            positions: List::default(),
            exposure_limit: None,
            earned: None,
            system: None,
            metered: None,
            labels: None,
        })
    }

    /// Something that changes nothing at the hub, and that it keeps on disk all the same: which voucher the device holds.
    pub(crate) fn chatter(&mut self) -> Sealed {
        let cumulative = self.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative);
        self.outbox.say(&Held { cumulative })
    }

    /// When something is due next, in the swarm's own time.
    pub(crate) fn next_due_ms(&self) -> u64 {
        let running = self.works.values().filter_map(|work| match work.step {
            Step::Running { until_ms } => Some(until_ms),
            _ => None,
        });
        running.fold(self.next_beat_ms, u64::min)
    }

    /// What is due now.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        let ended: Vec<_> = self
            .works
            .values()
            .filter(|work| matches!(work.step, Step::Running { until_ms } if until_ms <= now_ms))
            .map(|work| work.id)
            .collect();
        for id in ended {
            self.end(&id, now_ms, &mut acts);
        }
        if self.next_beat_ms <= now_ms {
            acts.push(Act::Send(self.beat()));
            let pace = 1.0 - f64::from(self.profile.drift_ppm) / 1e6;
            let millis = std::time::Duration::from_millis(u64::from(self.beat_ms)).mul_f64(pace).as_millis();
            self.next_beat_ms = now_ms + u64::try_from(millis).unwrap_or(u64::MAX / 2).max(200);
        }
        acts
    }

    fn beat(&mut self) -> Sealed {
        let is_silent = self.profile.conduct == Conduct::Tardy;
        let progress: Vec<_> = self
            .works
            .values()
            .filter(|work| !(is_silent && matches!(work.step, Step::Running { .. })))
            .take(256)
            .map(|work| Progress { assignment: work.id, phase: work.phase(), permille: 500 })
            .collect();
        let free = self.free();
        self.outbox.seal(&Beat { assignments: List::new(&progress), free })
    }

    fn free(&self) -> Resources {
        let taken = self.works.values().filter(|work| work.has_room());
        taken.fold(self.profile.resources, |free, work| free.minus(&work.resources))
    }

    /// A task has run to its end.
    fn end(&mut self, id: &AssignmentId, now_ms: u64, acts: &mut Vec<Act>) {
        let maker = Maker { key: &self.key, hub: self.hub, conduct: self.profile.conduct };
        let Some(work) = self.works.get_mut(id) else { return };
        let made = work.make(maker, now_ms);
        acts.push(Act::Tell(Event::Ended));
        if work.commits {
            work.step = Step::Committed;
            acts.push(Act::Send(self.outbox.say(&made.commit)));
            if self.profile.conduct == Conduct::Hasty {
                work.step = Step::Shown;
                acts.extend([Act::Send(self.outbox.say(&made.reveal)), Act::Tell(Event::Shown)]);
            }
            return;
        }
        self.bring(made, acts);
    }

    fn bring(&mut self, made: Made, acts: &mut Vec<Act>) {
        let id = made.reveal.assignment;
        let Some(work) = self.works.get_mut(&id) else { return };
        if self.profile.conduct == Conduct::Withholder {
            work.step = Step::Neglected;
            return;
        }
        work.step = Step::Bringing;
        acts.push(Act::Bring(id, made.pieces));
    }

    /// The content of a result is with the hub, or the hub wants none.
    pub(crate) fn brought(&mut self, id: &AssignmentId, now_ms: u64) -> Vec<Act> {
        let maker = Maker { key: &self.key, hub: self.hub, conduct: self.profile.conduct };
        let Some(work) = self.works.get_mut(id).filter(|work| work.step == Step::Bringing) else {
            return Vec::new();
        };
        let made = work.make(maker, now_ms);
        work.step = Step::Shown;
        self.receipts.insert(*id, (made.receipt, work.price));
        vec![Act::Send(self.outbox.say(&made.reveal)), Act::Tell(Event::Shown)]
    }

    /// What goes again at the start of a session: all that the hub has not confirmed, and content that was on its way.
    fn again(&mut self, now_ms: u64) -> Vec<Act> {
        let mut acts: Vec<_> = self.outbox.waiting().cloned().map(Act::Send).collect();
        let maker = Maker { key: &self.key, hub: self.hub, conduct: self.profile.conduct };
        let on_way = self.works.values().filter(|work| work.step == Step::Bringing);
        acts.extend(on_way.map(|work| Act::Bring(work.id, work.make(maker, now_ms).pieces)));
        acts
    }

    /// What the device takes for the time, milliseconds since 1970; `None` before the hub has told it.
    fn time(&self, now_ms: u64) -> Option<u64> {
        let drift = i128::from(now_ms) * i128::from(self.profile.drift_ppm) / 1_000_000;
        let offset = match self.profile.conduct {
            Conduct::Mistimed => Some(self.started_ms + i128::from(self.profile.skew_ms)),
            _ => self.hub_time,
        };
        offset.and_then(|offset| u64::try_from(i128::from(now_ms) + drift + offset).ok())
    }

    /// A frame has come.
    pub(crate) fn receive(&mut self, payload: &[u8], now_ms: u64) -> Result<Vec<Act>, Deaf> {
        let frame = Frame::decode(payload)?;
        if self.verifies || self.profile.conduct == Conduct::Mistimed {
            envelope::open(&frame, &self.address(), &self.hub, self.time(now_ms))?;
        }
        let mut acts = Vec::new();
        match Kind::from_channel(frame.channel) {
            Some(Kind::Hello) => self.greeted(hello::Down::read(&frame)?, now_ms, &mut acts),
            Some(Kind::Work) => match work::Down::read(&frame)? {
                work::Down::Assign(assign) => self.assigned(&assign, now_ms, &mut acts),
                work::Down::Cancel(cancel) => self.give_up(&cancel.assignment, &mut acts),
                work::Down::Renewed(renewed) => {
                    let lost: Vec<_> = renewed.lost.iter().collect();
                    lost.iter().for_each(|id| self.give_up(id, &mut acts));
                }
            },
            Some(Kind::Result) => match result::Down::read(&frame)? {
                result::Down::Closed(closed) => {
                    let maker = Maker { key: &self.key, hub: self.hub, conduct: self.profile.conduct };
                    let work = self.works.get(&closed.assignment).filter(|work| work.step == Step::Committed);
                    if let Some(made) = work.map(|work| work.make(maker, now_ms)) {
                        self.bring(made, &mut acts);
                    }
                }
                result::Down::Verdict(verdict) => self.judged(&verdict, &mut acts),
                result::Down::Missing(missing) => {
                    let maker = Maker { key: &self.key, hub: self.hub, conduct: self.profile.conduct };
                    let id = missing.assignment;
                    // What was shown in haste has no content.
                    let goes_on = |work: &&Work| {
                        work.step == Step::Shown && !(work.commits && maker.conduct == Conduct::Hasty)
                    };
                    let work = self.works.get(&id).filter(goes_on);
                    if let Some(made) = work.map(|work| work.make(maker, now_ms)) {
                        self.bring(made, &mut acts);
                    }
                }
            },
            Some(Kind::Pay) => {
                let pay::Down::Issue(issue) = pay::Down::read(&frame)?;
                self.paid(&issue, &mut acts);
            }
            Some(Kind::Ack) => {
                let ack::Down::Ack(ack) = ack::Down::read(&frame)?;
                let positions: Vec<_> = ack.positions.iter().collect();
                let taken = positions.iter().map(|position| self.outbox.acknowledged(position)).sum();
                acts.push(Act::Tell(Event::Acknowledged(taken)));
            }
            _ => {}
        }
        Ok(acts)
    }

    fn greeted(&mut self, down: hello::Down<'_>, now_ms: u64, acts: &mut Vec<Act>) {
        match down {
            hello::Down::Welcome(welcome) if Some(welcome.nonce) == self.greeting => {
                self.greeting = None;
                self.hub_time = Some(i128::from(welcome.time_ms) - i128::from(now_ms));
                self.beat_ms = welcome.beat_ms;
                // Not all at once after a hub's restart.
                self.next_beat_ms = now_ms + self.chance.u64(0..=u64::from(welcome.beat_ms));
                let positions: Vec<Position> = welcome.positions.iter().collect();
                let taken = positions.iter().map(|position| self.outbox.acknowledged(position)).sum();
                acts.push(Act::Tell(Event::Acknowledged(taken)));
                for id in welcome.unwanted.iter() {
                    // What was shown has been judged in the meantime; a voucher tells how.
                    if self.works.remove(&id).is_some_and(|work| work.step != Step::Shown) {
                        acts.push(Act::Tell(Event::GivenUp));
                    }
                }
                acts.push(Act::Begin);
                acts.extend(self.again(now_ms));
            }
            hello::Down::Farewell(_) => acts.push(Act::Leave),
            _ => {}
        }
    }

    fn assigned(&mut self, assign: &Assign<'_>, now_ms: u64, acts: &mut Vec<Act>) {
        let assignment = assign.assignment;
        if self.works.contains_key(&assignment) {
            acts.push(Act::Send(self.outbox.say(&Accept { assignment })));
            return;
        }
        acts.push(Act::Tell(Event::Offered));
        let asked = self.profile.ask.price(&assign.resources, assign.timeout_ms);
        let reason = if asked.is_none_or(|asked| assign.price < asked) {
            acts.push(Act::Tell(Event::Breach(Breach::Price)));
            Some(Reason::Price)
        } else if self.profile.conduct == Conduct::Refuser {
            Some(Reason::Draining)
        } else if !self.free().covers(&assign.resources) {
            Some(Reason::NoRoom)
        } else {
            None
        };
        if let Some(reason) = reason {
            let refuse = Refuse { assignment, reason, explanation: Bounded("not now") };
            acts.extend([Act::Send(self.outbox.say(&refuse)), Act::Tell(Event::Refused)]);
            return;
        }
        let salt = std::array::from_fn(|_| self.chance.u8(..));
        // Between half and one and a half of the usual.
        let millis = self.profile.task.mul_f64(0.5 + self.chance.f64()).as_millis();
        let late_ms = if self.profile.conduct == Conduct::Tardy { LATE_MS } else { 0 };
        let until_ms = now_ms + late_ms + u64::try_from(millis).unwrap_or(u64::MAX / 2);
        let mut work = Work::new(assign, now_ms, until_ms, salt);
        if self.profile.conduct == Conduct::Idler {
            work.step = Step::Neglected;
        }
        self.works.insert(assignment, work);
        acts.extend([Act::Send(self.outbox.say(&Accept { assignment })), Act::Tell(Event::Accepted)]);
        if self.profile.conduct == Conduct::Deserter {
            acts.push(Act::Leave);
        }
    }

    fn give_up(&mut self, id: &AssignmentId, acts: &mut Vec<Act>) {
        // What was shown is judged all the same.
        let goes_on = |work: &Work| work.step == Step::Shown || self.profile.conduct == Conduct::Tardy;
        if self.works.get(id).is_some_and(|work| !goes_on(work)) {
            self.works.remove(id);
            acts.push(Act::Tell(Event::GivenUp));
        }
    }

    fn judged(&mut self, verdict: &Verdict<'_>, acts: &mut Vec<Act>) {
        let known = self.works.remove(&verdict.assignment);
        let Some(work) = known else { return };
        acts.push(Act::Tell(Event::Judged(verdict.judgement)));
        let is_paid = verdict.judgement == Judgement::Accepted;
        if is_paid && verdict.owed != work.price {
            acts.push(Act::Tell(Event::Breach(Breach::Owed)));
        }
        if is_paid {
            acts.push(Act::Tell(Event::Owed(verdict.owed)));
        } else {
            self.receipts.remove(&verdict.assignment);
        }
    }

    /// The agent's rules for vouchers, one after the other; by how much the best one is above all receipts then.
    fn judge(
        &self,
        statement: &Statement,
        covers: &[AssignmentId],
        before: Amount,
    ) -> Result<Amount, Breach> {
        let (voucher, domain) = statement.voucher(self.address());
        voucher.verify(&domain, &statement.signature, &self.hub).map_err(|_| Breach::VoucherUnsigned)?;
        let increase = statement.cumulative.checked_sub(before);
        let named: Vec<_> = covers.iter().filter_map(|id| self.receipts.get(id)).collect();
        if increase.is_none() && named.is_empty() && !covers.is_empty() {
            // An earlier one once more.
            return Ok(self.above);
        }
        if named.len() < covers.len() {
            return Err(Breach::VoucherUnknown);
        }
        if receipts_root(named.iter().map(|(digest, _)| *digest)) != statement.receipts {
            return Err(Breach::VoucherRoot);
        }
        let due = named.iter().try_fold(Amount::ZERO, |sum, (_, price)| sum.checked_add(*price));
        match (due, increase) {
            // It was overtaken by a better one, which pays for it.
            (Some(due), None) => self.above.checked_sub(due).ok_or(Breach::VoucherShrinks),
            (Some(due), Some(increase)) => {
                let above = increase.checked_sub(due).ok_or(Breach::VoucherUnderpays)?;
                self.above.checked_add(above).ok_or(Breach::VoucherUnderpays)
            }
            (None, _) => Err(Breach::VoucherUnderpays),
        }
    }

    fn paid(&mut self, issue: &Issue<'_>, acts: &mut Vec<Act>) {
        let statement = issue.statement;
        let before = self.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative);
        let covers: Vec<_> = issue.covers.iter().collect();
        let is_known = self.voucher == Some(statement);
        if self.verifies && !is_known {
            match self.judge(&statement, &covers, before) {
                Ok(above) => self.above = above,
                Err(breach) => acts.push(Act::Tell(Event::Breach(breach))),
            }
        }
        if statement.cumulative > before {
            let more = statement.cumulative.checked_sub(before).unwrap_or(Amount::ZERO);
            acts.push(Act::Tell(Event::Vouched(more)));
            self.voucher = Some(statement);
        }
        self.receipts.retain(|id, _| !covers.contains(id));
        acts.push(Act::Send(self.outbox.say(&Held { cumulative: statement.cumulative })));
    }
}

/// What such a device says that it runs.
const AGENT: &str = concat!("sosna-swarm ", env!("CARGO_PKG_VERSION"));
