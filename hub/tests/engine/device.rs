//! A device as its hub sees it: signed frames in, signed frames out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sosna_broker::{Handler as _, NotTaken, Peer};
use sosna_host::{
    identity::IdentityKey,
    manifest::{Blob, Manifest},
    seal,
    tls::TlsKey,
};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    codec::{Bounded, List},
    eip712::{Domain, Receipt, Typed as _, receipts_root},
    envelope::{self, EnvelopeError, Meta},
    frame::Frame,
    identity::{AssignmentId, Nonce, Sign as _, TaskId},
    message::{
        Message, VERSIONS,
        ack::{self, Position},
        beat::{Beat, Phase, Progress},
        enrol::{self, Refusal, Request},
        hello::{self, Hello},
        pay::{self, Held, Present, Presented, Statement},
        result::{self, Commit, Failed, Judgement, Reveal},
        work::{self, Accept, Reason, Refuse},
    },
    resources::{Arch, Ask, Class, Resources},
    result::{Cause, Usage, commitment},
    topic::Kind,
};
use sosna_store::{Holder, StoreError};

use crate::world::{SOON, World};

/// What a hub told, owned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Granted,
    Denied(Refusal),
    Welcome { positions: Vec<Position>, unwanted: Vec<AssignmentId> },
    Farewell(String),
    Assign(Offer),
    Cancel(AssignmentId),
    Renewed { leases: Vec<AssignmentId>, lost: Vec<AssignmentId> },
    Closed(AssignmentId),
    Verdict(AssignmentId, Judgement, Amount),
    Missing(AssignmentId),
    Issue(Statement, Vec<AssignmentId>),
    Ack(Vec<Position>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Offer {
    pub(crate) id: AssignmentId,
    pub(crate) task: TaskId,
    pub(crate) image: Hash,
    pub(crate) price: Amount,
    pub(crate) commits: bool,
}

pub(crate) struct Device {
    pub(crate) key: IdentityKey,
    pub(crate) owner: Address,
    pub(crate) ask: Ask,
    pub(crate) class: Class,
    pub(crate) epoch: u32,
    pub(crate) held: Vec<AssignmentId>,
    pub(crate) voucher: Option<Statement>,
    /// What it is willing to be owed.
    pub(crate) limit: Option<Amount>,
    /// The verdict that it greets with.
    pub(crate) earned: Option<Vec<u8>>,
    tls: TlsKey,
    counters: HashMap<u64, u64>,
    /// How much of what the broker was given has been read.
    read: usize,
    receipts: HashMap<AssignmentId, Hash>,
    signed: HashMap<AssignmentId, (Receipt, Signature)>,
}

impl Device {
    pub(crate) fn new(owner: Address) -> Self {
        Self {
            key: IdentityKey::generate(),
            owner,
            ask: Ask { minimum: "0.01".parse().unwrap(), ..Ask::default() },
            class: Class { arch: Arch::X86_64, level: 3 },
            epoch: 0,
            held: Vec::new(),
            voucher: None,
            limit: None,
            earned: None,
            tls: TlsKey::generate().unwrap(),
            counters: HashMap::new(),
            read: 0,
            receipts: HashMap::new(),
            signed: HashMap::new(),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    fn next(&mut self, kind: Kind) -> u64 {
        let counter = self.counters.entry(kind.channel()).or_default();
        *counter += 1;
        *counter
    }

    /// A sealed frame under the next counter.
    pub(crate) fn seal<M: Message>(&mut self, world: &World, message: &M) -> Vec<u8> {
        let counter = self.next(M::KIND);
        self.seal_as(world.hub.address(), counter, message)
    }

    pub(crate) fn seal_as<M: Message>(&self, audience: Address, counter: u64, message: &M) -> Vec<u8> {
        let meta = Meta { sender: self.address(), audience, epoch: self.epoch, counter, expires_ms: 0 };
        seal::one(&self.key, meta, seal::body(message).unwrap()).unwrap()
    }

    /// Gives a frame to the hub as the broker would.
    pub(crate) async fn give(&self, world: &World, kind: Kind, frame: &[u8]) -> Result<(), NotTaken> {
        let peer =
            if kind == Kind::Enrol { Peer::Bootstrap(self.address()) } else { Peer::Device(self.address()) };
        world.intake.message(peer, kind, frame).await
    }

    /// Says something, and returns the frame.
    pub(crate) async fn say<M: Message>(&mut self, world: &World, message: &M) -> Vec<u8> {
        let frame = self.seal(world, message);
        self.give(world, M::KIND, &frame).await.unwrap();
        frame
    }

    /// The next thing that the hub tells and that is of interest; what comes before is passed over.
    pub(crate) async fn told<T>(&mut self, world: &World, wanted: impl Fn(&Told) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            if let Some(found) = self.told_already(world, &wanted) {
                return found;
            }
            assert!(Instant::now() < until, "the hub does not say it");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn told_already<T>(
        &mut self,
        world: &World,
        wanted: impl Fn(&Told) -> Option<T>,
    ) -> Option<T> {
        let sent = world.broker.sent.lock().unwrap();
        // A hub that was started again has a new broker.
        self.read = self.read.min(sent.len());
        while let Some((to, payload)) = sent.get(self.read) {
            self.read += 1;
            if *to == self.address()
                && let Some(told) = read(world, &self.address(), payload)
                && let Some(found) = wanted(&told)
            {
                return Some(found);
            }
        }
        None
    }

    /// Everything said so far is of no interest.
    pub(crate) fn forget(&mut self, world: &World) {
        self.read = world.broker.sent.lock().unwrap().len();
    }

    pub(crate) fn begin_anew(&mut self) {
        self.read = 0;
    }

    // --- What devices say.

    pub(crate) async fn enrol(&mut self, world: &World, secret: Hash) {
        assert_eq!(self.ask_to_enrol(world, secret).await, Told::Granted);
    }

    pub(crate) async fn ask_to_enrol(&mut self, world: &World, secret: Hash) -> Told {
        let csr = self.tls.request(&self.address().to_string()).unwrap();
        self.ask_to_enrol_with(world, secret, &csr).await
    }

    pub(crate) async fn ask_to_enrol_with(&mut self, world: &World, secret: Hash, csr: &[u8]) -> Told {
        let request = Request {
            nonce: Nonce(sosna_host::random()),
            secret,
            csr: Bounded(csr),
            encryption_key: Hash([4; 32]),
            agent: Bounded("test"),
            class: self.class,
            hostname: Bounded("pi"),
        };
        self.say(world, &request).await;
        self.told(world, |told| matches!(told, Told::Granted | Told::Denied(_)).then(|| told.clone())).await
    }

    pub(crate) async fn renew(&mut self, world: &World) -> Told {
        let csr = self.tls.request(&self.address().to_string()).unwrap();
        self.say(world, &enrol::Renew { nonce: Nonce(sosna_host::random()), csr: Bounded(&csr) }).await;
        self.told(world, |told| matches!(told, Told::Granted | Told::Denied(_)).then(|| told.clone())).await
    }

    /// Greets, and returns what is unwanted and where the hub stands.
    pub(crate) async fn hello(&mut self, world: &World) -> (Vec<AssignmentId>, Vec<Position>) {
        self.greet(world, VERSIONS).await;
        self.told(world, |told| match told {
            Told::Welcome { positions, unwanted } => Some((unwanted.clone(), positions.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn greet(&mut self, world: &World, (oldest, newest): (u16, u16)) {
        let (held, earned) = (self.held.clone(), self.earned.clone());
        let hello = Hello {
            oldest,
            newest,
            nonce: Nonce(sosna_host::random()),
            agent: Bounded("test"),
            class: self.class,
            resources: Resources {
                cpu_millis: 4000,
                memory: 4 << 30,
                disk: 8 << 30,
                inodes: 1 << 20,
                pids: 4096,
            },
            ask: self.ask,
            held: List::new(&held),
            voucher: self.voucher,
            missing_limits: List::default(),
            positions: List::default(),
            exposure_limit: self.limit,
            earned: earned.as_deref().map(Bounded),
            system: None,
            metered: None,
            labels: None,
        };
        self.say(world, &hello).await;
    }

    /// The next offer.
    pub(crate) async fn offer(&mut self, world: &World) -> Offer {
        let offer = self.told(world, offered).await;
        self.held.push(offer.id);
        offer
    }

    pub(crate) fn offer_already(&mut self, world: &World) -> Option<Offer> {
        let offer = self.told_already(world, offered)?;
        self.held.push(offer.id);
        Some(offer)
    }

    pub(crate) async fn accept(&mut self, world: &World, offer: &Offer) {
        self.say(world, &Accept { assignment: offer.id }).await;
    }

    /// Takes the next offer and accepts it.
    pub(crate) async fn take(&mut self, world: &World) -> Offer {
        let offer = self.offer(world).await;
        self.accept(world, &offer).await;
        offer
    }

    pub(crate) async fn refuse(&mut self, world: &World, offer: &Offer, reason: Reason) {
        self.held.retain(|held| *held != offer.id);
        self.say(world, &Refuse { assignment: offer.id, reason, explanation: Bounded("no") }).await;
    }

    pub(crate) async fn fail(&mut self, world: &World, offer: &Offer) {
        self.fail_by(world, offer, Cause::DeviceFailed).await;
    }

    pub(crate) async fn fail_by(&mut self, world: &World, offer: &Offer, cause: Cause) {
        self.held.retain(|held| *held != offer.id);
        self.say(world, &Failed { assignment: offer.id, cause, explanation: Bounded("broken") }).await;
    }

    pub(crate) async fn beat(&mut self, world: &World, held: &[AssignmentId]) {
        self.beat_in(world, held, Phase::Running).await;
    }

    pub(crate) async fn beat_in(&mut self, world: &World, held: &[AssignmentId], phase: Phase) {
        let progress: Vec<_> =
            held.iter().map(|id| Progress { assignment: *id, phase, permille: 500 }).collect();
        self.say(world, &Beat { assignments: List::new(&progress), free: Resources::default() }).await;
    }

    /// The result that a task wrote to its standard output, uploaded.
    pub(crate) async fn outcome(&mut self, world: &World, offer: &Offer, said: &str) -> Reveal {
        let (reveal, sent) = self.outcome_unsent(world, offer, said);
        self.bring(world, offer, &sent).await;
        reveal
    }

    /// Brings content for an assignment; the hub has its bytes already.
    pub(crate) async fn bring(&self, world: &World, offer: &Offer, content: &[(Hash, usize)]) {
        let (holder, now, content) = (Holder::Assignment(offer.id), world.hub.now_ms(), content.to_vec());
        let held = world.hub.store.write(move |tx| {
            Box::pin(async move {
                for (name, length) in content {
                    tx.hold_content(&holder, &name, length as u64, now).await?;
                }
                Ok::<_, StoreError>(())
            })
        });
        held.await.unwrap();
    }

    /// The same, where the hub has its content from somebody else; and that content.
    pub(crate) fn outcome_unsent(
        &mut self,
        world: &World,
        offer: &Offer,
        said: &str,
    ) -> (Reveal, [(Hash, usize); 3]) {
        let stdout = world.hub.content.put(said.as_bytes()).unwrap();
        let stderr = world.hub.content.put(b"").unwrap();
        let manifest = Manifest {
            version: 1,
            cause: Cause::Exited.word().to_owned(),
            exit_code: 0,
            stdout: Blob::new(&stdout, said.len() as u64),
            stderr: Blob::new(&stderr, 0),
            outputs: Vec::new(),
            left_out: Vec::new(),
        };
        let root = manifest.root(true).unwrap();
        let json = manifest.to_json();
        let name = world.hub.content.put(&json).unwrap();
        let sent = [(stdout, said.len()), (stderr, 0), (name, json.len())];
        let usage = Usage { cpu_ns: 1, peak_memory: 2, wall_ms: 3 };
        let receipt = Receipt {
            hub: world.hub.address(),
            device: self.address(),
            assignment: offer.id,
            task: offer.task,
            image: offer.image,
            result: root,
            usage,
            price: offer.price,
        };
        let domain = Domain::off_chain(world.hub.address());
        self.receipts.insert(offer.id, receipt.digest(&domain));
        let reveal = Reveal {
            assignment: offer.id,
            cause: Cause::Exited,
            exit_code: 0,
            root,
            salt: Hash([7; 32]),
            manifest: name,
            manifest_length: json.len() as u64,
            usage,
            receipt: {
                let signature = receipt.sign(&domain, &self.key).unwrap();
                self.signed.insert(offer.id, (receipt, signature));
                signature
            },
        };
        (reveal, sent)
    }

    /// The hub's frame with its verdict, as the device keeps it.
    pub(crate) fn verdict_frame(&self, world: &World, id: AssignmentId) -> Vec<u8> {
        let sent = world.broker.sent.lock().unwrap();
        let is_it = |to: &Address, payload: &[u8]| {
            let frame = Frame::decode(payload).unwrap();
            let down = result::Down::read(&frame);
            *to == self.address()
                && matches!(down, Ok(result::Down::Verdict(about)) if about.assignment == id)
        };
        let found = sent.iter().find(|(to, payload)| is_it(to, payload));
        found.expect("the hub has judged").1.clone()
    }

    /// Signs receipts over work that nobody gave it.
    pub(crate) fn sign_receipts(&mut self, world: &World, count: usize) -> Vec<AssignmentId> {
        let domain = Domain::off_chain(world.hub.address());
        let mut made = Vec::new();
        for _ in 0..count {
            let receipt = Receipt {
                hub: world.hub.address(),
                device: self.address(),
                assignment: AssignmentId(sosna_host::random()),
                task: TaskId(sosna_host::random()),
                image: Hash(sosna_host::random()),
                result: Hash(sosna_host::random()),
                usage: Usage::default(),
                price: self.ask.minimum,
            };
            let signature = receipt.sign(&domain, &self.key).unwrap();
            self.signed.insert(receipt.assignment, (receipt, signature));
            made.push(receipt.assignment);
        }
        made
    }

    /// Shows receipts, each with the verdict that is given.
    pub(crate) async fn present(&mut self, world: &World, receipts: &[(AssignmentId, Option<Vec<u8>>)]) {
        let shown: Vec<_> = receipts
            .iter()
            .map(|(id, verdict)| {
                let (receipt, signature) = &self.signed[id];
                Presented {
                    assignment: *id,
                    task: receipt.task,
                    image: receipt.image,
                    result: receipt.result,
                    usage: receipt.usage,
                    price: receipt.price,
                    signature: *signature,
                    verdict: verdict.as_deref().map(Bounded),
                }
            })
            .collect();
        self.say(world, &Present { receipts: List::new(&shown) }).await;
    }

    pub(crate) fn commitment(&self, world: &World, reveal: &Reveal) -> Commit {
        let (hub, id) = (world.hub.address(), reveal.assignment);
        Commit {
            assignment: id,
            commitment: commitment(&hub, &id, &self.address(), &reveal.root, &reveal.salt),
        }
    }

    pub(crate) async fn commit(&mut self, world: &World, offer: &Offer, said: &str) -> Reveal {
        let reveal = self.outcome(world, offer, said).await;
        let commit = self.commitment(world, &reveal);
        self.say(world, &commit).await;
        reveal
    }

    pub(crate) async fn reveal(&mut self, world: &World, reveal: &Reveal) {
        self.say(world, reveal).await;
    }

    /// Waits for the commitments' end, then shows.
    pub(crate) async fn reveal_when_closed(&mut self, world: &World, reveal: &Reveal) {
        let id = reveal.assignment;
        self.told(world, |told| (*told == Told::Closed(id)).then_some(())).await;
        self.reveal(world, reveal).await;
    }

    /// Waits until the hub says that content of this assignment's result is not there.
    pub(crate) async fn asked_again(&mut self, world: &World, offer: &Offer) {
        self.told(world, |told| (*told == Told::Missing(offer.id)).then_some(())).await;
    }

    pub(crate) async fn verdict(&mut self, world: &World, offer: &Offer) -> (Judgement, Amount) {
        let verdict = self
            .told(world, |told| match told {
                Told::Verdict(id, judgement, owed) if *id == offer.id => Some((*judgement, *owed)),
                _ => None,
            })
            .await;
        self.held.retain(|held| *held != offer.id);
        verdict
    }

    /// The next voucher, checked against the receipts that it covers, and acknowledged.
    pub(crate) async fn voucher(&mut self, world: &World) -> Statement {
        let (statement, covers) = self
            .told(world, |told| match told {
                Told::Issue(statement, covers) => Some((*statement, covers.clone())),
                _ => None,
            })
            .await;
        let (voucher, domain) = statement.voucher(self.address());
        voucher.verify(&domain, &statement.signature, &world.hub.address()).unwrap();
        assert_eq!(statement.receipts, receipts_root(covers.iter().map(|id| self.receipts[id])));
        assert!(!covers.is_empty());
        self.voucher = Some(statement);
        self.say(world, &Held { cumulative: statement.cumulative }).await;
        statement
    }
}

fn offered(told: &Told) -> Option<Offer> {
    match told {
        Told::Assign(offer) => Some(*offer),
        _ => None,
    }
}

/// What a frame says; nothing where it has expired, as devices take it.
fn read(world: &World, device: &Address, payload: &[u8]) -> Option<Told> {
    let frame = Frame::decode(payload).unwrap();
    match envelope::open(&frame, device, &world.hub.address(), Some(world.hub.now_ms())) {
        Err(EnvelopeError::Expired) => return None,
        opened => drop(opened.unwrap()),
    }
    Some(match Kind::from_channel(frame.channel).unwrap() {
        Kind::Enrol => match enrol::Down::read(&frame).unwrap() {
            enrol::Down::Granted(_) => Told::Granted,
            enrol::Down::Refused(refused) => Told::Denied(refused.refusal),
        },
        Kind::Hello => match hello::Down::read(&frame).unwrap() {
            hello::Down::Welcome(welcome) => Told::Welcome {
                positions: welcome.positions.iter().collect(),
                unwanted: welcome.unwanted.iter().collect(),
            },
            hello::Down::Farewell(farewell) => Told::Farewell(farewell.explanation.0.to_owned()),
        },
        Kind::Work => match work::Down::read(&frame).unwrap() {
            work::Down::Assign(assign) => Told::Assign(Offer {
                id: assign.assignment,
                task: assign.task,
                image: assign.image,
                price: assign.price,
                commits: assign.commits,
            }),
            work::Down::Cancel(cancel) => Told::Cancel(cancel.assignment),
            work::Down::Renewed(renewed) => Told::Renewed {
                leases: renewed.leases.iter().map(|lease| lease.assignment).collect(),
                lost: renewed.lost.iter().collect(),
            },
        },
        Kind::Result => match result::Down::read(&frame).unwrap() {
            result::Down::Closed(closed) => Told::Closed(closed.assignment),
            result::Down::Verdict(verdict) => {
                Told::Verdict(verdict.assignment, verdict.judgement, verdict.owed)
            }
            result::Down::Missing(missing) => Told::Missing(missing.assignment),
        },
        Kind::Pay => {
            let pay::Down::Issue(issue) = pay::Down::read(&frame).unwrap();
            Told::Issue(issue.statement, issue.covers.iter().collect())
        }
        Kind::Ack => {
            let ack::Down::Ack(ack) = ack::Down::read(&frame).unwrap();
            Told::Ack(ack.positions.iter().collect())
        }
        kind => panic!("a hub does not say {kind:?}"),
    })
}

/// The next so many offers, with who among the devices got each.
pub(crate) async fn offers(world: &World, devices: &mut [Device], count: usize) -> Vec<(usize, Offer)> {
    let until = Instant::now() + SOON;
    let mut found = Vec::new();
    while found.len() < count {
        for (place, device) in devices.iter_mut().enumerate() {
            found.extend(device.offer_already(world).map(|offer| (place, offer)));
        }
        assert!(Instant::now() < until, "{} offers instead of {count}", found.len());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(found.len(), count, "more offers than wanted");
    found
}
