//! The decision about a task's results: pure, so that it can be tried on everything.

use sosna_protocol::{Hash, identity::AssignmentId};

/// One device's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ballot {
    /// Whose.
    pub assignment: AssignmentId,
    /// The result tree's root.
    pub root: Hash,
    /// When the device was bound to it: earlier ones are paid first.
    pub committed_ms: u64,
    /// What it is worth where nobody can confirm it.
    pub standing: Standing,
}

/// What a device's word is worth where nobody can confirm it; more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Standing {
    /// Whether its results need no check.
    pub established: bool,
    /// Its reputation with the task's class of images, in thousandths.
    pub score: u16,
}

/// What follows from the results so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This result counts.
    Accept {
        /// Its root.
        root: Hash,
        /// Who found it and is paid, earliest first: at most as many as were asked for.
        paid: Vec<AssignmentId>,
        /// Who found it beyond that number.
        surplus: Vec<AssignmentId>,
        /// Who found something else.
        wrong: Vec<AssignmentId>,
    },
    /// So many results in all may decide it.
    More(u32),
    /// They will not agree.
    GiveUp,
    /// Nobody confirms anything, and nobody needs to: this one counts, because one was asked for.
    Single(AssignmentId),
}

/// How many results are asked for at most, where `asked` were at first.
#[must_use]
pub(super) fn most(asked: u32) -> u32 {
    if asked <= 1 { 1 } else { asked.saturating_add(2).max(5) }
}

/// Decides: a result counts when more than half of all that came in, and at least two where more than one was
/// asked for, found it. Otherwise there must be more: of 2 become 3, of 3 become 5 (iExec and BOINC escalate
/// alike), until [`most`].
#[must_use]
pub fn decide(asked: u32, ballots: &[Ballot]) -> Decision {
    let count = u32::try_from(ballots.len()).unwrap_or(u32::MAX);
    let votes = |root: &Hash| ballots.iter().filter(|ballot| ballot.root == *root).count();
    let least = if asked > 1 { 2 } else { 1 };
    let winner = ballots.iter().map(|ballot| ballot.root).find(|root| {
        let votes = votes(root);
        votes >= least && votes * 2 > ballots.len()
    });
    let Some(root) = winner else {
        let more = if count < 3 { 3 } else { count.saturating_add(2 - (count + 1) % 2).max(5) };
        return if count >= most(asked) { Decision::GiveUp } else { Decision::More(more.min(most(asked))) };
    };
    let mut right: Vec<&Ballot> = ballots.iter().filter(|ballot| ballot.root == root).collect();
    right.sort_by_key(|ballot| (ballot.committed_ms, ballot.assignment));
    let mut paid: Vec<AssignmentId> = right.iter().map(|ballot| ballot.assignment).collect();
    let surplus = paid.split_off(paid.len().min(usize::try_from(asked).unwrap_or(usize::MAX)));
    let wrong = ballots.iter().filter(|ballot| ballot.root != root).map(|ballot| ballot.assignment).collect();
    Decision::Accept { root, paid, surplus, wrong }
}

/// Decides about a task whose buyer asked for one result, and of which the hub wanted a second to check a device: like
/// two that were asked for, but with three results at most, and where these do not agree, or there is nobody for a
/// third (`is_open` is not), the best standing counts. A buyer who asked for one result may have asked for one that is
/// never found twice.
#[must_use]
pub fn decide_checked(is_open: bool, ballots: &[Ballot]) -> Decision {
    match decide(super::check::REPLICAS, ballots) {
        accept @ Decision::Accept { .. } if is_open => accept,
        more @ Decision::More(_) if is_open && ballots.len() < 3 => more,
        // Without a check nothing is set aside for a second one.
        _ => in_standing(ballots).first().map_or(Decision::More(1), |best| Decision::Single(best.assignment)),
    }
}

