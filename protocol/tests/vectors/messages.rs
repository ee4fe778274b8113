//! One message of every type, with every field filled.

use serde_json::{Value, json};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    codec::{Bounded, Decode, Dialect, List, Reader},
    identity::{AssignmentId, JobId, Nonce, TaskId},
    message::{Message, ack, beat, enrol, hello, log, pay, result, work},
    resources::{Arch, Ask, Class, Resources},
    result::{Cause, Usage},
    topic::Kind,
};

use crate::{
    compare,
    support::{encoded, hex},
};

fn vector<T: Message + Decode<'static> + PartialEq + std::fmt::Debug>(message: &T) -> Value {
    let arguments = encoded(message);
    let mut reader = Reader::with_dialect(arguments, Dialect::Current);
    let back = T::decode(&mut reader).unwrap();
    assert_eq!((reader.finish(), &back), (Ok(()), message));
    let name = std::any::type_name::<T>().rsplit("message::").next().unwrap();
    json!({
        "name": name.split('<').next().unwrap(),
        "channel": T::KIND.channel(),
        "message": T::NUMBER,
        "value": format!("{message:?}"),
        "arguments": hex(arguments),
    })
}

const ID: AssignmentId = AssignmentId([0xa1; 16]);
const NONCE: Nonce = Nonce([0x0e; 16]);
const TIME: u64 = 1_800_000_000_123;
const POSITIONS: List<'static, ack::Position, 8> = List::new(&[
    ack::Position { kind: Kind::Work, epoch: 0, contiguous: 41 },
    ack::Position { kind: Kind::Result, epoch: 3, contiguous: u64::MAX },
]);
const RESOURCES: Resources =
    Resources { cpu_millis: 1500, memory: 512 << 20, disk: 4 << 30, inodes: 10_000, pids: 256 };
const CLASS: Class = Class { arch: Arch::X86_64, level: 3 };

fn statement() -> pay::Statement {
    pay::Statement {
        chain_id: 31_337,
        wallet: Address([0xaa; 20]),
        cumulative: Amount::from_units(12_500_000_000_000_000_000),
        receipts: Hash([0xbb; 32]),
        signature: Signature([0xcc; 65]),
    }
}

fn assign() -> work::Assign<'static> {
    work::Assign {
        assignment: ID,
        task: TaskId([0xa2; 16]),
        job: JobId([0xa3; 16]),
        index: 7,
        count: 100,
        price: Amount::SNM,
        chain_id: 0,
        wallet: Address([0xaa; 20]),
        image: Hash([0x1a; 32]),
        sources: List::new(&[
            work::Source { kind: work::SourceKind::Registry, name: Bounded("registry.example/team/tool") },
            work::Source { kind: work::SourceKind::Hub, name: Bounded("") },
        ]),
        entrypoint: List::new(&[Bounded("/bin/sh"), Bounded("-c")]),
        command: List::new(&[Bounded("echo \u{263a} > /out/a")]),
        environment: List::new(&[Bounded("LANG=C.UTF-8")]),
        working_dir: Bounded("/work"),
        resources: RESOURCES,
        timeout_ms: 3_600_000,
        log_bytes: 1 << 20,
        network: work::Network::Internet,
        inputs: List::new(&[work::Input {
            sha256: Hash([0x1b; 32]),
            length: 70_000,
            destination: Bounded("/in/data"),
        }]),
        outputs: List::new(&[Bounded("/out")]),
        stdout_counts: true,
        commits: true,
        lease_until_ms: TIME,
    }
}

