//! Arbitrary values of every message, within their bounds. What they borrow from stays for the whole test.

use proptest::{collection::vec, prelude::*, sample::select};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    codec::{Bounded, Decode, List, Text},
    identity::{AssignmentId, JobId, Nonce, TaskId},
    message::{ack, beat, enrol, hello, log, pay, result, work},
    resources::{Arch, Ask, Class, Resources},
    result::{Cause, Usage},
    topic::Kind,
};

use crate::support::keep;

macro_rules! fixed {
    ($($name:ident: $type:ident, $length:literal;)+) => {
        $(pub fn $name() -> impl Strategy<Value = $type> + Clone {
            prop_oneof![Just($type::ZERO), any::<[u8; $length]>().prop_map($type)]
        })+
    };
}
fixed! {
    hash: Hash, 32;
    address: Address, 20;
    assignment_id: AssignmentId, 16;
    task_id: TaskId, 16;
    job_id: JobId, 16;
    nonce: Nonce, 16;
}

pub fn signature() -> impl Strategy<Value = Signature> + Clone {
    vec(any::<u8>(), 65).prop_map(|bytes| Signature::from_slice(&bytes).unwrap())
}

/// Numbers of every width, with the edges of the encodings more often than chance would have them.
pub fn number() -> impl Strategy<Value = u64> + Clone {
    let edges =
        [0, 1, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX];
    prop_oneof![select(edges.to_vec()), any::<u64>(), (0..64_u32, any::<u64>()).prop_map(|(by, n)| n >> by)]
}

pub fn number32() -> impl Strategy<Value = u32> + Clone {
    number().prop_map(|number| number as u32)
}

pub fn amount() -> impl Strategy<Value = Amount> + Clone {
    prop_oneof![
        any::<u128>().prop_map(Amount::from_units),
        number().prop_map(|number| Amount::from_units(number.into())),
        Just(Amount::from_units(u128::MAX)),
    ]
}

/// Texts of any characters; the longest allowed one from time to time.
pub fn text<const MOST: usize>() -> impl Strategy<Value = Text<'static, MOST>> + Clone {
    prop_oneof![
        8 => any::<String>().prop_map(|mut text| {
            while text.len() > MOST {
                text.pop();
            }
            text
        }),
        1 => Just("x".repeat(MOST)),
    ]
    .prop_map(|text| Bounded(keep(text)))
}

pub fn blob<const MOST: usize>() -> impl Strategy<Value = Bounded<&'static [u8], MOST>> + Clone {
    prop_oneof![8 => vec(any::<u8>(), 0..60.min(MOST)), 1 => Just(vec![0xa5; MOST])]
        .prop_map(|bytes| Bounded(keep(bytes)))
}

pub fn list<S, const MOST: usize>(of: S) -> impl Strategy<Value = List<'static, S::Value, MOST>> + Clone
where
    S: Strategy + Clone,
    S::Value: Decode<'static> + Clone + 'static,
{
    let full = of.clone().prop_map(|one| vec![one; MOST]);
    prop_oneof![40 => vec(of, 0..6.min(MOST)), 1 => full].prop_map(|items| List::new(keep(items)))
}

fn kind() -> impl Strategy<Value = Kind> + Clone {
    select(Kind::ALL.to_vec())
}

fn class() -> impl Strategy<Value = Class> + Clone {
    (select(Arch::ALL.to_vec()), 0_u8..=9)
        .prop_map(|(arch, level)| Class { arch, level })
        .prop_filter("there is such a level", |class| class.is_known())
}

fn resources() -> impl Strategy<Value = Resources> + Clone {
    (number32(), number(), number(), number(), number32()).prop_map(
        |(cpu_millis, memory, disk, inodes, pids)| Resources { cpu_millis, memory, disk, inodes, pids },
    )
}

fn ask() -> impl Strategy<Value = Ask> + Clone {
    (amount(), amount(), amount()).prop_map(|(core_second, gib_second, minimum)| Ask {
        core_second,
        gib_second,
        minimum,
    })
}

pub fn usage() -> impl Strategy<Value = Usage> + Clone {
    (number(), number(), number()).prop_map(|(cpu_ns, peak_memory, wall_ms)| Usage {
        cpu_ns,
        peak_memory,
        wall_ms,
    })
}

pub fn cause() -> impl Strategy<Value = Cause> + Clone {
    let words =
        ["exited", "signalled", "out-of-memory", "timed-out", "disk-full", "cannot-start", "no-image"];
    let rest = ["no-input", "device-failed", "cancelled", "no-container"];
    select([&words[..], &rest].concat()).prop_map(|word| Cause::from_word(word).unwrap())
}

fn position() -> impl Strategy<Value = ack::Position> + Clone {
    (kind(), number32(), number()).prop_map(|(kind, epoch, contiguous)| ack::Position {
        kind,
        epoch,
        contiguous,
    })
}

fn statement() -> impl Strategy<Value = pay::Statement> + Clone {
    (number(), address(), amount(), hash(), signature()).prop_map(
        |(chain_id, wallet, cumulative, receipts, signature)| pay::Statement {
            chain_id,
            wallet,
            cumulative,
            receipts,
            signature,
        },
    )
}

