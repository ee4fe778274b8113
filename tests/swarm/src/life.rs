//! One device from its enrolment on: sessions, absences, uploads, until the swarm ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use sosna_host::{report, retry::Backoff, tls::TlsError};
use sosna_protocol::{
    Hash,
    identity::AssignmentId,
    topic::{Kind, Topic},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant as TokioInstant, sleep, sleep_until},
};

use crate::{
    conduct::Conduct,
    content::{self, ContentError},
    device::{Act, Device},
    enrol::{EnrolError, Enrolled, enrol},
    link::{Heard, Link, LinkError, Target},
    outbox::Sealed,
    swarm::Settings,
    tally::{Span, Tally},
};

/// What a device listens to.
const KINDS: [Kind; 5] = [Kind::Hello, Kind::Work, Kind::Result, Kind::Pay, Kind::Ack];
/// How long a hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Half of the keep-alive time.
const PING: Duration = Duration::from_secs(15);
/// Of the frames that it sent, so many a replayer says again.
const REPLAYED: usize = 8;

/// Why an attempt failed, or a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error("the hub does not answer this device's greeting")]
    NoAnswer,
    #[error("the device left")]
    Left,
    #[error("the swarm ends")]
    Over,
}

/// What all devices of a swarm share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) tally: Tally,
    pub(crate) began: Instant,
    /// Enrolments at a time: the bootstrap listener takes few connections.
    pub(crate) enrolling: Semaphore,
    /// Connections that are being made at a time.
    pub(crate) connecting: Semaphore,
    /// Uploads at a time, each with a connection of its own.
    pub(crate) bringing: Semaphore,
}

/// A device and all that surrounds it.
pub(crate) struct Life {
    device: Device,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    last_sent: Vec<Sealed>,
}

// === impl Shared ===

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

// === impl Life ===

impl Life {
    pub(crate) fn new(device: Device, shared: Arc<Shared>, stop: watch::Receiver<bool>) -> Self {
        Self { device, shared, stop, last_sent: Vec::new() }
    }

