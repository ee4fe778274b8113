//! Sessions on the hub's main listener: greeting, outbox, beats, and whatever the hub says; again and again, with
//! growing pauses, for as long as the agent lives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sosna_host::{clock::Clock as _, report, retry::Backoff, tls};
use sosna_protocol::{
    codec::{Bounded, List},
    identity::{AssignmentId, Nonce},
    message::{
        VERSIONS,
        ack::Position,
        beat::Beat,
        enrol::Refusal,
        hello::{Hello, Label, System},
        pay::MAX_PROOF,
    },
    topic::{Kind, Topic},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant as TokioInstant, sleep_until},
};

use super::{
    bootstrap::{Bootstrap, EnrolError},
    inbox::{self, Reaction, Refused, Welcomed},
    link::{Link, LinkError, LinkEvent, Target, split_address},
    sending::Sending,
};
use crate::{
    device,
    node::{Node, Offer},
    stop::raised,
    store::StoreError,
    system::Image,
    task::Engine,
};

/// What the device listens to on the main listener.
const KINDS: [Kind; 5] = [Kind::Hello, Kind::Work, Kind::Result, Kind::Pay, Kind::Ack];
/// After so long without an answer the greeting is said again.
const GREETING: Duration = Duration::from_secs(10);
/// And so often, before the line is doubted.
const GREETINGS: u32 = 3;
/// How often acknowledgements, certificate and clock are looked after.
const CHECK: Duration = Duration::from_secs(5);
/// How often the time is saved.
const SAVE_TIME_MS: u64 = 10 * 60 * 1000;
/// How long the last frames may take when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Hubs that ask for more beats than this are not obeyed.
const FASTEST_BEAT: Duration = Duration::from_millis(200);

/// Why there will be no more sessions.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The store is broken.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hub has turned the device away for good, and signed it.
    #[error(
        "the hub has revoked this device for good ({explanation}): it gives it no work and lets it in no more. \
         Its keys, receipts and vouchers stay where they are; to serve again, enrol as a new device with an \
         empty data folder (--data) and a new token (--join)"
    )]
    Revoked {
        /// What the hub says about it.
        explanation: String,
    },
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("the hub will not speak with this device: {0}")]
    Farewell(String),
    #[error("the hub does not answer this device's greeting; is it running?")]
    NoWelcome,
    #[error("the hub acknowledges nothing; the connection is made anew")]
    NoProgress,
    #[error("the agent stops")]
    Stopped,
    #[error("the certificate was renewed; the connection is made anew")]
    Renewed,
    #[error("the hub has revoked this device: {0}")]
    Revoked(String),
}

/// Holds sessions until `stop` is raised, or the store is broken.
pub(crate) async fn serve(
    engine: Arc<Engine>,
    mut live: mpsc::Receiver<Vec<u8>>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), UplinkError> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut slow = Backoff::new(Duration::from_secs(60), Duration::from_secs(600));
    loop {
        if let Renewal::Revoked(explanation) = renew_if_due(&engine.node, false).await {
            return Err(farewell(&engine, explanation).await?);
        }
        let (began, network) = (Instant::now(), engine.node.system.network());
        let mut session = Session::new(&engine);
        let end = match session.hold(&mut live, &mut stop).await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        engine.node.set_connected(false);
        let end = match end {
            End::Store(error) if error.is_lasting() => return Err(error.into()),
            End::Revoked(explanation) => return Err(farewell(&engine, explanation).await?),
            end => end,
        };
        let wait = match &end {
            End::Stopped => return Ok(()),
            End::Renewed => Duration::from_millis(100),
            End::Farewell(_) => slow.wait(),
            // Neither says why. The hub's answer on the other listener does, and is signed.
            End::Link(
                LinkError::CertificateRefused { is_expired: true, .. }
                | LinkError::Refused { is_barred: true, .. },
            ) => {
                if let Renewal::Revoked(explanation) = renew_if_due(&engine.node, true).await {
                    return Err(farewell(&engine, explanation).await?);
                }
                backoff.wait()
            }
            _ => {
                if session.welcome.is_some() && began.elapsed() > Duration::from_secs(60) {
                    backoff.reset();
                    slow.reset();
                }
                backoff.wait()
            }
        };
        if !matches!(end, End::Renewed) {
            let reason = report::line(&end);
            tracing::warn!(seconds = wait.as_secs_f32(), "no session, trying again: {reason}");
            engine.node.system.trouble(Some(&reason));
        }
        tokio::select! {
            () = engine.node.system.pause(wait, &network) => {}
            () = raised(&mut stop) => return Ok(()),
        }
    }
}