pub fn request() -> impl Strategy<Value = enrol::Request<'static>> {
    (nonce(), hash(), blob(), hash(), text(), class(), text()).prop_map(
        |(nonce, secret, csr, encryption_key, agent, class, hostname)| enrol::Request {
            nonce,
            secret,
            csr,
            encryption_key,
            agent,
            class,
            hostname,
        },
    )
}

pub fn renew() -> impl Strategy<Value = enrol::Renew<'static>> {
    (nonce(), blob()).prop_map(|(nonce, csr)| enrol::Renew { nonce, csr })
}

pub fn granted() -> impl Strategy<Value = enrol::Granted<'static>> {
    (nonce(), number(), blob(), list(blob()), number(), text(), text()).prop_map(
        |(nonce, time_ms, certificate, authorities, valid_until_ms, main, content)| enrol::Granted {
            nonce,
            time_ms,
            certificate,
            authorities,
            valid_until_ms,
            main,
            content,
        },
    )
}

pub fn refused() -> impl Strategy<Value = enrol::Refused<'static>> {
    use enrol::Refusal as R;
    let refusals = [
        R::UnknownToken,
        R::ExpiredToken,
        R::UsedToken,
        R::BadDelegation,
        R::BadRequest,
        R::Revoked,
        R::NotEnrolled,
        R::Busy,
    ];
    (nonce(), number(), select(refusals.to_vec()), text()).prop_map(
        |(nonce, time_ms, refusal, explanation)| enrol::Refused { nonce, time_ms, refusal, explanation },
    )
}

pub fn hello() -> impl Strategy<Value = hello::Hello<'static>> {
    let head = (any::<u16>(), any::<u16>(), nonce(), text(), class(), resources(), ask());
    let tail = (list(assignment_id()), proptest::option::of(statement()), list(text()), list(position()));
    let proof = (proptest::option::of(amount()), proptest::option::of(blob()));
    let system = (text(), text(), text(), text())
        .prop_map(|(board, slot, version, boot_image)| hello::System { board, slot, version, boot_image });
    let label = (text(), text()).prop_map(|(name, value)| hello::Label { name, value });
    let metered = proptest::option::of(any::<bool>());
    let machine = (proptest::option::of(system), metered, proptest::option::of(list(label)));
    (head, tail, proof, machine).prop_map(
        |(
            (oldest, newest, nonce, agent, class, resources, ask),
            (held, voucher, missing_limits, positions),
            (exposure_limit, earned),
            (system, metered, labels),
        )| {
            hello::Hello {
                oldest,
                newest,
                nonce,
                agent,
                class,
                resources,
                ask,
                held,
                voucher,
                missing_limits,
                positions,
                exposure_limit,
                earned,
                system,
                metered,
                labels,
            }
        },
    )
}

pub fn welcome() -> impl Strategy<Value = hello::Welcome<'static>> {
    let head = (nonce(), any::<u16>(), number(), number32(), number32());
    (head, list(position()), list(assignment_id()), text(), text()).prop_map(
        |((nonce, version, time_ms, beat_ms, lease_ms), positions, unwanted, main, content)| hello::Welcome {
            nonce,
            version,
            time_ms,
            beat_ms,
            lease_ms,
            positions,
            unwanted,
            main,
            content,
        },
    )
}

pub fn farewell() -> impl Strategy<Value = hello::Farewell<'static>> {
    (nonce(), number(), text()).prop_map(|(nonce, time_ms, explanation)| hello::Farewell {
        nonce,
        time_ms,
        explanation,
    })
}

fn source() -> impl Strategy<Value = work::Source<'static>> + Clone {
    (select(vec![work::SourceKind::Registry, work::SourceKind::Hub]), text())
        .prop_map(|(kind, name)| work::Source { kind, name })
}

fn input() -> impl Strategy<Value = work::Input<'static>> + Clone {
    (hash(), number(), text()).prop_map(|(sha256, length, destination)| work::Input {
        sha256,
        length,
        destination,
    })
}

pub fn assign() -> impl Strategy<Value = work::Assign<'static>> {
    let names = (assignment_id(), task_id(), job_id(), number32(), number32(), amount(), number(), address());
    let image = (hash(), list(source()), list(text()), list(text()), list(text()), text());
    let limits =
        (resources(), number(), number(), select(vec![work::Network::None, work::Network::Internet]));
    let data = (list(input()), list(text()), any::<bool>(), any::<bool>(), number());
    (names, image, limits, data).prop_map(|(names, image, limits, data)| {
        let (assignment, task, job, index, count, price, chain_id, wallet) = names;
        let (image, sources, entrypoint, command, environment, working_dir) = image;
        let (resources, timeout_ms, log_bytes, network) = limits;
        let (inputs, outputs, stdout_counts, commits, lease_until_ms) = data;
        work::Assign {
            assignment,
            task,
            job,
            index,
            count,
            price,
            chain_id,
            wallet,
            image,
            sources,
            entrypoint,
            command,
            environment,
            working_dir,
            resources,
            timeout_ms,
            log_bytes,
            network,
            inputs,
            outputs,
            stdout_counts,
            commits,
            lease_until_ms,
        }
    })
}

