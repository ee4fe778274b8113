//! Sharing in proportion, exactly.

use alloy_primitives::U256;

/// New credit of a computer, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct New {
    pub(super) host: u64,
    pub(super) credit: u128,
}

/// More than there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overflow;

/// `amount * part / whole`, rounded down; nothing of nothing.
pub(super) fn scaled(amount: u128, part: u128, whole: u128) -> Result<u128, Overflow> {
    if whole == 0 {
        return Ok(0);
    }
    // Two of 128 bits have a product of 256 at most.
    let product = U256::from(amount) * U256::from(part);
    (product / U256::from(whole)).try_into().map_err(|_| Overflow)
}

/// What becomes of a computer's new credit, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) host: u64,
    /// What is paid.
    pub(super) paid: u128,
    /// What is not new any more.
    pub(super) counted: u128,
}

/// What of the new credit of a user's computers is paid, where the user's own has grown by so much: all of it, or what
/// the user has in proportion to it.
///
/// The rest is credit that was another computer's before, and is not new any more either. But so much of it as all
/// computers together are `ahead` of the user is still to come: projects write one file after the other.
pub(super) fn within(new: &[New], grown: u128, ahead: u128) -> Result<Vec<Share>, Overflow> {
    let sum = new.iter().try_fold(0_u128, |sum, one| sum.checked_add(one.credit)).ok_or(Overflow)?;
    let share = |one: &New| {
        let paid = if sum <= grown { one.credit } else { scaled(grown, one.credit, sum)? };
        let later = scaled(ahead.min(sum), one.credit, sum)?;
        Ok(Share { host: one.host, paid, counted: (one.credit - later).max(paid) })
    };
    new.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn paid_and_counted(credit: &[u128], grown: u128, ahead: u128) -> Vec<(u128, u128)> {
        let new: Vec<New> =
            credit.iter().zip(1..).map(|(credit, host)| New { host, credit: *credit }).collect();
        within(&new, grown, ahead).unwrap().iter().map(|one| (one.paid, one.counted)).collect()
    }

    #[test]
    fn a_merge_is_no_work_and_what_the_user_lags_behind_comes_later() {
        assert_eq!(paid_and_counted(&[], 9, 0), []);
        assert_eq!(paid_and_counted(&[100, 300], 400, 0), [(100, 100), (300, 300)]);
        // A computer of 500 became part of this one, which did nothing, or 250.
        assert_eq!(paid_and_counted(&[500], 0, 0), [(0, 500)]);
        assert_eq!(paid_and_counted(&[750], 250, 0), [(250, 750)]);
        // The user's file is older than the computers' by 40.
        assert_eq!(paid_and_counted(&[100, 300], 360, 40), [(90, 90), (270, 270)]);
        assert_eq!(paid_and_counted(&[100], 0, 100), [(0, 0)]);
        // Both at once.
        assert_eq!(paid_and_counted(&[640], 100, 40), [(100, 600)]);
        let too_much = [New { host: 1, credit: u128::MAX }, New { host: 2, credit: 1 }];
        assert_eq!(within(&too_much, 5, 0), Err(Overflow));
    }

    proptest! {
        #[test]
        fn no_user_is_paid_for_more_than_there_is(
            credits in prop::collection::vec(0_u128..1 << 90, 0..20),
            grown in 0_u128..1 << 90,
            ahead in 0_u128..1 << 90,
        ) {
            let new: Vec<New> =
                credits.iter().zip(1..).map(|(credit, host)| New { host, credit: *credit }).collect();
            let shares = within(&new, grown, ahead).unwrap();
            let paid: u128 = shares.iter().map(|one| one.paid).sum();
            prop_assert!(paid <= grown);
            for (one, other) in shares.iter().zip(&new) {
                prop_assert!(one.host == other.host && one.paid <= one.counted && one.counted <= other.credit);
            }
            // Less than a millionth a computer is lost to rounding.
            let all: u128 = credits.iter().sum();
            prop_assert!(all.min(grown) - paid <= new.len() as u128);
        }

        #[test]
        fn shares_of_a_pot_are_in_proportion_and_never_more_than_it(
            credits in prop::collection::vec(1_u128..1 << 86, 1..20),
            pot in 1_u128..1 << 89,
        ) {
            let whole: u128 = credits.iter().sum();
            let shares: Vec<u128> = credits.iter().map(|one| scaled(pot, *one, whole).unwrap()).collect();
            let sum: u128 = shares.iter().sum();
            prop_assert!(sum <= pot && pot - sum < credits.len() as u128);
            for (share, credit) in shares.iter().zip(&credits) {
                let exact = U256::from(pot) * U256::from(*credit);
                prop_assert!(U256::from(*share) * U256::from(whole) <= exact);
                prop_assert!(U256::from(*share + 1) * U256::from(whole) > exact);
            }
        }
    }
}
