#![allow(clippy::unwrap_used, reason = "tests")]

use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Amount, Hash, Signature,
    codec::Bounded,
    envelope,
    frame::Frame,
    identity::{AssignmentId, TaskId},
    message::{
        ack::Position,
        hello::Farewell,
        result::Failed,
        work::{Accept, Up},
    },
    resources::Resources,
    result::Cause,
};

use super::{
    record::{ReceiptRecord, ResultRecord, State, TaskRecord},
    *,
};

struct Bench {
    dir: tempfile::TempDir,
    key: IdentityKey,
    hub: Address,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), key: IdentityKey::generate(), hub: Address([9; 20]) }
    }

    fn open(&self) -> Store {
        Store::open(self.dir.path(), self.key.clone()).unwrap()
    }

    fn accept(&self, store: &Store, n: u8) {
        let accept = Accept { assignment: AssignmentId([n; 16]) };
        store.write(|tx| tx.say(&self.hub, &accept)).map_err(|error: StoreError| error).unwrap();
    }

    fn counters(&self, store: &Store, kind: Kind) -> Vec<u64> {
        let waiting = store.outbox(kind, 0, 1000).unwrap();
        for queued in &waiting {
            let frame = Frame::decode(&queued.frame).unwrap();
            let seal = envelope::open(&frame, &self.hub, &self.key.address(), None).unwrap();
            assert_eq!((seal.meta.counter, seal.meta.epoch), (queued.counter, store.epoch().unwrap()));
        }
        waiting.iter().map(|queued| queued.counter).collect()
    }

    fn reconcile(&self, store: &Store, positions: &[Position]) -> Option<u32> {
        store.write(|tx| tx.reconcile(&self.hub, positions)).map_err(|error: StoreError| error).unwrap()
    }
}

fn position(kind: Kind, epoch: u32, contiguous: u64) -> Position {
    Position { kind, epoch, contiguous }
}

fn task(n: u8, state: State) -> TaskRecord {
    TaskRecord {
        assignment: AssignmentId([n; 16]),
        price: Amount::from_units(100),
        resources: Resources { cpu_millis: 1000, memory: 1, disk: 2, inodes: 3, pids: 4 },
        log_bytes: 0,
        state,
        accepted_ms: 1,
        lease_until_ms: 2,
        commits: true,
        reruns: 0,
        restarts: 0,
        asked_again: 0,
        boot: String::new(),
        reveal_by_ms: None,
        result: None,
        ended_ms: None,
    }
}

fn receipt(n: u8, judgement: Option<&str>, covered_ms: Option<u64>) -> ReceiptRecord {
    ReceiptRecord {
        assignment: AssignmentId([n; 16]),
        task: TaskId([n; 16]),
        hub: Address([9; 20]),
        device: Address([8; 20]),
        image: Hash([1; 32]),
        result: Hash([2; 32]),
        cpu_ns: 1,
        peak_memory: 2,
        wall_ms: 3,
        price: Amount::from_units(10),
        chain_id: 0,
        wallet: Address([9; 20]),
        signature: Signature([3; 65]),
        made_ms: 5,
        judgement: judgement.map(str::to_owned),
        covered_ms,
    }
}

#[test]
fn counters_have_no_gaps_and_survive_a_restart() {
    let bench = Bench::new();
    let store = bench.open();
    bench.accept(&store, 1);
    bench.accept(&store, 2);
    // A transaction that fails leaves no trace: neither a frame nor a used counter.
    let failed = store.write(|tx| {
        tx.say(&bench.hub, &Accept { assignment: AssignmentId([3; 16]) })?;
        Err::<(), _>(StoreError::Record { table: "test" })
    });
    assert!(failed.is_err());
    drop(store);
    let store = bench.open();
    bench.accept(&store, 4);
    assert_eq!(bench.counters(&store, Kind::Work), [1, 2, 3]);
    assert_eq!(store.epoch().unwrap(), 1);
}

