#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use sosna_host::{clock::SystemClock, identity::IdentityKey, tls::TlsKey};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    codec::{Bounded, List},
    eip712::{Domain, Receipt, Typed as _, Voucher, receipts_root},
    envelope::Meta,
    frame::Frame,
    identity::Sign as _,
    message::{
        Message,
        ack::{Ack, Position},
        hello::Welcome,
        pay::{Issue, Statement},
        result::{Closed, Missing, Verdict},
        work::{Cancel, Lease, Renewed, Up},
    },
    result::Usage,
};

use super::*;
use crate::{
    clock::{DeviceClock, NOT_BEFORE_MS},
    config::AgentConfig,
    identity::{Enrolment, Keys},
    node::Offer,
    store::{Store, record::ResultRecord},
    task::decide::tests::sample,
    wallet::reader::Reader,
};

struct Bench {
    _dir: tempfile::TempDir,
    hub: IdentityKey,
    node: Node,
    counter: std::cell::Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = IdentityKey::generate();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let store = Arc::new(Store::open(dir.path(), keys.identity.clone()).unwrap());
        let enrolment = Enrolment {
            hub: hub.address(),
            owner: Address([2; 20]),
            bootstrap_host: "localhost".into(),
            bootstrap_port: 1,
            main: "localhost:2".into(),
            content: "https://localhost:3".into(),
            certificate: CertificateDer::from(vec![1]),
            authorities: vec![],
            key: TlsKey::generate().unwrap(),
            issued_ms: 0,
            valid_until_ms: 1,
        };
        let config = AgentConfig {
            data: dir.path().into(),
            exposure: crate::config::ExposureConfig { limit: "100".into(), start: "100".into() },
            ..AgentConfig::default()
        };
        let clock = DeviceClock::new(SystemClock::default(), None, None);
        let offer = Offer::now(&config, &[]).unwrap();
        let reader = Reader::new(&config.chain).unwrap();
        let node =
            Node::new(&config, keys, store, clock, enrolment, (offer, reader), Default::default()).unwrap();
        Self { _dir: dir, hub, node, counter: std::cell::Cell::new(0) }
    }

    fn seal_as<M: Message>(&self, signer: &IdentityKey, audience: Address, message: &M) -> Vec<u8> {
        self.sealed(signer, audience, 1, message)
    }

    /// As a hub whose store was restored so often.
    fn seal_in<M: Message>(&self, epoch: u32, message: &M) -> Vec<u8> {
        self.sealed(&self.hub, self.node.device, epoch, message)
    }

    fn sealed<M: Message>(
        &self,
        signer: &IdentityKey,
        audience: Address,
        epoch: u32,
        message: &M,
    ) -> Vec<u8> {
        self.counter.set(self.counter.get() + 1);
        let meta = Meta {
            sender: signer.address(),
            audience,
            epoch,
            counter: self.counter.get(),
            expires_ms: NOT_BEFORE_MS + 365 * 24 * 3_600_000,
        };
        sosna_host::seal::one(signer, meta, sosna_host::seal::body(message).unwrap()).unwrap()
    }

    fn seal<M: Message>(&self, message: &M) -> Vec<u8> {
        self.seal_as(&self.hub, self.node.device, message)
    }

    fn take(&self, kind: Kind, frame: &[u8]) -> Result<Reaction, Refused> {
        receive(&self.node, &Topic::down(self.node.device, kind).text(), frame, None)
    }

    fn say<M: Message>(&self, message: &M) -> Result<Reaction, Refused> {
        self.take(M::KIND, &self.seal(message))
    }

    /// The answers of a kind, by their names.
    fn answers(&self, kind: Kind) -> Vec<String> {
        let queued = self.node.store.outbox(kind, 0, 100).unwrap();
        let name = |frame: &Frame<'_>| match kind {
            Kind::Work => match Up::read(frame).unwrap() {
                Up::Accept(_) => "accept".to_owned(),
                Up::Refuse(refuse) => format!("refuse {}", refuse.reason.word()),
            },
            Kind::Result => match result::Up::read(frame).unwrap() {
                result::Up::Commit(_) => "commit".to_owned(),
                result::Up::Reveal(_) => "reveal".to_owned(),
                result::Up::Failed(failed) => format!("failed {}", failed.cause.word()),
            },
            _ => match pay::Up::read(frame).unwrap() {
                pay::Up::Held(held) => format!("held {}", held.cumulative),
                pay::Up::Present(present) => format!("present {}", present.receipts.len()),
            },
        };
        queued.iter().map(|queued| name(&Frame::decode(&queued.frame).unwrap())).collect()
    }

    fn assign(&self) -> Assign<'static> {
        Assign { wallet: self.hub.address(), ..sample() }
    }

    /// As the driver does when a result was brought and shown, and the hub has taken that.
    fn shown(&self) {
        let mut task = self.node.store.task(&sample().assignment).unwrap().unwrap();
        task.state = State::Revealed;
        self.node.store.write(|tx| tx.put_task(&task)).unwrap();
    }

    /// The hub's answer to a greeting.
    fn welcome(&self, epoch: u32) -> Reaction {
        let nonce = Nonce([3; 16]);
        let welcome = Welcome {
            nonce,
            version: 1,
            time_ms: NOT_BEFORE_MS,
            beat_ms: 1000,
            lease_ms: 2000,
            positions: List::default(),
            unwanted: List::default(),
            main: Bounded(""),
            content: Bounded(""),
        };
        let frame = self.seal_in(epoch, &welcome);
        let topic = Topic::down(self.node.device, Kind::Hello).text();
        receive(&self.node, &topic, &frame, Some(&nonce)).unwrap()
    }

    fn state(&self) -> State {
        self.node.store.task(&sample().assignment).unwrap().unwrap().state
    }

    /// As the driver does when a container has ended.
    fn finish(&self) -> Receipt {
        self.finish_of(&self.assign())
    }

    fn finish_of(&self, assign: &Assign<'_>) -> Receipt {
        let receipt = Receipt {
            hub: self.hub.address(),
            device: self.node.device,
            assignment: assign.assignment,
            task: assign.task,
            image: assign.image,
            result: Hash([4; 32]),
            usage: Usage::default(),
            price: assign.price,
        };
        let signature = receipt.sign(&assign.domain(), &self.node.keys.identity).unwrap();
        let mut task = self.node.store.task(&assign.assignment).unwrap().unwrap();
        task.state = State::Finished;
        task.result = Some(ResultRecord {
            cause: "exited".into(),
            exit_code: 0,
            root: receipt.result,
            salt: Hash([5; 32]),
            manifest: Hash([6; 32]),
            manifest_length: 1,
            cpu_ns: 0,
            peak_memory: 0,
            wall_ms: 0,
            receipt: signature,
            kept_bytes: 1,
        });
        self.node
            .store
            .write(|tx| {
                tx.put_task(&task)?;
                tx.put_receipt(&crate::store::record::ReceiptRecord {
                    assignment: receipt.assignment,
                    task: receipt.task,
                    hub: receipt.hub,
                    device: receipt.device,
                    image: receipt.image,
                    result: receipt.result,
                    cpu_ns: 0,
                    peak_memory: 0,
                    wall_ms: 0,
                    price: receipt.price,
                    chain_id: assign.chain_id,
                    wallet: assign.wallet,
                    signature,
                    made_ms: 1,
                    judgement: None,
                    covered_ms: None,
                })
            })
            .map_err(|error: StoreError| error)
            .unwrap();
        receipt
    }

    fn issue(&self, cumulative: Amount, receipt: &Receipt) -> Statement {
        let domain = Domain::off_chain(self.hub.address());
        let receipts = receipts_root([receipt.digest(&domain)]);
        let voucher = Voucher { device: self.node.device, cumulative, receipts };
        let signature = voucher.sign(&domain, &self.hub).unwrap();
        Statement { chain_id: 0, wallet: domain.wallet, cumulative, receipts, signature }
    }
}

