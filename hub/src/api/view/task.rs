//! Tasks and assignments.

use sosna_api::{
    task::{Assignment, AssignmentState, Task, TaskState, Unplaced},
    text::{ClassText, ReasonText},
};
use sosna_protocol::{
    Amount,
    resources::{Arch, Class},
    result::Cause,
};
use sosna_store::TaskState as StoredState;

use crate::{hub::Hub, job::JobSpec};

/// A task with its assignments, which are given in the order in which they were made.
pub(crate) fn task(
    hub: &Hub,
    spec: &JobSpec,
    stored: &sosna_store::Task,
    assignments: &[sosna_store::Assignment],
) -> Task {
    let number = |place: usize| round(stored, place);
    let shown: Vec<Assignment> =
        assignments.iter().enumerate().map(|(place, one)| assignment(hub, one, number(place))).collect();
    let arch = arch(spec, stored, shown.first().map(|first| *first.class));
    let owed = |sum: Amount, one: &sosna_store::Assignment| sum.checked_add(one.owed).unwrap_or(sum);
    let unplaced_reason = unplaced(stored);
    let explanation = (unplaced_reason.is_none() && !stored.reason.is_empty()).then(|| stored.reason.clone());
    Task {
        id: stored.id.into(),
        index: stored.place,
        state: shown_state(stored),
        round: shown.last().map_or(1, |last| last.round),
        image: arch.and_then(|arch| spec.image(arch)).map(|(manifest, _)| manifest.into()),
        arch: arch.map(Into::into),
        exit_code: stored.end.map(|end| end.exit_code),
        cause: stored.end.map(|end| end.cause.into()),
        result_root: stored.end.map(|end| end.root.into()),
        manifest: stored.end.map(|end| end.manifest.into()),
        stdout_counts: spec.stdout_counts(),
        price: assignments.iter().fold(Amount::default(), owed).into(),
        checked: stored.check.is_some(),
        unplaced_reason: unplaced_reason.filter(|_| stored.ended_ms.is_none()),
        explanation,
        assignments: shown,
    }
}

/// An assignment of a round.
pub(crate) fn assignment(hub: &Hub, stored: &sosna_store::Assignment, round: u32) -> Assignment {
    use sosna_store::AssignmentState as Stored;
    let revealed = stored.revealed;
    let class = hub.fleet().get(&stored.device).map(|live| live.device.described.class);
    let judged = stored.judgement.is_some();
    Assignment {
        id: stored.id.into(),
        device: stored.device.into(),
        owner: stored.owner.into(),
        // Every device that ever had an assignment is in the fleet.
        class: ClassText::from(class.unwrap_or(Class { arch: Arch::X86_64, level: 1 })),
        round,
        state: match stored.state {
            Stored::Offered => AssignmentState::Offered,
            Stored::Accepted => AssignmentState::Accepted,
            Stored::Committed => AssignmentState::Committed,
            Stored::Revealed => AssignmentState::Revealed,
            Stored::Judged => AssignmentState::Judged,
            Stored::Refused => AssignmentState::Refused,
            Stored::Failed => AssignmentState::Failed,
            Stored::Expired => AssignmentState::Lost,
            Stored::Cancelled => AssignmentState::Cancelled,
        },
        phase: stored.phase.filter(|_| stored.state.is_open()).map(Into::into),
        permille: stored.phase.filter(|_| stored.state.is_open()).map(|_| stored.permille),
        price: stored.price.into(),
        commitment: stored.commitment.map(Into::into),
        root: revealed.map(|revealed| revealed.root.into()),
        cause: revealed.map(|revealed| revealed.cause.into()),
        exit_code: revealed.map(|revealed| revealed.exit_code),
        verdict: stored.judgement.map(Into::into),
        owed: judged.then(|| stored.owed.into()),
        usage: revealed.map(|revealed| revealed.usage.into()),
        refusal: refusal(stored),
        explanation: Some(stored.explanation.clone()).filter(|explanation| !explanation.is_empty()),
        offered_ms: stored.created_ms,
        started_ms: stored.accepted_ms,
        // The store keeps when a result came, and not when it was judged.
        ended_ms: stored.revealed_ms.filter(|_| !stored.state.is_open()),
    }
}

/// The round of the assignment that was made as number `place` of its task, from 0: the first ones that were asked
/// for are the first round; each that was needed beyond them is one more.
pub(crate) fn round(task: &sosna_store::Task, place: usize) -> u32 {
    // One that checks another belongs to the same round.
    number(task.asked.max(if task.check.is_some() { 2 } else { 1 }), place)
}

fn number(asked: u32, place: usize) -> u32 {
    let place = u32::try_from(place).unwrap_or(u32::MAX - 2);
    1 + (place + 1).saturating_sub(asked)
}

/// How a task stands.
pub(super) fn shown_state(task: &sosna_store::Task) -> TaskState {
    standing(task.state, task.end.is_some_and(|end| end.cause == Cause::Exited && end.exit_code == 0))
}

/// How a task in this state stands; `well` where its program ended by itself and with exit code 0.
pub(super) const fn standing(state: StoredState, well: bool) -> TaskState {
    match state {
        StoredState::Queued => TaskState::Queued,
        StoredState::Running | StoredState::Revealing => TaskState::Running,
        StoredState::Accepted => {
            if well {
                TaskState::Succeeded
            } else {
                TaskState::Failed
            }
        }
        StoredState::Failed => TaskState::Failed,
        StoredState::Cancelled => TaskState::Cancelled,
    }
}

/// Why a task is not placed, where that is what its reason says.
pub(super) fn unplaced(task: &sosna_store::Task) -> Option<Unplaced> {
    serde_json::from_str(&task.reason).ok()
}

/// Once its replicas are bound to a class, or a device has it, or there is only one.
fn arch(spec: &JobSpec, task: &sosna_store::Task, first: Option<Class>) -> Option<Arch> {
    let only = match spec.images.as_slice() {
        [only] => Some(*only.arch),
        _ => None,
    };
    only.or_else(|| task.class.or(first).map(|class| class.arch))
}

/// The protocol's word for a refusal stands before its explanation.
fn refusal(stored: &sosna_store::Assignment) -> Option<ReasonText> {
    let refused = stored.state == sosna_store::AssignmentState::Refused;
    stored.explanation.split(':').next().filter(|_| refused)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn each_assignment_beyond_the_first_ones_is_a_round_more() {
        assert_eq!([0, 1, 2, 3].map(|place| number(2, place)), [1, 1, 2, 3]);
        assert_eq!([0, 1, 2].map(|place| number(1, place)), [1, 2, 3]);
    }
}