#[test]
fn only_an_acknowledgement_empties_the_outbox() {
    let bench = Bench::new();
    let store = bench.open();
    (1..=5).for_each(|n| bench.accept(&store, n));
    let failed =
        Failed { assignment: AssignmentId([1; 16]), cause: Cause::NoImage, explanation: Bounded("no") };
    store.write(|tx| tx.say(&bench.hub, &failed)).map_err(|error: StoreError| error).unwrap();
    let acknowledge = |position: Position| {
        store.write_lazily(|tx| tx.acknowledge(&position)).map_err(|error: StoreError| error).unwrap();
    };
    acknowledge(position(Kind::Work, 7, 5));
    assert_eq!(bench.counters(&store, Kind::Work).len(), 5, "another epoch says nothing");
    acknowledge(position(Kind::Work, 1, 3));
    assert_eq!(bench.counters(&store, Kind::Work), [4, 5]);
    assert_eq!(bench.counters(&store, Kind::Result), [1], "kinds are counted apart");
    acknowledge(position(Kind::Work, 1, 1000));
    assert!(bench.counters(&store, Kind::Work).is_empty());
    bench.accept(&store, 6);
    assert_eq!(bench.counters(&store, Kind::Work), [6]);
}

#[test]
fn accounts_that_meet_change_nothing() {
    let bench = Bench::new();
    let store = bench.open();
    assert_eq!(bench.reconcile(&store, &[]), None, "a new device and a hub that never saw it");
    (1..=3).for_each(|n| bench.accept(&store, n));
    assert_eq!(bench.reconcile(&store, &[]), None, "nothing has arrived yet");
    assert_eq!(bench.reconcile(&store, &[position(Kind::Work, 1, 2)]), None);
    assert_eq!(bench.counters(&store, Kind::Work), [3]);
}

#[test]
fn a_restore_on_either_side_begins_a_new_epoch() {
    let bench = Bench::new();
    let store = bench.open();
    (1..=3).for_each(|n| bench.accept(&store, n));
    assert_eq!(bench.reconcile(&store, &[position(Kind::Work, 1, 2)]), None);
    // The hub was restored: it knows less than it had confirmed.
    assert_eq!(bench.reconcile(&store, &[position(Kind::Work, 1, 1)]), Some(2));
    assert_eq!(bench.counters(&store, Kind::Work), [1], "what waits is sealed again");
    let waiting = store.outbox(Kind::Work, 0, 1).unwrap();
    let frame = Frame::decode(&waiting[0].frame).unwrap();
    assert_eq!(Up::read(&frame).unwrap(), Up::Accept(Accept { assignment: AssignmentId([3; 16]) }));
    // The hub still speaks of the old epoch, which it knew: that is no reason for another one.
    assert_eq!(bench.reconcile(&store, &[position(Kind::Work, 1, 1)]), None);
    // Our store was restored: the hub has more than we ever said.
    assert_eq!(bench.reconcile(&store, &[position(Kind::Work, 2, 40)]), Some(3));
    assert_eq!(bench.reconcile(&store, &[position(Kind::Pay, 9, 1)]), Some(10));
    assert_eq!(bench.counters(&store, Kind::Work), [1]);
}

#[test]
fn a_lost_store_begins_a_new_epoch() {
    let bench = Bench::new();
    let store = bench.open();
    bench.accept(&store, 1);
    drop(store);
    fs::remove_file(bench.dir.path().join("agent.redb")).unwrap();
    let store = bench.open();
    assert_eq!(store.epoch().unwrap(), 2);
    bench.accept(&store, 1);
    assert_eq!(bench.counters(&store, Kind::Work), [1]);
}

#[test]
fn reserved_counters_are_never_used_twice() {
    let bench = Bench::new();
    let nonce = sosna_protocol::identity::Nonce([1; 16]);
    let counter = |store: &Store| {
        let farewell = Farewell { nonce, time_ms: 1, explanation: Bounded("x") };
        let sealed = store.seal_lossy(&bench.hub, &farewell).unwrap();
        let frame = Frame::decode(&sealed).unwrap();
        envelope::open(&frame, &bench.hub, &bench.key.address(), None).unwrap().meta.counter
    };
    let store = bench.open();
    let first: Vec<_> = (0..3).map(|_| counter(&store)).collect();
    assert_eq!(first, [1, 2, 3]);
    drop(store);
    let store = bench.open();
    assert_eq!(counter(&store), BLOCK + 1);
    let last = (0..BLOCK).map(|_| counter(&store)).last().unwrap();
    assert_eq!(last, 2 * BLOCK + 1, "the next block follows without a gap");
}