#[test]
fn messages() {
    let explanation = Bounded("Ask the operator for a new token.");
    let vectors = vec![
        vector(&enrol::Request {
            nonce: NONCE,
            secret: Hash([0x5e; 32]),
            csr: Bounded(&[0x30, 0x03, 0x02, 0x01, 0x00]),
            encryption_key: Hash([0x25; 32]),
            agent: Bounded("0.1.0"),
            class: Class { arch: Arch::Aarch64, level: 8 },
            hostname: Bounded("kitchen"),
        }),
        vector(&enrol::Renew { nonce: NONCE, csr: Bounded(&[0x30, 0x00]) }),
        vector(&enrol::Granted {
            nonce: NONCE,
            time_ms: TIME,
            certificate: Bounded(&[0x30, 0x01, 0xff]),
            authorities: List::new(&[Bounded(&[0x30]), Bounded(&[])]),
            valid_until_ms: TIME + 86_400_000,
            main: Bounded("hub.example:8883"),
            content: Bounded("https://hub.example:8443"),
        }),
        vector(&enrol::Refused {
            nonce: NONCE,
            time_ms: TIME,
            refusal: enrol::Refusal::UsedToken,
            explanation,
        }),
        vector(&hello::Hello {
            oldest: 1,
            newest: 1,
            nonce: NONCE,
            agent: Bounded("0.1.0"),
            class: CLASS,
            resources: RESOURCES,
            ask: Ask {
                core_second: Amount::from_units(1000),
                gib_second: Amount::ZERO,
                minimum: Amount::SNM,
            },
            held: List::new(&[ID, AssignmentId([0xa4; 16])]),
            voucher: Some(statement()),
            missing_limits: List::new(&[Bounded("disk: the file system has no quotas")]),
            positions: POSITIONS,
            exposure_limit: Some(Amount::SNM),
            earned: Some(Bounded(&[0xee; 3])),
            system: Some(hello::System {
                board: Bounded("rpi"),
                slot: Bounded("a"),
                version: Bounded("0.1.0"),
                boot_image: Bounded("sound"),
            }),
            metered: Some(true),
            labels: Some(List::new(&[hello::Label { name: Bounded("room"), value: Bounded("cellar") }])),
        }),
        vector(&hello::Welcome {
            nonce: NONCE,
            version: 1,
            time_ms: TIME,
            beat_ms: 30_000,
            lease_ms: 300_000,
            positions: POSITIONS,
            unwanted: List::new(&[ID]),
            main: Bounded(""),
            content: Bounded("https://hub.example:8443"),
        }),
        vector(&hello::Farewell { nonce: NONCE, time_ms: TIME, explanation }),
        vector(&assign()),
        vector(&work::Cancel { assignment: ID, explanation }),
        vector(&work::Renewed {
            leases: List::new(&[work::Lease { assignment: ID, until_ms: TIME }]),
            lost: List::new(&[AssignmentId::ZERO]),
        }),
        vector(&work::Accept { assignment: ID }),
        vector(&work::Refuse { assignment: ID, reason: work::Reason::Exposure, explanation }),
        vector(&result::Commit { assignment: ID, commitment: Hash([0xc0; 32]) }),
        vector(&result::Closed { assignment: ID, reveal_by_ms: TIME }),
        vector(&result::Reveal {
            assignment: ID,
            cause: Cause::Exited,
            exit_code: 137,
            root: Hash([0x40; 32]),
            salt: Hash([0x41; 32]),
            manifest: Hash([0x42; 32]),
            manifest_length: 4096,
            usage: Usage { cpu_ns: 1_234_567_890, peak_memory: 1 << 20, wall_ms: 2000 },
            receipt: Signature([0xcd; 65]),
        }),
        vector(&result::Verdict {
            assignment: ID,
            judgement: result::Judgement::Accepted,
            owed: Amount::from_units(u128::MAX),
            explanation,
            earned: Some(Amount::from_units(u128::MAX)),
        }),
        vector(&result::Missing { assignment: ID, content: Hash([0x43; 32]) }),
        vector(&result::Failed { assignment: ID, cause: Cause::NoImage, explanation }),
        vector(&pay::Issue { statement: statement(), covers: List::new(&[ID]) }),
        vector(&pay::Held { cumulative: Amount::from_units(1) }),
        vector(&pay::Present {
            receipts: List::new(&[pay::Presented {
                assignment: ID,
                task: TaskId([0xa2; 16]),
                image: Hash([0x42; 32]),
                result: Hash([0x40; 32]),
                usage: Usage { cpu_ns: 1, peak_memory: 2, wall_ms: 3 },
                price: Amount::SNM,
                signature: Signature([0xcd; 65]),
                verdict: Some(Bounded(&[0xee; 3])),
            }]),
        }),
        vector(&ack::Ack { positions: POSITIONS }),
        vector(&beat::Beat {
            assignments: List::new(&[beat::Progress {
                assignment: ID,
                phase: beat::Phase::Running,
                permille: 999,
            }]),
            free: Resources::default(),
        }),
        vector(&log::Chunk {
            assignment: ID,
            stream: log::Stream::Stderr,
            offset: 1 << 40,
            bytes: Bounded(b"\x1b[31mred\xff"),
        }),
    ];
    compare("messages", "The arguments of one message of every type.", vectors);
}