#[test]
fn an_assignment_is_accepted_once_and_answered_every_time() {
    let bench = Bench::new();
    let id = sample().assignment;
    let frame = bench.seal(&bench.assign());
    assert_eq!(bench.take(Kind::Work, &frame).unwrap(), Reaction::Drive(id));
    assert_eq!(bench.answers(Kind::Work), ["accept"]);
    assert!(
        matches!(bench.take(Kind::Work, &frame), Err(Refused::Replay { .. })),
        "the same frame is a replay"
    );
    let renewed = Assign { lease_until_ms: 5, ..bench.assign() };
    assert_eq!(bench.say(&renewed).unwrap(), Reaction::Drive(id), "its driver is only woken");
    assert_eq!(bench.answers(Kind::Work), ["accept", "accept"]);
    let other = Assign { price: Amount::from_units(u128::MAX), ..bench.assign() };
    assert_eq!(bench.say(&other).unwrap(), Reaction::Nothing);
    assert_eq!(bench.answers(Kind::Work), ["accept", "accept", "refuse malformed"]);
    assert_eq!(bench.state(), State::Waiting);
    let frame_kept = bench.node.store.assign_frame(&id).unwrap().unwrap();
    assert_eq!(frame_kept, frame, "the signed frame is kept as evidence");
}