#[test]
fn a_replay_is_known_after_a_restart() {
    let bench = Bench::new();
    let store = bench.open();
    let admit = |store: &Store, epoch, counter| {
        store.write(|tx| tx.admit(Kind::Work, epoch, counter)).map_err(|error: StoreError| error).unwrap()
    };
    assert_eq!(admit(&store, 1, 100), Seen::Fresh);
    assert_eq!(admit(&store, 1, 90), Seen::Fresh, "counters of a hub have gaps");
    drop(store);
    let store = bench.open();
    assert_eq!(admit(&store, 1, 100), Seen::Replay);
    assert_eq!(admit(&store, 1, 90), Seen::Replay);
    assert_eq!(store.taken().unwrap(), [(Kind::Work, 1, 100)]);
    assert_eq!(admit(&store, 0, 101), Seen::Stale);
}

#[test]
fn a_state_that_was_not_committed_was_never_there() {
    let bench = Bench::new();
    let store = bench.open();
    let put =
        |task: TaskRecord| store.write(|tx| tx.put_task(&task)).map_err(|error: StoreError| error).unwrap();
    put(task(1, State::Waiting));
    let mut running = task(1, State::Running);
    let failed = store.write(|tx| {
        tx.put_task(&running)?;
        tx.say(&bench.hub, &Accept { assignment: running.assignment })?;
        Err::<(), _>(StoreError::Record { table: "test" })
    });
    assert!(failed.is_err());
    drop(store);
    let store = bench.open();
    assert_eq!(store.task(&running.assignment).unwrap(), Some(task(1, State::Waiting)));
    running.result = Some(ResultRecord {
        cause: "exited".into(),
        exit_code: 3,
        root: Hash([1; 32]),
        salt: Hash([2; 32]),
        manifest: Hash([3; 32]),
        manifest_length: 4,
        cpu_ns: 5,
        peak_memory: 6,
        wall_ms: 7,
        receipt: Signature([8; 65]),
        kept_bytes: 9,
    });
    running.state = State::Settled { judgement: "accepted".into(), owed: "0.5".parse().unwrap() };
    store.write(|tx| tx.put_task(&running)).map_err(|error: StoreError| error).unwrap();
    drop(store);
    assert_eq!(bench.open().task(&running.assignment).unwrap(), Some(running));
}

#[test]
fn exposure_is_what_is_open_and_what_is_uncovered() {
    let bench = Bench::new();
    let store = bench.open();
    store
        .write(|tx| {
            tx.put_task(&task(1, State::Waiting))?;
            tx.put_task(&task(2, State::Revealed))?;
            tx.put_task(&task(3, State::Settled { judgement: "accepted".into(), owed: Amount::ZERO }))?;
            tx.put_receipt(&receipt(2, None, None))?;
            tx.put_receipt(&receipt(3, Some("accepted"), None))?;
            tx.put_receipt(&receipt(4, Some("wrong"), None))?;
            tx.put_receipt(&receipt(5, Some("accepted"), Some(1)))
        })
        .map_err(|error: StoreError| error)
        .unwrap();
    let exposure = store.exposure().unwrap();
    assert_eq!(store.open_tasks().unwrap().len(), 2);
    assert_eq!((exposure.open.units(), exposure.uncovered.units()), (200, 10));
    assert_eq!(exposure.total().units(), 210);
}