/// Gives up everything that the device had in hand for a hub that has revoked it: others do it now.
async fn farewell(engine: &Arc<Engine>, explanation: String) -> Result<UplinkError, StoreError> {
    for given_up in inbox::give_up_all(&engine.node, &explanation)? {
        // A driver that fell over has left nothing that the next start does not find.
        let _ = engine.end(given_up).await;
    }
    Ok(UplinkError::Revoked { explanation })
}

/// What came of a renewal.
enum Renewal {
    NotDue,
    /// It did not work out; the next try may.
    Failed,
    Done,
    /// The hub has turned the device away for good.
    Revoked(String),
}

/// Renews the certificate after two thirds of its life; `is_refused` where the hub does not let it in.
async fn renew_if_due(node: &Node, is_refused: bool) -> Renewal {
    let old = node.enrolment();
    // An untrusted clock may be years off: it must not send a whole fleet to the bootstrap listener.
    let is_due = node.clock.trusted_ms().is_some_and(|now| now >= old.renew_at_ms());
    if !is_due && !is_refused {
        return Renewal::NotDue;
    }
    let bootstrap = Bootstrap { keys: &node.keys, store: &node.store, clock: &node.clock };
    let renewed = match bootstrap.renew(&old).await {
        Ok(renewed) => renewed.store(&node.data).map(|()| renewed).map_err(EnrolError::from),
        Err(error) => Err(error),
    };
    match renewed {
        Ok(renewed) => {
            tracing::info!(valid_until_ms = renewed.valid_until_ms, "certificate renewed");
            node.set_enrolment(renewed);
            Renewal::Done
        }
        Err(EnrolError::Refused { refusal: Refusal::Revoked, explanation }) => Renewal::Revoked(explanation),
        Err(error) => {
            tracing::warn!("the certificate is not renewed: {}", report::line(&error));
            Renewal::Failed
        }
    }
}

struct Session<'a> {
    engine: &'a Arc<Engine>,
    node: &'a Node,
    greeting: Option<Nonce>,
    greetings: u32,
    greeted_at: Instant,
    welcome: Option<Welcomed>,
    sending: Sending,
    renewal_tried: Option<Instant>,
    had_clock: bool,
    /// What the hub was told of the image and of what is lent.
    told: Option<(Option<Image>, Offer)>,
}

enum Never {}

// === impl Session ===