#[test]
fn a_refusal_says_why() {
    let bench = Bench::new();
    let cheap = Assign { price: Amount::ZERO, ..bench.assign() };
    assert_eq!(bench.say(&cheap).unwrap(), Reaction::Nothing);
    let networked = Assign { network: work::Network::Internet, ..bench.assign() };
    assert_eq!(bench.say(&networked).unwrap(), Reaction::Nothing);
    bench.node.drain();
    assert_eq!(bench.say(&bench.assign()).unwrap(), Reaction::Nothing);
    assert_eq!(bench.answers(Kind::Work), ["refuse price", "refuse unsupported", "refuse draining"]);
    assert_eq!(bench.node.store.task(&sample().assignment).unwrap(), None);
}

#[test]
fn frames_that_are_not_the_hubs_change_nothing() {
    let bench = Bench::new();
    let stranger = IdentityKey::generate();
    let forged = bench.seal_as(&stranger, bench.node.device, &bench.assign());
    assert!(matches!(bench.take(Kind::Work, &forged), Err(Refused::Envelope(EnvelopeError::Sender { .. }))));
    let misled = bench.seal_as(&bench.hub, stranger.address(), &bench.assign());
    assert!(matches!(
        bench.take(Kind::Work, &misled),
        Err(Refused::Envelope(EnvelopeError::Audience { .. }))
    ));
    let mut changed = bench.seal(&bench.assign());
    changed[40] ^= 1;
    assert!(bench.take(Kind::Work, &changed).is_err());
    let bare = sosna_host::seal::plain(&bench.assign()).unwrap();
    assert!(matches!(bench.take(Kind::Work, &bare), Err(Refused::Envelope(EnvelopeError::Unsealed))));
    let good = bench.seal(&bench.assign());
    assert!(matches!(bench.take(Kind::Pay, &good), Err(Refused::Message(_))), "another kind's topic");
    let elsewhere = Topic::down(stranger.address(), Kind::Work).text();
    assert!(matches!(receive(&bench.node, &elsewhere, &good, None), Err(Refused::Topic(_))));
    assert!(matches!(bench.take(Kind::Work, b"\xff\xff"), Err(Refused::Frame(_))));
    bench.node.clock.learn(NOT_BEFORE_MS + 366 * 24 * 3_600_000);
    assert!(matches!(bench.take(Kind::Work, &good), Err(Refused::Envelope(EnvelopeError::Expired))));
    assert!(bench.node.store.tasks().unwrap().is_empty());
    assert!(bench.answers(Kind::Work).is_empty());
}

#[test]
fn only_an_answer_to_our_greeting_tells_the_time() {
    let bench = Bench::new();
    let nonce = Nonce([1; 16]);
    let time_ms = NOT_BEFORE_MS + 1_000_000_000;
    let welcome = |nonce| Welcome {
        nonce,
        version: 1,
        time_ms,
        beat_ms: 1000,
        lease_ms: 30_000,
        positions: List::default(),
        unwanted: List::default(),
        main: Bounded(""),
        content: Bounded(""),
    };
    let topic = Topic::down(bench.node.device, Kind::Hello).text();
    let recorded = bench.seal(&welcome(Nonce([9; 16])));
    assert!(matches!(receive(&bench.node, &topic, &recorded, Some(&nonce)), Err(Refused::Nonce)));
    assert!(matches!(receive(&bench.node, &topic, &recorded, None), Err(Refused::Nonce)));
    assert_eq!(bench.node.clock.trusted_ms(), None);
    let answer = bench.seal(&welcome(nonce));
    let reaction = receive(&bench.node, &topic, &answer, Some(&nonce)).unwrap();
    assert!(matches!(reaction, Reaction::Welcome(Welcomed { beat_ms: 1000, new_epoch: None, .. })));
    assert!(bench.node.clock.trusted_ms().unwrap() >= time_ms);
    assert!(bench.node.store.saved_time().unwrap().unwrap() >= time_ms);
}

#[test]
fn nothing_is_closed_before_it_is_committed() {
    let bench = Bench::new();
    bench.say(&Assign { commits: true, ..bench.assign() }).unwrap();
    let closed = Closed { assignment: sample().assignment, reveal_by_ms: 77 };
    assert_eq!(bench.say(&closed).unwrap(), Reaction::Nothing);
    bench.finish();
    assert_eq!(bench.say(&closed).unwrap(), Reaction::Drive(sample().assignment));
    let task = bench.node.store.task(&sample().assignment).unwrap().unwrap();
    assert_eq!(task.reveal_by_ms, Some(77));
}