#[test]
fn only_what_is_over_and_old_is_forgotten() {
    let bench = Bench::new();
    let store = bench.open();
    let mut over = task(1, State::Failed { cause: "no-image".into(), explanation: String::new() });
    over.ended_ms = Some(10);
    store
        .write(|tx| {
            tx.put_task(&over)?;
            tx.put_task(&task(2, State::Revealed))?;
            tx.put_receipt(&receipt(1, Some("accepted"), Some(10)))?;
            tx.put_receipt(&receipt(2, Some("accepted"), None))?;
            tx.put_receipt(&receipt(3, None, None))?;
            tx.put_receipt(&receipt(4, Some("wrong"), None))?;
            let free = ReceiptRecord { price: Amount::ZERO, ..receipt(5, Some("accepted"), None) };
            tx.put_receipt(&free)
        })
        .map_err(|error: StoreError| error)
        .unwrap();
    let forget = |before| {
        store
            .write(|tx| Ok::<_, StoreError>((tx.forget_tasks(before)?, tx.forget_receipts(before)?)))
            .unwrap()
    };
    assert_eq!(forget(5), (0, 0));
    assert_eq!(forget(11), (1, 3), "what costs nothing waits for no voucher");
    let left: Vec<_> = store.receipts().unwrap().iter().map(|receipt| receipt.assignment.0[0]).collect();
    assert_eq!(left, [2, 3], "without a voucher a receipt stays");
}

#[test]
fn verdicts_are_kept_until_a_voucher_names_their_receipts_and_the_best_one_for_ever() {
    let bench = Bench::new();
    let store = bench.open();
    let units = |units| Some(Amount::from_units(units));
    store
        .write(|tx| {
            tx.put_receipt(&receipt(1, Some("accepted"), None))?;
            tx.put_receipt(&receipt(2, Some("accepted"), None))?;
            tx.put_verdict(&AssignmentId([1; 16]), units(10), b"one")?;
            tx.put_verdict(&AssignmentId([2; 16]), units(20), b"two")?;
            tx.put_verdict(&AssignmentId([3; 16]), units(15), b"older, and of no receipt")?;
            tx.put_verdict(&AssignmentId([4; 16]), None, b"of an older hub")
        })
        .map_err(|error: StoreError| error)
        .unwrap();
    let frames = |store: &Store| {
        store
            .write(|tx| {
                (1..=4).map(|n| tx.verdict_frame(&AssignmentId([n; 16]))).collect::<Result<Vec<_>, _>>()
            })
            .map_err(|error: StoreError| error)
            .unwrap()
    };
    assert_eq!(frames(&store), [Some(b"one".to_vec()), Some(b"two".to_vec()), None, None]);
    store
        .write(|tx| tx.put_receipt(&receipt(2, Some("accepted"), Some(5))))
        .map_err(|error: StoreError| error)
        .unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(frames(&store), [Some(b"one".to_vec()), None, None, None]);
    assert_eq!(store.earned_frame().unwrap().as_deref(), Some(&b"two"[..]));
    let learn =
        |epoch| store.write(|tx| tx.learn_hub_epoch(epoch)).map_err(|error: StoreError| error).unwrap();
    assert_eq!([0, 0, 2, 2, 1, 3].map(learn), [false, false, true, false, false, true]);
}

#[test]
fn a_store_serves_one_hub_and_keeps_its_settings() {
    let bench = Bench::new();
    let store = bench.open();
    store.write(|tx| tx.bind(&bench.hub)).map_err(|error: StoreError| error).unwrap();
    store.write(|tx| tx.bind(&bench.hub)).map_err(|error: StoreError| error).unwrap();
    let other = store.write(|tx| tx.bind(&Address([1; 20])));
    assert!(matches!(other, Err(StoreError::OtherHub { .. })));
    store.write(|tx| tx.set_setting("payout_to", "0x1")).map_err(|error: StoreError| error).unwrap();
    store.write(|tx| tx.save_time(50)).map_err(|error: StoreError| error).unwrap();
    store.write(|tx| tx.save_time(40)).map_err(|error: StoreError| error).unwrap();
    drop(store);
    let store = bench.open();
    assert_eq!(store.setting("payout_to").unwrap().as_deref(), Some("0x1"));
    assert_eq!(store.saved_time().unwrap(), Some(50), "time never goes back");
}

#[test]
fn evidence_is_bounded() {
    let bench = Bench::new();
    let store = bench.open();
    for n in 0..=MAX_EVIDENCE {
        store.write(|tx| tx.keep_evidence(&n.to_be_bytes())).map_err(|error: StoreError| error).unwrap();
    }
    let kept = store.evidence().unwrap();
    assert_eq!(kept.len(), usize::try_from(MAX_EVIDENCE).unwrap());
    assert_eq!(kept[0], 1_u64.to_be_bytes());
}
