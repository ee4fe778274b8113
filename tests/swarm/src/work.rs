//! What a device does for an assignment. Nothing is executed: what comes out follows from what was asked for, so that
//! honest devices agree, as they do where a real task is deterministic.

use sosna_host::manifest::{Blob, Manifest};
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    codec::Bounded,
    eip712::{Domain, Receipt, Typed as _},
    hash::sha256,
    identity::{AssignmentId, Sign as _, TaskId},
    message::{
        beat::Phase,
        result::{Commit, Reveal},
        work::Assign,
    },
    resources::Resources,
    result::{Cause, Usage, commitment},
};

use crate::conduct::Conduct;

/// How far an assignment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Until then, milliseconds of the swarm's own time.
    Running { until_ms: u64 },
    /// Waits until the hub closes commitments.
    Committed,
    /// Its content is on its way to the hub.
    Bringing,
    /// The result was shown; the verdict is waited for.
    Shown,
    /// The device does nothing more for it.
    Neglected,
}

/// An assignment that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) id: AssignmentId,
    pub(crate) task: TaskId,
    pub(crate) image: Hash,
    pub(crate) price: Amount,
    pub(crate) domain: Domain,
    pub(crate) resources: Resources,
    pub(crate) commits: bool,
    stdout_counts: bool,
    /// What an honest device finds.
    answer: Hash,
    salt: Hash,
    started_ms: u64,
    pub(crate) step: Step,
}

/// A result, and the content that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) reveal: Reveal,
    pub(crate) commit: Commit,
    pub(crate) receipt: Hash,
    pub(crate) pieces: Vec<Vec<u8>>,
}

/// Who makes a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker<'a> {
    pub(crate) key: &'a sosna_host::identity::IdentityKey,
    pub(crate) hub: Address,
    pub(crate) conduct: Conduct,
}

// === impl Work ===

impl Work {
    pub(crate) fn new(assign: &Assign<'_>, now_ms: u64, until_ms: u64, salt: [u8; 32]) -> Self {
        Self {
            id: assign.assignment,
            task: assign.task,
            image: assign.image,
            price: assign.price,
            domain: assign.domain(),
            resources: assign.resources,
            commits: assign.commits,
            stdout_counts: assign.stdout_counts,
            answer: answer(assign),
            salt: Hash(salt),
            started_ms: now_ms,
            step: Step::Running { until_ms },
        }
    }

    /// What a beat says about it.
    pub(crate) const fn phase(&self) -> Phase {
        match self.step {
            Step::Running { .. } | Step::Neglected => Phase::Running,
            Step::Committed => Phase::Committed,
            Step::Bringing | Step::Shown => Phase::Delivering,
        }
    }

    /// Whether it takes up what was asked for it.
    pub(crate) const fn has_room(&self) -> bool {
        matches!(self.step, Step::Running { .. } | Step::Neglected)
    }

    /// The result. The same each time it is asked for, but for the time it took.
    pub(crate) fn make(&self, maker: Maker<'_>, now_ms: u64) -> Made {
        let device = maker.key.address();
        let stdout = match maker.conduct {
            Conduct::Liar => format!("{} is what {device} would like it to be\n", self.answer),
            Conduct::Colluder => format!("{} is what we have agreed upon\n", self.answer),
            _ => format!("{}\n", self.answer),
        };
        let blob = |bytes: &[u8]| Blob::new(&sha256(bytes), bytes.len() as u64);
        let manifest = Manifest {
            version: 1,
            cause: Cause::Exited.word().to_owned(),
            exit_code: 0,
            stdout: blob(stdout.as_bytes()),
            stderr: blob(b""),
            outputs: Vec::new(),
            left_out: Vec::new(),
        };
        let root = manifest.root(self.stdout_counts).expect("a manifest of our own making is a result");
        let json = manifest.to_json();
        let wall_ms = now_ms.saturating_sub(self.started_ms);
        let usage = match maker.conduct {
            Conduct::Boaster => Usage { cpu_ns: u64::MAX, peak_memory: u64::MAX, wall_ms: u64::MAX },
            _ => Usage { cpu_ns: wall_ms * 900_000, peak_memory: self.resources.memory / 3, wall_ms },
        };
        let receipt = Receipt {
            hub: maker.hub,
            device,
            assignment: self.id,
            task: self.task,
            image: self.image,
            result: root,
            usage,
            price: self.price,
        };
        let signature: Signature = receipt.sign(&self.domain, maker.key).expect("a key in memory signs");
        let shown_salt = match maker.conduct {
            Conduct::Resalter => sha256(&self.salt.0),
            _ => self.salt,
        };
        let committed = match maker.conduct {
            // Whose it is does not matter: it is not this one's.
            Conduct::Copier => maker.hub,
            _ => device,
        };
        Made {
            commit: Commit {
                assignment: self.id,
                commitment: commitment(&maker.hub, &self.id, &committed, &root, &self.salt),
            },
            reveal: Reveal {
                assignment: self.id,
                cause: Cause::Exited,
                exit_code: 0,
                root,
                salt: shown_salt,
                manifest: sha256(&json),
                manifest_length: json.len() as u64,
                usage,
                receipt: signature,
            },
            receipt: receipt.digest(&self.domain),
            pieces: vec![stdout.into_bytes(), Vec::new(), json],
        }
    }
}

/// What a deterministic task writes: a digest of everything that it is made of.
fn answer(assign: &Assign<'_>) -> Hash {
    let mut all = assign.image.0.to_vec();
    let mut add = |part: &[u8]| {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    };
    for texts in [&assign.entrypoint, &assign.command, &assign.environment] {
        texts.iter().for_each(|Bounded(text)| add(text.as_bytes()));
        add(b"");
    }
    assign.inputs.iter().for_each(|input| add(&input.sha256.0));
    sha256(&all)
}