#[test]
fn a_cancelled_or_lost_assignment_is_dropped_and_a_finished_one_is_kept() {
    let id = sample().assignment;
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    let lost = [id];
    let renewed = Renewed { leases: List::default(), lost: List::new(&lost) };
    assert_eq!(bench.say(&renewed).unwrap(), Reaction::End(vec![id]));
    assert!(matches!(bench.state(), State::Dropped { .. }));
    assert_eq!(bench.say(&bench.assign()).unwrap(), Reaction::Nothing);
    assert_eq!(
        bench.answers(Kind::Result),
        ["failed cancelled"],
        "it is not started again under its old name"
    );

    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    bench.finish();
    assert_eq!(bench.say(&renewed).unwrap(), Reaction::End(vec![]));
    assert_eq!(bench.state(), State::Finished, "what is finished is delivered all the same");
    let cancel = Cancel { assignment: id, explanation: Bounded("the buyer has changed their mind") };
    assert_eq!(bench.say(&cancel).unwrap(), Reaction::End(vec![id]));
    assert!(matches!(bench.state(), State::Dropped { .. }));
}

#[test]
fn what_the_hub_has_lost_is_brought_again_and_not_for_ever() {
    let id = sample().assignment;
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    let missing = Missing { assignment: id, content: Hash([5; 32]) };
    assert_eq!(bench.say(&missing).unwrap(), Reaction::Nothing, "nothing was shown yet");
    bench.finish();
    assert_eq!(bench.say(&missing).unwrap(), Reaction::Nothing, "it is on its way");
    let show = || bench.shown();
    for _ in 0..MOST_ASKED_AGAIN {
        show();
        assert_eq!(bench.say(&missing).unwrap(), Reaction::Drive(id));
        assert_eq!(bench.state(), State::Finished);
    }
    show();
    assert_eq!(bench.say(&missing).unwrap(), Reaction::End(vec![id]));
    assert!(matches!(bench.state(), State::Failed { .. }));
    assert_eq!(bench.answers(Kind::Result), ["failed device-failed"]);
}

#[test]
fn what_was_shown_is_shown_again_at_a_greeting_until_it_is_judged() {
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    bench.finish();
    bench.welcome(1);
    assert!(bench.answers(Kind::Result).is_empty(), "its way is not over");
    bench.shown();
    bench.welcome(1);
    assert_eq!(bench.answers(Kind::Result), ["reveal"]);
    bench.welcome(1);
    assert_eq!(bench.answers(Kind::Result), ["reveal"], "that one waits");
    let verdict = Verdict {
        assignment: sample().assignment,
        judgement: Judgement::Surplus,
        owed: Amount::ZERO,
        explanation: Bounded(""),
        earned: None,
    };
    bench.say(&verdict).unwrap();
    let position = Position { kind: Kind::Result, epoch: bench.node.store.epoch().unwrap(), contiguous: 1 };
    bench.say(&Ack { positions: List::new(&[position]) }).unwrap();
    bench.welcome(1);
    assert!(bench.answers(Kind::Result).is_empty(), "it is over");
}

#[test]
fn a_lease_goes_on() {
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    let leases = [Lease { assignment: sample().assignment, until_ms: 99 }];
    let renewed = Renewed { leases: List::new(&leases), lost: List::default() };
    assert_eq!(bench.say(&renewed).unwrap(), Reaction::End(vec![]));
    assert_eq!(bench.node.store.task(&sample().assignment).unwrap().unwrap().lease_until_ms, 99);
}

#[test]
fn verdict_and_voucher_settle_the_account() {
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    let receipt = bench.finish();
    assert_eq!(bench.node.store.exposure().unwrap().open, Amount::SNM);
    let id = receipt.assignment;
    let verdict = Verdict {
        assignment: id,
        judgement: Judgement::Accepted,
        owed: Amount::SNM,
        explanation: Bounded(""),
        earned: Some(Amount::SNM),
    };
    assert_eq!(bench.say(&verdict).unwrap(), Reaction::End(vec![id]));
    let exposure = bench.node.store.exposure().unwrap();
    assert_eq!((exposure.open, exposure.uncovered), (Amount::ZERO, Amount::SNM));

    let covers = [id];
    let poor = Issue { statement: bench.issue(Amount::from_units(1), &receipt), covers: List::new(&covers) };
    assert!(matches!(bench.say(&poor), Err(Refused::Voucher(VoucherError::Underpays { .. }))));
    assert_eq!(bench.node.store.evidence().unwrap().len(), 1, "what the hub signed is kept as evidence");
    assert_eq!(bench.node.store.voucher().unwrap(), None);

    let issue = Issue { statement: bench.issue(Amount::SNM, &receipt), covers: List::new(&covers) };
    assert_eq!(bench.say(&issue).unwrap(), Reaction::Nothing);
    assert_eq!(bench.node.store.voucher().unwrap(), Some(issue.statement));
    assert_eq!(bench.node.store.exposure().unwrap().total(), Amount::ZERO);
    assert_eq!(bench.say(&issue).unwrap(), Reaction::Nothing, "the same again is only confirmed again");
    assert_eq!(bench.answers(Kind::Pay), ["held 1", "held 1"]);

    let mut forged = issue.clone();
    forged.statement.signature = Signature([1; 65]);
    assert!(matches!(bench.say(&forged), Err(Refused::Voucher(VoucherError::Signature(_)))));
}

