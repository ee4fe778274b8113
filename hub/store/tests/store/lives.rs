//! What happens to devices, tasks, assignments and vouchers, as the store keeps it.

use sosna_protocol::{
    Address, Amount, Hash, Signature,
    identity::AssignmentId,
    message::{beat::Phase, pay::Statement, result::Judgement},
    resources::{Ask, Resources},
    result::{Cause, Usage},
    topic::Kind,
    window::Contiguous,
};
use sosna_store::{
    AssignmentState, Certificate, Described, DeviceState, JobState, Revealed, Setting, StoreError, TaskEnd,
    TaskState,
};

use crate::support::{Bench, CLASS, JOB, TASK, assignment, job};

const DEVICE: Address = Address([1; 20]);
const ONE: AssignmentId = AssignmentId([1; 16]);

fn revealed() -> Revealed {
    Revealed {
        root: Hash([1; 32]),
        manifest: Hash([2; 32]),
        cause: Cause::Exited,
        exit_code: 3,
        usage: Usage { cpu_ns: 4, peak_memory: 5, wall_ms: 6 },
        receipt: Signature([7; 65]),
        receipt_digest: Hash([8; 32]),
    }
}

fn statement(units: u128) -> Statement {
    Statement {
        chain_id: 0,
        wallet: Address([9; 20]),
        cumulative: Amount::from_units(units),
        receipts: Hash([1; 32]),
        signature: Signature([2; 65]),
    }
}