impl<'a> Session<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        let now = Instant::now();
        Self {
            engine,
            node: &engine.node,
            greeting: None,
            greetings: 0,
            greeted_at: now,
            welcome: None,
            sending: Sending::new(now),
            renewal_tried: None,
            had_clock: engine.node.clock.trusted_ms().is_some(),
            told: None,
        }
    }

    fn target(&self) -> Result<Target, End> {
        let enrolment = self.node.enrolment();
        let (host, port) = split_address(&enrolment.main)?;
        let identity = Some((enrolment.certificate.clone(), &enrolment.key));
        let tls = tls::client(enrolment.pin(), identity, self.node.clock.for_tls())?;
        Ok(Target { host, port, client_id: self.node.device.to_string(), tls: Arc::new(tls) })
    }

    async fn hold(
        &mut self,
        live: &mut mpsc::Receiver<Vec<u8>>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Never, End> {
        let mut link = Link::open(&self.target()?);
        let mut next_check = TokioInstant::now() + CHECK;
        let mut next_beat = TokioInstant::now();
        loop {
            let is_welcome = self.welcome.is_some();
            tokio::select! {
                event = link.next() => self.event(&link, event)?,
                () = self.node.store.queued(), if is_welcome => self.send(&link)?,
                () = self.node.offered(), if is_welcome => self.greet_again(&link)?,
                () = sleep_until(next_beat), if is_welcome => {
                    self.beat(&link)?;
                    next_beat = TokioInstant::now() + self.beat_every();
                }
                Some(frame) = live.recv(), if is_welcome => {
                    // A full queue drops it: the output is on disk.
                    let _ = link.publish(&Topic::up(self.node.device, Kind::Log), frame, false);
                }
                () = sleep_until(next_check) => {
                    next_check = TokioInstant::now() + CHECK;
                    self.check(&link).await?;
                }
                () = raised(stop) => {
                    self.last_words(link).await;
                    return Err(End::Stopped);
                }
            }
        }
    }

    fn beat_every(&self) -> Duration {
        let millis = self.welcome.as_ref().map_or(10_000, |welcome| u64::from(welcome.beat_ms));
        Duration::from_millis(millis).max(FASTEST_BEAT)
    }

    fn event(&mut self, link: &Link, event: LinkEvent) -> Result<(), End> {
        match event {
            // A queue that is full right after the connection stands cannot be; the greeting's time-out would see it.
            LinkEvent::Up => drop(link.subscribe(self.node.device, &KINDS)),
            LinkEvent::Subscribed => self.greet(link)?,
            LinkEvent::Taken => self.send(link)?,
            LinkEvent::Down(error) => return Err(error.into()),
            LinkEvent::Message { topic, payload } => self.receive(link, &topic, &payload)?,
        }
        Ok(())
    }

    fn receive(&mut self, link: &Link, topic: &str, payload: &[u8]) -> Result<(), End> {
        let reaction = match inbox::receive(self.node, topic, payload, self.greeting.as_ref()) {
            Ok(reaction) => reaction,
            Err(Refused::Store(error)) => {
                tracing::error!("a frame cannot be kept: {}", report::line(&error));
                return if error.is_lasting() { Err(error.into()) } else { Ok(()) };
            }
            Err(refused) => {
                let count = self.node.count_refused();
                tracing::warn!(topic, count, "a frame is refused: {}", report::line(&refused));
                return Ok(());
            }
        };
        match reaction {
            Reaction::Nothing => {}
            Reaction::Farewell(explanation) => return Err(End::Farewell(explanation)),
            Reaction::Welcome(welcomed) => self.welcome(link, welcomed)?,
            Reaction::Acknowledged(taken) => {
                let now = Instant::now();
                taken.iter().for_each(|(kind, up_to)| self.sending.acknowledged(*kind, *up_to, now));
                self.send(link)?;
            }
            Reaction::Drive(assignment) => self.engine.start(assignment),
            Reaction::End(over) => over.into_iter().for_each(|assignment| drop(self.engine.end(assignment))),
        }
        Ok(())
    }

    fn greet(&mut self, link: &Link) -> Result<(), End> {
        let node = self.node;
        let nonce = Nonce(sosna_host::random());
        let held: Vec<AssignmentId> = node
            .store
            .open_tasks()?
            .iter()
            .filter(|task| task.is_open())
            .map(|task| task.assignment)
            .take(256)
            .collect();
        let missing: Vec<_> =
            node.missing_limits.iter().take(16).map(|limit| Bounded(report::cut(limit, 200))).collect();
        let positions: Vec<_> = node
            .store
            .taken()?
            .into_iter()
            .take(8)
            .map(|(kind, epoch, contiguous)| Position { kind, epoch, contiguous })
            .collect();
        let image = node.system.image();
        let offer = node.offer();
        let system = image.as_ref().map(|image| System {
            board: Bounded(report::cut(&image.board, 32)),
            slot: Bounded(report::cut(&image.slot, 8)),
            version: Bounded(report::cut(&image.version, 32)),
            boot_image: Bounded(report::cut(&image.boot_image, 128)),
        });
        let labels: Vec<_> = node
            .labels
            .iter()
            .take(16)
            .map(|(name, value)| Label {
                name: Bounded(report::cut(name, 64)),
                value: Bounded(report::cut(value, 128)),
            })
            .collect();
        let earned = node.store.earned_frame()?.filter(|frame| frame.len() <= MAX_PROOF);
        let hello = Hello {
            oldest: VERSIONS.0,
            newest: VERSIONS.1,
            nonce,
            agent: Bounded(device::VERSION),
            class: node.class,
            resources: offer.lent.resources,
            ask: node.ask,
            held: List::new(&held),
            voucher: node.store.voucher()?,
            missing_limits: List::new(&missing),
            positions: List::new(&positions),
            exposure_limit: Some(offer.exposure_limit),
            earned: earned.as_deref().map(Bounded),
            system,
            metered: Some(node.is_metered()),
            labels: Some(List::new(&labels)),
        };
        let frame = node.store.seal_lossy(&node.hub, &hello)?;
        self.greeting = Some(nonce);
        self.told = Some((image, offer));
        self.greetings += 1;
        self.greeted_at = Instant::now();
        // A greeting that cannot be queued is said again.
        let _ = link.publish(&Topic::up(node.device, Kind::Hello), frame, true);
        Ok(())
    }

    /// What the device started from was looked at in the meantime, or it lends something else now.
    fn greet_again(&mut self, link: &Link) -> Result<(), End> {
        let now = (self.node.system.image(), self.node.offer());
        if self.greeting.is_none() && self.told.as_ref() != Some(&now) {
            self.greet(link)?;
        }
        Ok(())
    }

    fn welcome(&mut self, link: &Link, welcomed: Welcomed) -> Result<(), End> {
        self.greeting = None;
        self.greetings = 0;
        if let Some(epoch) = welcomed.new_epoch {
            tracing::warn!(
                epoch,
                "the hub's account of this device is another one than ours; counting begins again"
            );
            self.sending.begin_again();
        } else {
            let now = Instant::now();
            welcomed.positions.iter().for_each(|(kind, up_to)| self.sending.acknowledged(*kind, *up_to, now));
        }
        welcomed.dropped.iter().for_each(|assignment| drop(self.engine.end(*assignment)));
        if !self.had_clock {
            // Dates in certificates can be judged from now on.
            self.node.content.forget();
            self.had_clock = true;
        }
        self.follow(&welcomed);
        tracing::info!(hub = %self.node.hub, beat_ms = welcomed.beat_ms, "welcome");
        self.welcome = Some(welcomed);
        self.node.set_connected(true);
        self.node.system.trouble(None);
        self.send(link)
    }

    /// Keeps the hub's addresses where it has moved.
    fn follow(&self, welcomed: &Welcomed) {
        let old = self.node.enrolment();
        let has_moved = |new: &str, old: &str| !new.is_empty() && new != old;
        if !has_moved(&welcomed.main, &old.main) && !has_moved(&welcomed.content, &old.content) {
            return;
        }
        let choose = |new: &str, old: &str| if new.is_empty() { old.to_owned() } else { new.to_owned() };
        let (main, content) = (choose(&welcomed.main, &old.main), choose(&welcomed.content, &old.content));
        match old.moved(main, content).and_then(|moved| moved.store(&self.node.data).map(|()| moved)) {
            Ok(moved) => self.node.set_enrolment(moved),
            Err(error) => tracing::warn!("the hub's new address is not kept: {}", report::line(&error)),
        }
    }

    /// Hands over what waits in the outbox, as much as may be on its way.
    fn send(&mut self, link: &Link) -> Result<(), End> {
        if self.welcome.is_none() {
            return Ok(());
        }
        for queued in self.sending.next(&self.node.store)? {
            let topic = Topic::up(self.node.device, queued.kind);
            if link.publish(&topic, queued.frame.clone(), true).is_err() {
                // The queue is full: the next event makes room.
                break;
            }
            self.sending.sent(&queued, Instant::now());
        }
        Ok(())
    }

    fn beat(&self, link: &Link) -> Result<(), End> {
        let tasks = self.node.store.open_tasks()?;
        let mut progress = self.engine.progress(&tasks);
        progress.truncate(256);
        let free = if self.node.is_draining() {
            sosna_protocol::resources::Resources::default()
        } else {
            self.node.offer().lent.resources.minus(&Node::taken(&tasks))
        };
        let beat = Beat { assignments: List::new(&progress), free };
        let frame = self.node.store.seal_lossy(&self.node.hub, &beat)?;
        let _ = link.publish(&Topic::up(self.node.device, Kind::Beat), frame, false);
        Ok(())
    }

    async fn check(&mut self, link: &Link) -> Result<(), End> {
        if self.greeting.is_some() && self.greeted_at.elapsed() > GREETING {
            if self.greetings >= GREETINGS {
                return Err(End::NoWelcome);
            }
            self.greet(link)?;
        }
        if self.welcome.is_none() {
            return Ok(());
        }
        self.greet_again(link)?;
        if !self.sending.check(Instant::now()) {
            return Err(End::NoProgress);
        }
        self.send(link)?;
        let now_ms = self.node.clock.now_ms();
        if self.node.store.saved_time()?.is_none_or(|saved| now_ms.saturating_sub(saved) > SAVE_TIME_MS) {
            self.node.store.write(|tx| tx.save_time(now_ms))?;
            self.node.clock.saved(now_ms);
        }
        let may_try = self.renewal_tried.is_none_or(|tried| tried.elapsed() > Duration::from_secs(600));
        if may_try {
            match renew_if_due(self.node, false).await {
                Renewal::Done => return Err(End::Renewed),
                Renewal::Revoked(explanation) => return Err(End::Revoked(explanation)),
                Renewal::Failed => self.renewal_tried = Some(Instant::now()),
                Renewal::NotDue => {}
            }
        }
        Ok(())
    }

    /// Says that the device takes no more work, and waits a moment for what is on its way.
    async fn last_words(&mut self, mut link: Link) {
        if self.welcome.is_some() {
            let _ = self.beat(&link);
            let _ = self.send(&link);
            let flush = async {
                while !self.sending.is_quiet() {
                    let event = link.next().await;
                    if self.event(&link, event).is_err() {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(LAST_WORDS, flush).await;
        }
        link.close().await;
    }
}