#[test]
fn vouchers_that_overtake_each_other_settle_everything_and_are_no_evidence() {
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    let first = bench.finish();
    let other = Assign { assignment: AssignmentId([91; 16]), ..bench.assign() };
    bench.say(&other).unwrap();
    let second = bench.finish_of(&other);
    for receipt in [&first, &second] {
        let verdict = Verdict {
            assignment: receipt.assignment,
            judgement: Judgement::Accepted,
            owed: Amount::SNM,
            explanation: Bounded(""),
            earned: Some(Amount::SNM),
        };
        bench.say(&verdict).unwrap();
    }
    let two = Amount::SNM.checked_mul(2).unwrap();
    let (early, late) = ([first.assignment], [second.assignment]);
    let early = Issue { statement: bench.issue(Amount::SNM, &first), covers: List::new(&early) };
    let late = Issue { statement: bench.issue(two, &second), covers: List::new(&late) };
    assert_eq!(bench.say(&late).unwrap(), Reaction::Nothing);
    assert_eq!(bench.node.store.exposure().unwrap().uncovered, Amount::SNM);
    for _ in 0..2 {
        assert_eq!(bench.say(&early).unwrap(), Reaction::Nothing);
        assert_eq!(bench.node.store.exposure().unwrap().total(), Amount::ZERO);
    }
    assert_eq!(bench.node.store.voucher().unwrap(), Some(late.statement), "the better one stays");
    assert!(bench.node.store.evidence().unwrap().is_empty());
    assert_eq!(bench.answers(Kind::Pay), ["held 2", "held 1", "held 1"]);
}

#[test]
fn a_restored_hub_is_shown_once_what_no_voucher_names() {
    let bench = Bench::new();
    bench.welcome(1);
    bench.say(&bench.assign()).unwrap();
    let receipt = bench.finish();
    let id = receipt.assignment;
    bench.welcome(2);
    assert!(bench.answers(Kind::Pay).is_empty(), "what is still being delivered takes its usual way");
    let verdict = Verdict {
        assignment: id,
        judgement: Judgement::Accepted,
        owed: Amount::SNM,
        explanation: Bounded(""),
        earned: Some(Amount::SNM),
    };
    let frame = bench.seal(&verdict);
    bench.take(Kind::Result, &frame).unwrap();
    assert_eq!(bench.node.store.earned_frame().unwrap(), Some(frame.clone()));
    for _ in 0..2 {
        bench.welcome(3);
    }
    assert_eq!(bench.answers(Kind::Pay), ["present 1"]);
    let queued = bench.node.store.outbox(Kind::Pay, 0, 10).unwrap();
    let said = Frame::decode(&queued[0].frame).unwrap();
    let pay::Up::Present(present) = pay::Up::read(&said).unwrap() else { panic!("nothing is shown") };
    let shown = present.receipts.iter().next().unwrap();
    assert_eq!((shown.assignment, shown.price), (id, receipt.price));
    assert_eq!(shown.verdict.map(|frame| frame.0.to_vec()), Some(frame));
    shown.signature.verify(&receipt.digest(&bench.assign().domain()), &bench.node.device).unwrap();
}

#[test]
fn an_acknowledgement_empties_the_outbox() {
    let bench = Bench::new();
    bench.say(&bench.assign()).unwrap();
    let positions = [Position { kind: Kind::Work, epoch: bench.node.store.epoch().unwrap(), contiguous: 1 }];
    let ack = Ack { positions: List::new(&positions) };
    assert_eq!(bench.say(&ack).unwrap(), Reaction::Acknowledged(vec![(Kind::Work, 1)]));
    assert!(bench.answers(Kind::Work).is_empty());
}