    /// Lives until the swarm ends.
    pub(crate) async fn live(mut self) {
        let mut stop = self.stop.clone();
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
        let enrolled = loop {
            let tried = tokio::select! {
                tried = self.enrol() => tried,
                () = raised(&mut stop) => return,
            };
            match tried {
                Ok(enrolled) => break enrolled,
                Err(end) => self.shared.tally.failure(report::line(&end)),
            }
            tokio::select! {
                () = sleep(backoff.wait()) => {}
                () = raised(&mut stop) => return,
            }
        };
        self.shared.tally.enrolled();
        backoff.reset();
        loop {
            let mut is_online = false;
            let end = self.session(&enrolled, &mut is_online).await;
            if is_online {
                self.shared.tally.online(false);
                backoff.reset();
            }
            let wait = match end {
                End::Over => return,
                End::Left => self.absence(),
                end => {
                    self.shared.tally.failure(report::line(&end));
                    backoff.wait()
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = raised(&mut stop) => return,
            }
        }
    }

    fn stay(&mut self) -> Option<Duration> {
        let mean = self.shared.settings.population.stay;
        (mean > Duration::ZERO).then(|| exponential(mean, self.device.chance()))
    }

    fn absence(&mut self) -> Duration {
        exponential(self.shared.settings.population.away, self.device.chance())
    }

    async fn enrol(&mut self) -> Result<Enrolled, End> {
        let shared = Arc::clone(&self.shared);
        let _place = shared.enrolling.acquire().await.map_err(|_| End::Over)?;
        let began = Instant::now();
        let tokens = &shared.settings.tokens;
        let token = &tokens[self.device.profile.index % tokens.len()];
        let enrolled = enrol(&mut self.device, token).await?;
        shared.tally.took(Span::Enrol, began.elapsed());
        Ok(enrolled)
    }

    /// One session, to its end.
    async fn session(&mut self, enrolled: &Enrolled, is_online: &mut bool) -> End {
        match self.try_session(enrolled, is_online).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_session(&mut self, enrolled: &Enrolled, is_online: &mut bool) -> Result<Never, End> {
        let shared = Arc::clone(&self.shared);
        let mut stop = self.stop.clone();
        let mut link = {
            let _place = tokio::select! {
                place = shared.connecting.acquire() => place.map_err(|_| End::Over)?,
                () = raised(&mut stop) => return Err(End::Over),
            };
            let began = Instant::now();
            let target = Target {
                place: &enrolled.main,
                client_id: self.device.address().to_string(),
                tls: Arc::new(enrolled.tls()?),
                index: self.device.profile.index,
            };
            let link = tokio::select! {
                link = Link::open(target) => link?,
                () = raised(&mut stop) => return Err(End::Over),
            };
            shared.tally.took(Span::Connect, began.elapsed());
            link
        };
        shared.tally.session();
        link.subscribe(self.device.address(), &KINDS).await?;
        let greeted = Instant::now();
        let greeting = self.device.greet();
        let mut session = Session { link, sent: VecDeque::new(), uploads: JoinSet::new(), enrolled };
        self.send(&mut session, greeting).await?;
        if self.device.profile.conduct == Conduct::Replayer {
            for old in std::mem::take(&mut self.last_sent) {
                session.publish(&self.device, old).await?;
            }
        }
        let leaves = self.stay().map(|stay| TokioInstant::now() + stay);
        let mut next_ping = TokioInstant::now() + PING;
        let greeted_by = TokioInstant::now() + PATIENCE;
        loop {
            let due_ms = self.device.next_due_ms();
            let due = TokioInstant::from_std(shared.began + Duration::from_millis(due_ms.min(FAR_MS)));
            tokio::select! {
                packet = session.link.packet() => {
                    let heard = session.link.heard(packet?).await?;
                    match heard {
                        Some(Heard::Frame(payload)) => {
                            match self.device.receive(&payload, shared.now_ms()) {
                                Ok(acts) => {
                                    let begins = acts.iter().any(|act| matches!(act, Act::Begin));
                                    if begins && !*is_online {
                                        shared.tally.took(Span::Greet, greeted.elapsed());
                                        shared.tally.online(true);
                                        *is_online = true;
                                        for _ in 0..shared.settings.chatter {
                                            let chatter = self.device.chatter();
                                            session.publish(&self.device, chatter).await?;
                                        }
                                    }
                                    self.perform(&mut session, acts).await?;
                                }
                                Err(deaf) => shared.tally.deaf(report::line(&deaf)),
                            }
                        }
                        Some(Heard::Taken) => {
                            session.taken(&shared.tally);
                            if *is_online && shared.settings.chatter > 0 {
                                let chatter = self.device.chatter();
                                session.publish(&self.device, chatter).await?;
                            }
                        }
                        None => {}
                    }
                }
                () = sleep_until(due), if due_ms < FAR_MS => {
                    let acts = self.device.tick(shared.now_ms());
                    self.perform(&mut session, acts).await?;
                }
                Some(brought) = session.uploads.join_next() => {
                    if let Ok(Some(id)) = brought {
                        let acts = self.device.brought(&id, shared.now_ms());
                        self.perform(&mut session, acts).await?;
                    }
                }
                () = sleep_until(next_ping) => {
                    session.link.ping().await?;
                    next_ping = TokioInstant::now() + PING;
                }
                () = sleep_until(leaves.unwrap_or_else(TokioInstant::now)), if leaves.is_some() => {
                    return self.leave(session.link).await;
                }
                () = raised(&mut stop) => {
                    session.link.close().await;
                    return Err(End::Over);
                }
                () = sleep_until(greeted_by), if !*is_online => return Err(End::NoAnswer),
            }
        }
    }

    /// Half of those that leave say farewell; the others are gone as if a cable were pulled.
    async fn leave(&mut self, link: Link) -> Result<Never, End> {
        if self.device.chance().bool() {
            link.close().await;
        }
        Err(End::Left)
    }

    async fn perform(&mut self, session: &mut Session<'_>, acts: Vec<Act>) -> Result<(), End> {
        for act in acts {
            match act {
                Act::Send(sealed) => self.send(session, sealed).await?,
                Act::Bring(id, pieces) => session.bring(&self.shared, id, pieces)?,
                Act::Tell(event) => self.shared.tally.event(self.device.profile.conduct, event),
                Act::Begin => {}
                Act::Leave => return Err(End::Left),
            }
        }
        Ok(())
    }

    async fn send(&mut self, session: &mut Session<'_>, sealed: Sealed) -> Result<(), End> {
        if self.device.profile.conduct == Conduct::Replayer {
            session.publish(&self.device, sealed.clone()).await?;
            self.last_sent.push(sealed.clone());
            let excess = self.last_sent.len().saturating_sub(REPLAYED);
            self.last_sent.drain(..excess);
        }
        session.publish(&self.device, sealed).await
    }
}

/// A session's own things.
struct Session<'a> {
    link: Link,
    /// When what the broker has not acknowledged was sent, oldest first: it acknowledges in order.
    sent: VecDeque<Instant>,
    uploads: JoinSet<Option<AssignmentId>>,
    enrolled: &'a Enrolled,
}

enum Never {}

// === impl Session ===

impl Session<'_> {
    async fn publish(&mut self, device: &Device, sealed: Sealed) -> Result<(), End> {
        let is_reliable = !matches!(sealed.kind, Kind::Beat | Kind::Log);
        if is_reliable {
            self.sent.push_back(Instant::now());
        }
        Ok(self.link.publish(&Topic::up(device.address(), sealed.kind), sealed.frame, is_reliable).await?)
    }

    fn taken(&mut self, tally: &Tally) {
        if let Some(sent) = self.sent.pop_front() {
            tally.took(Span::Publish, sent.elapsed());
        }
    }

    fn bring(&mut self, shared: &Arc<Shared>, id: AssignmentId, pieces: Vec<Vec<u8>>) -> Result<(), End> {
        let (shared, base, tls) = (Arc::clone(shared), self.enrolled.content.clone(), self.enrolled.tls()?);
        self.uploads.spawn(async move {
            let _place = shared.bringing.acquire().await.ok()?;
            match bring_all(tls, &base, &id, &pieces).await {
                Ok(()) => Some(id),
                Err(error) => {
                    shared.tally.failure(report::line(&error));
                    None
                }
            }
        });
        Ok(())
    }
}

async fn bring_all(
    tls: rustls::ClientConfig,
    base: &str,
    id: &AssignmentId,
    pieces: &[Vec<u8>],
) -> Result<(), ContentError> {
    let client = content::client(tls)?;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
    // Identical pieces, an empty log for one, go once.
    let names: HashMap<Hash, &Vec<u8>> =
        pieces.iter().map(|piece| (sosna_protocol::hash::sha256(piece), piece)).collect();
    for piece in names.values() {
        loop {
            match content::bring(&client, base, id, piece).await {
                Ok(true) => break,
                // The hub has decided without it.
                Ok(false) => return Ok(()),
                Err(error) if error.is_passing() => sleep(backoff.wait()).await,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Nothing is waited for longer than this: timers have an end.
const FAR_MS: u64 = 365 * 86_400_000;

fn exponential(mean: Duration, chance: &mut fastrand::Rng) -> Duration {
    // 1 - f64() is above zero, and the logarithm finite.
    mean.mul_f64((-(1.0 - chance.f64()).ln()).min(20.0))
}

pub(crate) async fn raised(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
