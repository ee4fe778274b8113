//! Whether a voucher is worth keeping. A pure function: what the hub signed against what this device has signed.

use sosna_protocol::{
    Address, Amount, Hash,
    eip712::{Domain, Typed as _, receipts_root},
    identity::{AssignmentId, SignatureError},
    message::pay::Statement,
};

use crate::store::record::ReceiptRecord;

/// What a voucher is to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// Better than what it holds, by so much more than the receipts that it names.
    Better {
        /// More than is due.
        above: Amount,
    },
    /// From before the one that it holds, which came first and pays for this one's receipts too.
    Earlier {
        /// What the receipts that it names make.
        due: Amount,
    },
    /// The very one that it holds, or an earlier one once more.
    Known,
}

/// Why a voucher is not accepted. It is kept as evidence where the hub did sign it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// The signature is not the hub's, or it is for another device.
    #[error("the voucher is not signed by the hub for this device")]
    Signature(#[source] SignatureError),
    /// A chain or wallet other than the assignments'.
    #[error("the voucher is for another chain or wallet than the work was agreed in")]
    Domain,
    /// Less than an earlier one.
    #[error("the voucher says {found}, an earlier one said {held}")]
    Shrinks {
        /// Now.
        found: Amount,
        /// Before.
        held: Amount,
    },
    /// Names work that this device has no receipt for.
    #[error("the voucher names assignment {0}, of which this device has no receipt")]
    Unknown(AssignmentId),
    /// Names a receipt twice.
    #[error("the voucher names assignment {0} again, which an earlier one covers")]
    CoveredBefore(AssignmentId),
    /// The root is over other receipts than the list says.
    #[error("the voucher's root is not that of the receipts which it names")]
    Root,
    /// The increase does not pay for the receipts.
    #[error("the voucher raises the sum by {increase}; the receipts that it names make {due}")]
    Underpays {
        /// By how much it rises.
        increase: Amount,
        /// What it should rise by.
        due: Amount,
    },
    /// The amounts do not fit into any number.
    #[error("the voucher's amounts are larger than any that can exist")]
    Overflow,
}

