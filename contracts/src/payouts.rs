//! The tree of payouts, whole: roots, proofs of one line, proofs of many.

use std::collections::HashSet;

use sosna_protocol::{Address, Amount, Hash, payout};

use crate::{address, amount, bindings::HubWallet, hash};

/// What a hub owes a device in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Whom.
    pub device: Address,
    /// All that was ever earned, paid out or not.
    pub cumulative: Amount,
}

/// Why there is no such tree or proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayoutsError {
    /// Nobody is owed anything.
    #[error("a tree of payouts needs at least one line")]
    Empty,
    /// More lines than a tree has.
    #[error("a tree of payouts has at most {} lines", payout::MAX_LINES)]
    TooMany,
    /// One device twice: only one of its lines could ever be paid in full.
    #[error("the device {0} stands in the list twice")]
    Duplicate(Address),
    /// More than there can be.
    #[error("the sum of the list is more than 2^128 - 1 units")]
    Overflow,
    /// A proof of nothing, or of lines that are not there or not in their order.
    #[error("a proof is of one or more lines of the list, each once and in their order")]
    NoSuchLines,
}

/// A tree of payouts. Takes 116 bytes of memory a line.
#[derive(Debug, Clone)]
pub struct Payouts {
    lines: Vec<Line>,
    /// See [`payout`]: the first line is the last.
    heap: Vec<Hash>,
    total: Amount,
}

/// That several lines are in a tree, as OpenZeppelin's `MerkleProof` wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multiproof {
    /// The lines, in the list's order.
    pub lines: Vec<Line>,
    /// Nodes that cannot be reckoned from the lines.
    pub proof: Vec<Hash>,
    /// For each step, whether the other child was reckoned (or else is the next of `proof`).
    pub flags: Vec<bool>,
    /// How many lines the whole tree has.
    pub count: u32,
}

// === impl Payouts ===

impl Payouts {
    /// Makes the tree over a list. Lines that will be settled together should stand together: their proofs are shorter,
    /// and the wallet pays neighbours of one payee by one transfer.
    ///
    /// # Errors
    /// [`PayoutsError`].
    pub fn new(lines: Vec<Line>) -> Result<Self, PayoutsError> {
        if lines.is_empty() {
            return Err(PayoutsError::Empty);
        }
        if u32::try_from(lines.len()).is_ok_and(|count| count <= payout::MAX_LINES) {
            let mut seen = HashSet::with_capacity(lines.len());
            if let Some(twice) = lines.iter().find(|line| !seen.insert(line.device)) {
                return Err(PayoutsError::Duplicate(twice.device));
            }
        } else {
            return Err(PayoutsError::TooMany);
        }
        let sum = lines.iter().try_fold(Amount::ZERO, |sum, line| sum.checked_add(line.cumulative));
        let total = sum.ok_or(PayoutsError::Overflow)?;
        let mut heap = vec![Hash::ZERO; lines.len() - 1];
        heap.extend(lines.iter().rev().map(|line| payout::leaf(&line.device, line.cumulative)));
        for at in (0..lines.len() - 1).rev() {
            heap[at] = payout::node(&heap[2 * at + 1], &heap[2 * at + 2]);
        }
        Ok(Self { lines, heap, total })
    }

    /// Its lines, in the list's order.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How many lines it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.lines.len()).unwrap_or(payout::MAX_LINES)
    }

    /// What all devices are owed.
    #[must_use]
    pub const fn total(&self) -> Amount {
        self.total
    }

    /// What is posted on the chain.
    #[must_use]
    pub fn root(&self) -> Hash {
        payout::root(self.count(), &self.heap[0])
    }

    /// The hashes beside the way up from the line at `index`; `None` where there is no such line.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Vec<Hash>> {
        let mut at = self.place(index)?;
        let mut path = Vec::new();
        while at > 0 {
            path.push(self.heap[sibling(at)]);
            at = (at - 1) / 2;
        }
        Some(path)
    }

    /// One proof of the lines at `indices`, which grow.
    ///
    /// # Errors
    /// [`PayoutsError::NoSuchLines`].
    pub fn multiproof(&self, indices: &[usize]) -> Result<Multiproof, PayoutsError> {
        let is_growing = indices.is_sorted_by(|one, next| one < next);
        let places: Option<Vec<usize>> = indices.iter().map(|index| self.place(*index)).collect();
        let mut queue =
            places.filter(|places| !places.is_empty() && is_growing).ok_or(PayoutsError::NoSuchLines)?;
        let (mut proof, mut flags, mut head) = (Vec::new(), Vec::new(), 0);
        while let Some(at) = queue.get(head).copied().filter(|at| *at > 0) {
            head += 1;
            let is_reckoned = queue.get(head) == Some(&sibling(at));
            if is_reckoned {
                head += 1;
            } else {
                proof.push(self.heap[sibling(at)]);
            }
            flags.push(is_reckoned);
            queue.push((at - 1) / 2);
        }
        let lines = indices.iter().map(|index| self.lines[*index]).collect();
        Ok(Multiproof { lines, proof, flags, count: self.count() })
    }

    fn place(&self, index: usize) -> Option<usize> {
        (index < self.lines.len()).then(|| self.heap.len() - 1 - index)
    }
}

/// The other child of a node's parent. The root has none.
const fn sibling(at: usize) -> usize {
    if at.is_multiple_of(2) { at - 1 } else { at + 1 }
}

// === impl Multiproof ===

impl Multiproof {
    /// The call that pays its devices; whoever calls keeps `share_per_mille` thousandths, or what each device allows.
    #[must_use]
    pub fn settle(&self, share_per_mille: u16) -> HubWallet::settleCall {
        let leaf = |line: &Line| HubWallet::Leaf {
            device: address(&line.device),
            cumulative: amount(line.cumulative),
        };
        HubWallet::settleCall {
            leaves: self.lines.iter().map(leaf).collect(),
            proof: self.proof.iter().map(hash).collect(),
            flags: self.flags.clone(),
            count: alloy_primitives::U256::from(self.count),
            share: alloy_primitives::U256::from(share_per_mille),
        }
    }

    /// The root that it leads to; `None` where it leads nowhere.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        let mut hashes: Vec<Hash> =
            self.lines.iter().map(|line| payout::leaf(&line.device, line.cumulative)).collect();
        let (mut proof, mut head) = (self.proof.iter(), 0);
        for is_reckoned in &self.flags {
            let one = *hashes.get(head)?;
            head += 1;
            let other = if *is_reckoned {
                head += 1;
                *hashes.get(head - 1)?
            } else {
                *proof.next()?
            };
            hashes.push(payout::node(&one, &other));
        }
        let is_whole = proof.next().is_none() && head + 1 == hashes.len();
        hashes.last().filter(|_| is_whole).map(|top| payout::root(self.count, top))
    }
}