/// The best standing first, and among equals who was bound first.
#[must_use]
pub(super) fn in_standing(ballots: &[Ballot]) -> Vec<&Ballot> {
    let mut ordered: Vec<&Ballot> = ballots.iter().collect();
    ordered.sort_by_key(|one| (std::cmp::Reverse(one.standing), one.committed_ms, one.assignment));
    ordered
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn ballots(roots: &[u8]) -> Vec<Ballot> {
        let ballot = |(place, root): (usize, &u8)| Ballot {
            assignment: AssignmentId([u8::try_from(place).unwrap(); 16]),
            root: Hash([*root; 32]),
            committed_ms: 0,
            standing: Standing::default(),
        };
        roots.iter().enumerate().map(ballot).collect()
    }

    #[test]
    fn two_that_agree_are_paid() {
        let Decision::Accept { paid, surplus, wrong, .. } = decide(2, &ballots(&[7, 7])) else { panic!() };
        assert_eq!((paid.len(), surplus.len(), wrong.len()), (2, 0, 0));
    }

    #[test]
    fn disagreement_escalates_from_two_to_three_to_five_and_ends() {
        assert_eq!(decide(2, &ballots(&[1, 2])), Decision::More(3));
        assert_eq!(decide(2, &ballots(&[1, 2, 3])), Decision::More(5));
        assert_eq!(decide(2, &ballots(&[1, 2, 3, 4])), Decision::More(5));
        assert_eq!(decide(2, &ballots(&[1, 2, 3, 4, 5])), Decision::GiveUp);
        assert_eq!(decide(2, &ballots(&[1, 1, 2, 2, 3])), Decision::GiveUp, "two of five are no majority");
        assert_eq!(decide(5, &ballots(&[1, 1, 2, 2, 3])), Decision::More(7));
    }

    #[test]
    fn the_third_finds_the_liar_and_is_paid() {
        let Decision::Accept { paid, wrong, .. } = decide(2, &ballots(&[9, 1, 1])) else { panic!() };
        assert_eq!(paid, [AssignmentId([1; 16]), AssignmentId([2; 16])]);
        assert_eq!(wrong, [AssignmentId([0; 16])]);
    }

    #[test]
    fn a_single_result_counts_where_one_was_asked_for() {
        assert!(matches!(decide(1, &ballots(&[4])), Decision::Accept { .. }));
        assert_eq!(decide(2, &ballots(&[4])), Decision::More(3));
    }

    #[test]
    fn a_check_ends_with_three_and_the_buyer_gets_a_result_in_any_case() {
        let with = |roots: &[u8], established: usize| {
            let mut all = ballots(roots);
            all[established].standing = Standing { established: true, score: 10 };
            all
        };
        let Decision::Accept { paid, .. } = decide_checked(true, &with(&[7, 7], 1)) else { panic!() };
        assert_eq!(paid.len(), 2);
        assert_eq!(decide_checked(true, &with(&[1, 2], 1)), Decision::More(3));
        let Decision::Accept { wrong, .. } = decide_checked(true, &with(&[1, 2, 2], 1)) else { panic!() };
        assert_eq!(wrong, [AssignmentId([0; 16])]);
        assert_eq!(decide_checked(true, &with(&[1, 2, 3], 2)), Decision::Single(AssignmentId([2; 16])));
        assert_eq!(decide_checked(false, &with(&[1, 2], 1)), Decision::Single(AssignmentId([1; 16])));
        assert_eq!(decide_checked(false, &with(&[1], 0)), Decision::Single(AssignmentId([0; 16])));
        assert_eq!(decide_checked(false, &with(&[1, 1], 1)), Decision::Single(AssignmentId([1; 16])));
        assert_eq!(decide_checked(false, &[]), Decision::More(1));
    }

    proptest! {
        #[test]
        fn nobody_is_paid_for_what_the_majority_did_not_find(
            asked in 1_u32..6,
            roots in prop::collection::vec(0_u8..3, 1..9),
        ) {
            let all = ballots(&roots);
            match decide(asked, &all) {
                Decision::Accept { root, paid, surplus, wrong } => {
                    prop_assert_eq!(paid.len() + surplus.len() + wrong.len(), all.len());
                    prop_assert!(paid.len() <= asked as usize);
                    prop_assert!((paid.len() + surplus.len()) * 2 > all.len());
                    for ballot in &all {
                        prop_assert_eq!(wrong.contains(&ballot.assignment), ballot.root != root);
                    }
                }
                Decision::More(wanted) => {
                    prop_assert!(wanted as usize > all.len());
                    prop_assert!(wanted <= most(asked));
                }
                Decision::GiveUp => prop_assert!(all.len() >= most(asked) as usize),
                Decision::Single(_) => prop_assert!(false, "nobody asked for a check"),
            }
        }
    }
}