pub fn cancel() -> impl Strategy<Value = work::Cancel<'static>> {
    (assignment_id(), text()).prop_map(|(assignment, explanation)| work::Cancel { assignment, explanation })
}

pub fn renewed() -> impl Strategy<Value = work::Renewed<'static>> {
    let lease =
        (assignment_id(), number()).prop_map(|(assignment, until_ms)| work::Lease { assignment, until_ms });
    (list(lease), list(assignment_id())).prop_map(|(leases, lost)| work::Renewed { leases, lost })
}

pub fn accept() -> impl Strategy<Value = work::Accept> {
    assignment_id().prop_map(|assignment| work::Accept { assignment })
}

pub fn refuse() -> impl Strategy<Value = work::Refuse<'static>> {
    use work::Reason as R;
    let reasons = [R::Price, R::NoRoom, R::Exposure, R::Unsupported, R::Draining, R::Malformed, R::Wallet];
    (assignment_id(), select(reasons.to_vec()), text())
        .prop_map(|(assignment, reason, explanation)| work::Refuse { assignment, reason, explanation })
}

pub fn commit() -> impl Strategy<Value = result::Commit> {
    (assignment_id(), hash()).prop_map(|(assignment, commitment)| result::Commit { assignment, commitment })
}

pub fn closed() -> impl Strategy<Value = result::Closed> {
    (assignment_id(), number())
        .prop_map(|(assignment, reveal_by_ms)| result::Closed { assignment, reveal_by_ms })
}

pub fn missing() -> impl Strategy<Value = result::Missing> {
    (assignment_id(), hash()).prop_map(|(assignment, content)| result::Missing { assignment, content })
}

pub fn reveal() -> impl Strategy<Value = result::Reveal> {
    (assignment_id(), cause(), any::<u8>(), hash(), hash(), hash(), number(), usage(), signature()).prop_map(
        |(assignment, cause, exit_code, root, salt, manifest, manifest_length, usage, receipt)| {
            result::Reveal {
                assignment,
                cause,
                exit_code,
                root,
                salt,
                manifest,
                manifest_length,
                usage,
                receipt,
            }
        },
    )
}

pub fn verdict() -> impl Strategy<Value = result::Verdict<'static>> {
    use result::Judgement as J;
    let judgements = [J::Accepted, J::Surplus, J::Wrong, J::Late, J::Void, J::NotRevealed];
    let earned = proptest::option::of(amount());
    (assignment_id(), select(judgements.to_vec()), amount(), text(), earned).prop_map(
        |(assignment, judgement, owed, explanation, earned)| result::Verdict {
            assignment,
            judgement,
            owed,
            explanation,
            earned,
        },
    )
}

pub fn failed() -> impl Strategy<Value = result::Failed<'static>> {
    (assignment_id(), cause(), text()).prop_map(|(assignment, cause, explanation)| result::Failed {
        assignment,
        cause,
        explanation,
    })
}

pub fn issue() -> impl Strategy<Value = pay::Issue<'static>> {
    (statement(), list(assignment_id())).prop_map(|(statement, covers)| pay::Issue { statement, covers })
}

pub fn present() -> impl Strategy<Value = pay::Present<'static>> {
    let verdict = proptest::option::of(blob());
    let one = (assignment_id(), task_id(), hash(), hash(), usage(), amount(), signature(), verdict).prop_map(
        |(assignment, task, image, result, usage, price, signature, verdict)| pay::Presented {
            assignment,
            task,
            image,
            result,
            usage,
            price,
            signature,
            verdict,
        },
    );
    list(one).prop_map(|receipts| pay::Present { receipts })
}

pub fn held() -> impl Strategy<Value = pay::Held> {
    amount().prop_map(|cumulative| pay::Held { cumulative })
}

pub fn ack() -> impl Strategy<Value = ack::Ack<'static>> {
    list(position()).prop_map(|positions| ack::Ack { positions })
}

pub fn beat() -> impl Strategy<Value = beat::Beat<'static>> {
    use beat::Phase as P;
    let phases = [P::Waiting, P::Fetching, P::Running, P::Committed, P::Delivering];
    let progress = (assignment_id(), select(phases.to_vec()), any::<u16>())
        .prop_map(|(assignment, phase, permille)| beat::Progress { assignment, phase, permille });
    (list(progress), resources()).prop_map(|(assignments, free)| beat::Beat { assignments, free })
}

pub fn chunk() -> impl Strategy<Value = log::Chunk<'static>> {
    let stream = select(vec![log::Stream::Stdout, log::Stream::Stderr]);
    (assignment_id(), stream, number(), blob()).prop_map(|(assignment, stream, offset, bytes)| log::Chunk {
        assignment,
        stream,
        offset,
        bytes,
    })
}