/// Judges a voucher. `receipt` finds this device's receipts. More than is due is accepted: it harms nobody here.
///
/// Frames may overtake each other, above all where a device comes back while the hub issues the next voucher: `held` is the
/// best one so far with how much it is above all receipts that were named, and one over less counts as long as that pays
/// for what it names.
///
/// # Errors
/// [`VoucherError`].
pub fn judge<E: From<VoucherError>>(
    device: Address,
    hub: &Address,
    statement: &Statement,
    covers: impl Iterator<Item = AssignmentId>,
    held: Option<(&Statement, Amount)>,
    mut receipt: impl FnMut(&AssignmentId) -> Result<Option<ReceiptRecord>, E>,
) -> Result<Voucher, E> {
    let (voucher, domain) = statement.voucher(device);
    voucher.verify(&domain, &statement.signature, hub).map_err(VoucherError::Signature)?;
    if held.is_some_and(|(held, _)| held == statement) {
        return Ok(Voucher::Known);
    }
    if let Some((held, _)) = held
        && (Domain { chain_id: held.chain_id, wallet: held.wallet }) != domain
    {
        return Err(VoucherError::Domain.into());
    }
    let before = held.map_or(Amount::ZERO, |(held, _)| held.cumulative);
    let increase = statement.cumulative.checked_sub(before);
    let mut covered = Vec::new();
    let mut due = Amount::ZERO;
    let mut digests: Vec<Hash> = Vec::new();
    let mut names: Vec<AssignmentId> = Vec::new();
    for assignment in covers {
        let Some(record) = receipt(&assignment)? else {
            return Err(VoucherError::Unknown(assignment).into());
        };
        if names.contains(&assignment) {
            return Err(VoucherError::CoveredBefore(assignment).into());
        }
        if record.covered_ms.is_some() {
            covered.push(assignment);
        }
        if record.domain() != domain {
            return Err(VoucherError::Domain.into());
        }
        due = due.checked_add(record.price).ok_or(VoucherError::Overflow)?;
        digests.push(record.receipt().digest(&domain));
        names.push(assignment);
    }
    if receipts_root(digests) != statement.receipts {
        return Err(VoucherError::Root.into());
    }
    let is_repeated = increase.is_none() && !covered.is_empty() && covered.len() == names.len();
    if is_repeated {
        return Ok(Voucher::Known);
    }
    if let Some(assignment) = covered.first() {
        return Err(VoucherError::CoveredBefore(*assignment).into());
    }
    let Some(increase) = increase else {
        let is_paid = !names.is_empty() && held.is_some_and(|(_, above)| due <= above);
        return match is_paid {
            true => Ok(Voucher::Earlier { due }),
            false => Err(VoucherError::Shrinks { found: statement.cumulative, held: before }.into()),
        };
    };
    match increase.checked_sub(due) {
        Some(above) => Ok(Voucher::Better { above }),
        None => Err(VoucherError::Underpays { increase, due }.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_host::identity::IdentityKey;
    use sosna_protocol::{
        Signature,
        identity::{Sign as _, TaskId},
    };

    use super::*;

    struct Bench {
        hub: IdentityKey,
        device: IdentityKey,
        receipts: Vec<ReceiptRecord>,
    }

    impl Bench {
        fn new() -> Self {
            let (hub, device) = (IdentityKey::generate(), IdentityKey::generate());
            let receipts = (1..=3).map(|n| Self::receipt(&hub, &device, n)).collect();
            Self { hub, device, receipts }
        }

        fn receipt(hub: &IdentityKey, device: &IdentityKey, n: u8) -> ReceiptRecord {
            ReceiptRecord {
                assignment: AssignmentId([n; 16]),
                task: TaskId([n; 16]),
                hub: hub.address(),
                device: device.address(),
                image: Hash([n; 32]),
                result: Hash([n; 32]),
                cpu_ns: 1,
                peak_memory: 2,
                wall_ms: 3,
                price: Amount::from_units(u128::from(n) * 100),
                chain_id: 0,
                wallet: hub.address(),
                signature: Signature::ZERO,
                made_ms: 0,
                judgement: Some("accepted".into()),
                covered_ms: None,
            }
        }

        fn statement(&self, signer: &IdentityKey, device: Address, units: u128, names: &[u8]) -> Statement {
            let domain = Domain::off_chain(self.hub.address());
            let digests = names.iter().map(|n| self.receipts[usize::from(*n) - 1].receipt().digest(&domain));
            let voucher = sosna_protocol::eip712::Voucher {
                device,
                cumulative: Amount::from_units(units),
                receipts: receipts_root(digests),
            };
            Statement {
                chain_id: domain.chain_id,
                wallet: domain.wallet,
                cumulative: voucher.cumulative,
                receipts: voucher.receipts,
                signature: voucher.sign(&domain, signer).unwrap(),
            }
        }

        fn ours(&self, units: u128, names: &[u8]) -> Statement {
            self.statement(&self.hub, self.device.address(), units, names)
        }

        fn judge(
            &self,
            statement: &Statement,
            names: &[u8],
            held: Option<&Statement>,
        ) -> Result<Voucher, VoucherError> {
            self.judge_with(statement, names, held.map(|held| (held, Amount::ZERO)))
        }

        fn judge_with(
            &self,
            statement: &Statement,
            names: &[u8],
            held: Option<(&Statement, Amount)>,
        ) -> Result<Voucher, VoucherError> {
            let covers = names.iter().map(|n| AssignmentId([*n; 16]));
            judge(self.device.address(), &self.hub.address(), statement, covers, held, |name| {
                Ok(self.receipts.iter().find(|receipt| receipt.assignment == *name).cloned())
            })
        }
    }

    #[test]
    fn a_voucher_that_pays_is_better_and_then_known() {
        let bench = Bench::new();
        let first = bench.ours(300, &[1, 2]);
        let exactly = Ok(Voucher::Better { above: Amount::ZERO });
        assert_eq!(bench.judge(&first, &[1, 2], None), exactly);
        assert_eq!(bench.judge(&first, &[1, 2], Some(&first)), Ok(Voucher::Known));
        let more = bench.ours(10_000, &[3]);
        let above = Amount::from_units(10_000 - 300 - 300);
        let more = bench.judge(&more, &[3], Some(&first));
        assert_eq!(more, Ok(Voucher::Better { above }), "more than due harms nobody");
    }

    #[test]
    fn a_voucher_that_was_overtaken_counts_once_and_only_as_far_as_the_better_one_pays_for_it() {
        let mut bench = Bench::new();
        let units = Amount::from_units;
        let (first, second) = (bench.ours(300, &[1, 2]), bench.ours(600, &[3]));
        assert_eq!(bench.judge(&second, &[3], None), Ok(Voucher::Better { above: units(300) }));
        bench.receipts[2].covered_ms = Some(1);
        let earlier = bench.judge_with(&first, &[1, 2], Some((&second, units(300))));
        assert_eq!(earlier, Ok(Voucher::Earlier { due: units(300) }));
        let unpaid = bench.judge_with(&first, &[1, 2], Some((&second, units(299))));
        assert!(matches!(unpaid, Err(VoucherError::Shrinks { .. })), "the better one is not for these");
        bench.receipts[0].covered_ms = Some(1);
        let mixed = bench.judge_with(&first, &[1, 2], Some((&second, units(300))));
        assert!(matches!(mixed, Err(VoucherError::CoveredBefore(_))), "each is named once");
        bench.receipts[1].covered_ms = Some(1);
        assert_eq!(bench.judge_with(&first, &[1, 2], Some((&second, Amount::ZERO))), Ok(Voucher::Known));
    }

    #[test]
    fn a_voucher_that_shrinks_or_underpays_is_refused() {
        let bench = Bench::new();
        let first = bench.ours(300, &[1, 2]);
        let shrunk = bench.ours(299, &[]);
        assert!(matches!(bench.judge(&shrunk, &[], Some(&first)), Err(VoucherError::Shrinks { .. })));
        let cheap = bench.ours(299, &[1, 2]);
        assert!(matches!(bench.judge(&cheap, &[1, 2], None), Err(VoucherError::Underpays { .. })));
        let later = bench.ours(599, &[3]);
        assert!(matches!(bench.judge(&later, &[3], Some(&first)), Err(VoucherError::Underpays { .. })));
    }

    #[test]
    fn a_voucher_over_other_receipts_is_refused() {
        let mut bench = Bench::new();
        let statement = bench.ours(300, &[1, 2]);
        assert_eq!(bench.judge(&statement, &[2, 1], None), Err(VoucherError::Root), "the order counts");
        assert_eq!(bench.judge(&statement, &[1], None), Err(VoucherError::Root));
        assert!(matches!(bench.judge(&statement, &[1, 9], None), Err(VoucherError::Unknown(_))));
        let twice = bench.ours(300, &[1, 1]);
        assert!(matches!(bench.judge(&twice, &[1, 1], None), Err(VoucherError::CoveredBefore(_))));
        bench.receipts[0].covered_ms = Some(1);
        assert!(matches!(bench.judge(&statement, &[1, 2], None), Err(VoucherError::CoveredBefore(_))));
    }

    #[test]
    fn another_hubs_device_or_chain_is_refused() {
        let mut bench = Bench::new();
        let stranger = IdentityKey::generate();
        let forged = bench.statement(&stranger, bench.device.address(), 300, &[1, 2]);
        assert!(matches!(bench.judge(&forged, &[1, 2], None), Err(VoucherError::Signature(_))));
        let others = bench.statement(&bench.hub, stranger.address(), 300, &[1, 2]);
        assert!(matches!(bench.judge(&others, &[1, 2], None), Err(VoucherError::Signature(_))));
        bench.receipts[1].chain_id = 1;
        let mixed = bench.ours(300, &[1, 2]);
        assert_eq!(bench.judge(&mixed, &[1, 2], None), Err(VoucherError::Domain));
    }
}
