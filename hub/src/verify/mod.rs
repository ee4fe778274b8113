//! Verification: who has to agree, when commitments close, what a result is worth.
//!
//! Nobody is paid for a result that others of other owners contradict, and nobody learns another's result before
//! being bound to an own one: a round of a replicated task takes commitments until as many are there as are
//! wanted, then closes, and only then are results shown.

mod check;
mod decide;
mod judge;
mod round;

pub(crate) use check::{afford, begin, budget_left, give_up_check, may_begin, release, room};
pub use decide::{Ballot, Decision, Standing, decide, decide_checked};
pub(crate) use judge::{ask_again_at, fail_task};
pub use judge::{give_up, give_up_by, judge};
pub(crate) use round::{close_if_complete, expire_reveals};
