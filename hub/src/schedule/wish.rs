//! What one task wants of the fleet now: a device for its next replica, and where that one is not to be believed
//! alone, a second one that checks it.

use sosna_protocol::{
    Address, Amount,
    identity::AssignmentId,
    resources::{Arch, Class},
};
use sosna_store::{Assignment, AssignmentState, CheckState, OpenTask};

use super::place::{Holder, Need, Placement, owner_of, place};
use crate::{hub::Hub, job::JobSpec};

/// A task's wish.
pub(super) struct Wish<'a> {
    open: &'a OpenTask,
    spec: &'a JobSpec,
    image_class: String,
    /// Who has or had a replica.
    pub(super) holders: Vec<Holder>,
    /// The class that the task's replicas are bound to.
    pub(super) class: Option<Class>,
    /// What a replica may cost.
    cap: Amount,
    /// What may be given away of its buyer's work.
    pub(super) allowance: Option<Amount>,
    /// Whether results are compared: then replicas are apart, and run on one class.
    compared: bool,
}

/// Whether a device is checked by a task.
pub(super) fn is_checked(open: &OpenTask) -> bool {
    open.task.check.is_some_and(|check| check.state == CheckState::Open)
}

impl<'a> Wish<'a> {
    /// The wish of a task with these assignments, of which the next replica may cost the operator so much, and the buyer
    /// so much.
    pub(super) fn new(
        hub: &Hub,
        open: &'a OpenTask,
        spec: &'a JobSpec,
        assignments: &[Assignment],
        room: Option<Amount>,
        allowance: Option<Amount>,
    ) -> Self {
        let now = hub.now_ms();
        let holders = assignments
            .iter()
            .filter(|one| one.ask_again_ms.is_none_or(|again| again > now))
            .map(|one| {
                // One that ran out may come back late; then its owner's second replica is what refuses it.
                let counts = one.state.is_open() || one.state == AssignmentState::Judged;
                holder(hub, one.device, counts)
            })
            .collect();
        let cap = room.map_or(open.cap, |room| open.cap.min(room));
        let compared = open.task.asked > 1 || is_checked(open);
        let image_class = spec.image_class();
        Self { open, spec, image_class, holders, class: open.task.class, cap, allowance, compared }
    }

    /// A device has the next replica.
    pub(super) fn holds(&mut self, hub: &Hub, placement: &Placement) {
        self.allowance = self.allowance.map(|left| left.checked_sub(placement.price).unwrap_or_default());
        self.holders.push(holder(hub, placement.device, true));
        self.class = self.class.or(Some(placement.class));
    }

    /// Chooses a device and takes its room at once, so that the next choice sees it taken; or says why there is none,
    /// in the stored form.
    pub(super) fn choose(
        &self,
        hub: &Hub,
        prefers_established: bool,
    ) -> Result<(AssignmentId, Placement), String> {
        // Without exactness replicas still share an architecture: one image, one digest.
        let archs: Vec<Arch> = match self.class {
            Some(class) => vec![class.arch],
            None => self.spec.images.iter().map(|image| *image.arch).collect(),
        };
        let need = Need {
            archs: &archs,
            class: self.class.filter(|_| self.spec.exact_class(self.compared)),
            resources: self.spec.resources(),
            timeout_ms: self.spec.request.timeout_ms,
            cap: self.cap,
            allowance: self.allowance,
            region: self.spec.request.region.as_deref(),
            holders: &self.holders,
            apart: self.compared,
            probation_assignments: hub.config.probation.assignments,
            image_class: &self.image_class,
            probation_results: hub.config.probation.results,
            prefers_established,
        };
        let mut fleet = hub.fleet();
        let placement = place(fleet.devices(), &need, u64::from_be_bytes(sosna_host::random()))
            .map_err(|reason| serde_json::to_string(&reason).unwrap_or_default())?;
        let id = AssignmentId(sosna_host::random());
        fleet.take(id, placement.device, need.resources, placement.price);
        Ok((id, placement))
    }

    /// Chooses a second device, where the first one's single result is not to be believed, and the budget pays for
    /// either of them: rather one that is established. `None` where there is no such device; then the task runs as its
    /// buyer asked.
    pub(super) fn checker(
        &mut self,
        hub: &Hub,
        first: &Placement,
        budget: Amount,
    ) -> Option<(AssignmentId, Placement)> {
        let results = hub.config.probation.results;
        let wants =
            hub.fleet().get(&first.device).is_some_and(|live| live.wants_check(&self.image_class, results));
        let is_off = hub.config.probation.check_budget.0 == Amount::ZERO;
        if !wants || is_off || first.price > budget {
            return None;
        }
        self.compared = true;
        // Not the buyer pays for it.
        self.allowance = None;
        self.cap = self.open.cap.min(budget);
        self.choose(hub, true).ok()
    }
}

fn holder(hub: &Hub, device: Address, counts: bool) -> Holder {
    let fleet = hub.fleet();
    let live = fleet.get(&device);
    Holder { device, owner: live.and_then(owner_of), network: live.and_then(|live| live.network), counts }
}