macro_rules! write {
    ($bench:ident, |$tx:ident| $work:block) => {
        $bench
            .write(move |$tx| {
                Box::pin(async move {
                    $work;
                    Ok::<_, StoreError>(())
                })
            })
            .await
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_owners_tokens_and_certificates() {
    let bench = Bench::filled().await;
    write!(bench, |tx| {
        let device = tx.device(&DEVICE).await?.unwrap();
        assert_eq!((device.state, device.owner_admitted), (DeviceState::Probation, false));
        tx.admit_owner(&device.owner, 1).await?;
        let described = Described {
            class: CLASS,
            agent: "2".to_owned(),
            resources: Resources { cpu_millis: 1, memory: u64::MAX, disk: 3, inodes: 4, pids: 5 },
            ask: Ask { minimum: Amount::SNM, ..Ask::default() },
            missing_limits: "[]".to_owned(),
            exposure_limit: Some(Amount::from_units(77)),
            setting: Setting {
                system: Some("{\"board\":\"rpi\"}".to_owned()),
                metered: true,
                labels: "{\"room\":\"cellar\"}".to_owned(),
            },
        };
        tx.describe_device(&DEVICE, &described, 50).await?;
        for _ in 0..2 {
            tx.count_valid(&DEVICE, "a/tool", true, 2).await?;
        }
        let device = tx.device(&DEVICE).await?.unwrap();
        assert_eq!((device.state, device.valid, device.consecutive), (DeviceState::Trusted, 2, 2));
        assert_eq!(device.described.exposure_limit, Some(Amount::from_units(77)));
        assert_eq!(device.described.setting, described.setting);
        assert!(device.owner_admitted && device.last_seen_ms == 50 && device.described.ask == described.ask);
        assert_eq!(device.described.resources.memory, u64::MAX >> 1, "as large as SQL's numbers are");
        tx.count_invalid(&DEVICE, "a/tool").await?;
        tx.count_failed(&DEVICE, "another").await?;
        tx.saw_device(&DEVICE, 60).await?;
        assert!(
            tx.set_device_draining(&DEVICE, true).await?
                && tx.set_device_labels(&DEVICE, "{\"a\":\"b\"}").await?
        );
        let device = tx.device(&DEVICE).await?.unwrap();
        assert_eq!((device.state, device.invalid, device.failed), (DeviceState::Probation, 1, 1));
        assert!(device.draining && device.consecutive == 0 && device.last_seen_ms == 60);
        assert!(tx.set_device_state(&DEVICE, DeviceState::Revoked).await?);
        tx.count_valid(&DEVICE, "", true, 0).await?;
        let record = tx.record(&DEVICE, "a/tool").await?.unwrap();
        assert_eq!((record.valid, record.invalid, record.failed, record.consecutive), (2, 1, 0, 0));
        tx.count_valid(&DEVICE, "a/tool", false, 1).await?;
        let record = tx.record(&DEVICE, "a/tool").await?.unwrap();
        assert_eq!((record.valid, record.consecutive), (3, 0), "nobody confirmed it");
        let classes: Vec<_> = tx.records_of(&DEVICE).await?.into_iter().map(|(class, _)| class).collect();
        assert_eq!(classes, ["a/tool", "another"]);
        assert_eq!(tx.records().await?.len(), 2);
        assert_eq!(
            tx.device(&DEVICE).await?.unwrap().state,
            DeviceState::Revoked,
            "results lift no revocation"
        );
        assert_eq!(tx.devices().await?.len(), 3);
        assert_eq!(tx.owners().await?.len(), 3);

        let secret = Hash([1; 32]);
        assert_eq!(tx.join_token(Address([9; 20]), &secret).await?.unwrap().used, 0);
        assert!(tx.use_join_token(&secret).await? && tx.use_join_token(&secret).await?);
        assert!(!tx.use_join_token(&secret).await?, "it was for two");
        assert!(tx.join_token(Address([9; 20]), &Hash([77; 32])).await?.is_none());

        let certificate = Certificate { serial: vec![1, 2], device: DEVICE, issued_ms: 1, not_after_ms: 9 };
        tx.put_certificate(&certificate).await?;
        assert!(tx.certificate_holds(&DEVICE, &[1, 2]).await?);
        assert!(!tx.certificate_holds(&Address([2; 20]), &[1, 2]).await?);
        tx.revoke_certificates(&DEVICE, 5).await?;
        assert!(!tx.certificate_holds(&DEVICE, &[1, 2]).await?);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn people() {
    let bench = Bench::new().await;
    write!(bench, |tx| {
        crate::support::put_user(tx, "b").await?;
        crate::support::put_user(tx, "a").await?;
        let hash = sosna_protocol::hash::sha256(b"a");
        assert_eq!(tx.user_by_token(&hash).await?.unwrap().name, "a");
        assert!(tx.user("b").await?.is_some() && tx.user("c").await?.is_none());
        assert_eq!(tx.users().await?.len(), 2);
        assert!(tx.remove_user("a").await? && !tx.remove_user("a").await?);
        assert!(tx.user_by_token(&hash).await?.is_none());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_who_may_read_their_content() {
    let bench = Bench::filled().await;
    write!(bench, |tx| {
        assert_eq!(tx.job(&JOB).await?.unwrap(), job().job);
        assert_eq!(tx.job_by_key("buyer", "key").await?.unwrap().id, JOB);
        assert!(tx.job_by_key("stranger", "key").await?.is_none());
        tx.set_job_state(&JOB, JobState::Running, None).await?;
        tx.set_job_spent(&JOB, Amount::SNM).await?;
        let found = tx.jobs(Some("buyer"), Some(JobState::Running), u64::MAX, 10).await?;
        assert_eq!((found.len(), found[0].spent), (1, Amount::SNM));
        assert!(tx.jobs(Some("stranger"), None, u64::MAX, 10).await?.is_empty());
        assert!(tx.jobs(None, None, 7, 10).await?.is_empty(), "created before, not at");
        let (input, output) = (Hash([6; 32]), Hash([7; 32]));
        assert!(tx.buyer_may_read("buyer", &input).await? && !tx.buyer_may_read("stranger", &input).await?);
        assert!(!tx.device_may_read(&DEVICE, &input).await?);
        assert!(tx.put_assignment(&assignment(1, 1, 10)).await?);
        assert!(tx.device_may_read(&DEVICE, &input).await? && !tx.device_may_read(&DEVICE, &output).await?);
        tx.add_job_content(&JOB, &output).await?;
        tx.add_job_content(&JOB, &output).await?;
        assert!(tx.buyer_may_read("buyer", &output).await?);
        tx.end_assignment(&ONE, AssignmentState::Cancelled, "").await?;
        assert!(!tx.device_may_read(&DEVICE, &input).await?);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_from_queue_to_result() {
    let bench = Bench::filled().await;
    write!(bench, |tx| {
        let open = tx.open_tasks(0, 10).await?;
        assert_eq!((open.len(), open[0].missing, open[0].cap.units()), (1, 2, 10));
        assert!(tx.open_tasks_after(0, 1, 10).await?.is_empty());
        tx.set_task_reason(&TASK, "nobody").await?;
        assert_eq!(tx.task(&TASK).await?.unwrap().reason, "nobody");
        assert!(tx.put_assignment(&assignment(1, 1, 10)).await?);
        tx.set_task_class(&TASK, CLASS).await?;
        assert_eq!(tx.open_tasks(0, 10).await?[0].missing, 1);
        tx.count_attempt(&TASK, 500).await?;
        assert!(tx.open_tasks(499, 10).await?.is_empty() && tx.open_tasks(500, 10).await?.len() == 1);
        tx.delay_task(&TASK, 600).await?;
        assert!(tx.open_tasks(599, 10).await?.is_empty());
        tx.set_task_wanted(&TASK, 5).await?;
        tx.set_task_state(&TASK, TaskState::Revealing, Some(1000)).await?;
        assert!(tx.open_tasks(u64::MAX, 10).await?.is_empty(), "commitments are closed");
        assert!(tx.overdue_reveals(1000).await?.is_empty());
        assert_eq!(tx.overdue_reveals(1001).await?, [TASK]);
        let task = tx.task(&TASK).await?.unwrap();
        assert_eq!((task.asked, task.wanted, task.attempts, task.class), (2, 5, 1, Some(CLASS)));
        assert_eq!((task.reason.as_str(), task.reveal_by_ms), ("", Some(1000)));
        tx.clear_task_class(&TASK).await?;
        assert_eq!(tx.task(&TASK).await?.unwrap().class, None);
        let end =
            TaskEnd { root: Hash([1; 32]), manifest: Hash([2; 32]), cause: Cause::Exited, exit_code: 0 };
        tx.end_task(&TASK, TaskState::Accepted, Some(&end), "", 2000).await?;
        let task = tx.tasks_of(&JOB).await?.remove(0);
        assert_eq!((task.end, task.ended_ms, task.reveal_by_ms), (Some(end), Some(2000), None));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_from_offer_to_voucher() {
    let bench = Bench::filled().await;
    write!(bench, |tx| {
        assert!(tx.put_assignment(&assignment(1, 1, 10)).await?);
        assert!(tx.put_assignment(&assignment(2, 2, 11)).await?);
        assert_eq!(tx.lapsed_assignments(111).await?.len(), 1);
        tx.extend_leases(500).await?;
        assert!(tx.lapsed_assignments(500).await?.is_empty());
        tx.accept_assignment(&ONE, 900, 20).await?;
        let said = (Phase::Running, 77);
        assert_eq!(tx.renew_assignment(&ONE, &DEVICE, (1000, 30), said).await?, Some(1000));
        let others = tx.renew_assignment(&ONE, &Address([2; 20]), (1000, 30), said).await?;
        assert_eq!(others, None, "somebody else's");
        let one = tx.assignment(&ONE).await?.unwrap();
        assert_eq!(
            (one.state, one.lease_until_ms, one.accepted_ms),
            (AssignmentState::Accepted, 1000, Some(20))
        );
        assert_eq!((one.phase, one.permille, one.price.units()), (Some(Phase::Running), 77, 10));
        assert_eq!(tx.open_assignments_of(&DEVICE).await?.len(), 1);
        assert_eq!((tx.open_assignments().await?.len(), tx.assignments_of_job(&JOB).await?.len()), (2, 2));

        tx.commit_assignment(&ONE, &Hash([3; 32]), 30).await?;
        tx.reveal_assignment(&ONE, &revealed(), 40).await?;
        let one = tx.assignment(&ONE).await?.unwrap();
        assert_eq!((one.revealed, one.committed_ms, one.revealed_ms), (Some(revealed()), Some(30), Some(40)));
        assert!(tx.devices_owed().await?.is_empty());
        tx.judge_assignment(&ONE, Judgement::Accepted, one.price, "well", 50).await?;
        let owed = tx.devices_owed().await?;
        assert_eq!((owed.len(), owed[0].since_ms, owed[0].last_ms, owed[0].open), (1, 50, 0, 0));
        assert!(tx.uncovered_assignments(&DEVICE, 49, 10).await?.is_empty());
        assert_eq!(tx.uncovered_assignments(&DEVICE, 50, 10).await?.len(), 1);

        tx.put_voucher(&DEVICE, &statement(10), 60).await?;
        tx.cover_assignment(&ONE, Amount::from_units(10)).await?;
        assert!(tx.devices_owed().await?.is_empty());
        assert_eq!(tx.covered_by(&DEVICE, Amount::from_units(10)).await?, [ONE]);
        tx.put_voucher(&DEVICE, &statement(300), 61).await?;
        assert_eq!(
            tx.latest_voucher(&DEVICE).await?.unwrap().statement,
            statement(300),
            "the largest, by value"
        );
        assert_eq!(tx.unheld_vouchers(&DEVICE).await?.len(), 2);
        assert!(tx.hold_voucher(&DEVICE, Amount::from_units(10), 70).await?);
        assert!(!tx.hold_voucher(&DEVICE, Amount::from_units(10), 71).await?, "that is known");
        assert_eq!(tx.unheld_vouchers(&DEVICE).await?[0].statement, statement(300));

        // Who did it without being owed anything is nobody to make a voucher for.
        tx.judge_assignment(&AssignmentId([2; 16]), Judgement::Accepted, Amount::ZERO, "", 50).await?;
        assert!(tx.devices_owed().await?.is_empty());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_asked_again_when_it_may_be() {
    let bench = Bench::filled().await;
    write!(bench, |tx| {
        assert!(tx.put_assignment(&assignment(1, 1, 10)).await?);
        assert!(!tx.put_assignment(&assignment(2, 1, 11)).await?, "it has one");
        tx.end_assignment(&ONE, AssignmentState::Refused, "no-room: full").await?;
        assert!(!tx.put_assignment(&assignment(2, 1, 12)).await?, "for good, unless told otherwise");
        tx.ask_again(&ONE, 20).await?;
        assert!(!tx.put_assignment(&assignment(2, 1, 19)).await?);
        assert!(tx.put_assignment(&assignment(2, 1, 20)).await?);
        assert!(!tx.put_assignment(&assignment(3, 1, 30)).await?, "it has one again");
        tx.end_assignment(&AssignmentId([2; 16]), AssignmentState::Expired, "").await?;
        assert_eq!(tx.lapsed_assignments_of(&DEVICE).await?.len(), 1);
        tx.judge_assignment(&AssignmentId([2; 16]), Judgement::NotRevealed, Amount::ZERO, "", 40).await?;
        assert_eq!(tx.count_not_revealed(&DEVICE).await?, 1);
        assert!(!tx.put_assignment(&assignment(3, 1, 50)).await?, "who was judged has had its turn");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_what_was_heard() {
    let bench = Bench::new().await;
    write!(bench, |tx| {
        assert!(tx.window(&DEVICE, Kind::Work).await?.is_none());
        let mut window = Contiguous::default();
        window.accept(1, 1);
        window.accept(1, 3);
        tx.put_window(&DEVICE, Kind::Work, window.to_bytes()).await?;
        tx.put_window(&DEVICE, Kind::Beat, [0; sosna_protocol::window::STORED]).await?;
        assert_eq!(tx.window(&DEVICE, Kind::Work).await?, Some(window.to_bytes()));
        assert_eq!(tx.positions(&DEVICE).await?, [(Kind::Work, window)], "outbox kinds only");
        tx.put_heard(&DEVICE, Kind::Work, 1, &Hash([1; 32])).await?;
        assert_eq!(tx.heard(&DEVICE, Kind::Work, 1).await?, Some(Hash([1; 32])));
        assert_eq!(tx.heard(&DEVICE, Kind::Pay, 1).await?, None);
        // Now and then what is beyond is removed.
        let far = (2 + sosna_protocol::window::WIDTH).next_multiple_of(64);
        tx.put_heard(&DEVICE, Kind::Work, far, &Hash([2; 32])).await?;
        assert_eq!(tx.heard(&DEVICE, Kind::Work, 1).await?, None, "beyond every window");
    });
}
