//! After a restoration: what devices prove by the hub's own signatures counts, and nothing else does.
//!
//! What a device was ever owed is one number that only grows, and both vouchers and verdicts say it, signed. So the
//! largest that a device shows, or the books know, is right, and nothing can be counted twice by it. That is settled
//! when the device greets, before it is told or given anything. Receipts come afterwards, so that vouchers can name
//! them: they move no money.

use sosna_protocol::{
    Address, Amount, Hash,
    eip712::{Receipt, Typed as _},
    envelope,
    frame::Frame,
    identity::AssignmentId,
    message::{
        pay::{MAX_SHOWN, Presented, Statement},
        result::{Down, Judgement},
    },
};
use sosna_store::{Account, AssignmentState, Claim, Transfer, Tx};

use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
    verify,
};

/// What a verdict of this hub proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proof {
    assignment: AssignmentId,
    owed: Amount,
    /// All that was ever owed then.
    earned: Amount,
    /// In which epoch it was signed.
    epoch: u32,
}

/// Reads a frame that a device shows: `None` where it is not an accepting verdict that this hub sealed for it.
fn proof(hub: &Hub, device: &Address, bytes: &[u8]) -> Option<Proof> {
    let frame = Frame::decode(bytes).ok()?;
    // When it was to be taken by does not matter: that it was signed does.
    let seal = envelope::open(&frame, device, &hub.address(), None).ok()?;
    let Ok(Down::Verdict(verdict)) = Down::read(&frame) else { return None };
    if verdict.judgement != Judgement::Accepted {
        return None;
    }
    let (assignment, owed, earned) = (verdict.assignment, verdict.owed, verdict.earned?);
    Some(Proof { assignment, owed, earned, epoch: seal.meta.epoch })
}

/// A device that greets shows the best voucher and verdict that it holds. Where these say more than the books, the
/// store was restored from an older backup: what was signed is owed.
pub(crate) async fn recover(
    tx: &mut Tx,
    hub: &Hub,
    device: Address,
    voucher: Option<&Statement>,
    verdict: Option<&[u8]>,
) -> Result<Vec<Effect>, HubError> {
    let mut effects = Vec::new();
    if let Some(statement) = voucher {
        effects.extend(take_voucher(tx, hub, device, statement).await?);
    }
    if let Some(bytes) = verdict {
        match proof(hub, &device, bytes) {
            Some(proof) => effects.extend(raise(tx, hub, device, proof.earned).await?),
            None => tracing::warn!(%device, "shows a verdict that this hub never signed"),
        }
    }
    Ok(effects)
}

async fn take_voucher(
    tx: &mut Tx,
    hub: &Hub,
    device: Address,
    statement: &Statement,
) -> Result<Vec<Effect>, HubError> {
    let (voucher, domain) = statement.voucher(device);
    let known =
        tx.latest_voucher(&device).await?.map(|voucher| voucher.statement.cumulative).unwrap_or_default();
    if statement.cumulative <= known {
        return Ok(Vec::new());
    }
    if domain != hub.domain() || voucher.verify(&domain, &statement.signature, &hub.address()).is_err() {
        tracing::warn!(%device, "shows a voucher that this hub never signed");
        return Ok(Vec::new());
    }
    let effects = raise(tx, hub, device, statement.cumulative).await?;
    tx.put_voucher(&device, statement, hub.now_ms()).await?;
    // It may name any of what these books know and no voucher of theirs names; the device shows what it does not name.
    for one in tx.uncovered_assignments(&device, u64::MAX, u32::MAX).await? {
        tx.cover_assignment(&one.id, Amount::ZERO).await?;
    }
    // Claims of a restoration before this one, likewise.
    for one in tx.uncovered_claims(&device).await? {
        tx.cover_claim(&device, &one.assignment, Amount::ZERO).await?;
    }
    let _ = tx.hold_voucher(&device, statement.cumulative, hub.now_ms()).await?;
    Ok(effects)
}

/// Books what is missing of all that a device was ever owed.
async fn raise(tx: &mut Tx, hub: &Hub, device: Address, cumulative: Amount) -> Result<Vec<Effect>, HubError> {
    let earned = tx.ever_taken(&Account::Device(device)).await?;
    let Some(missing) = cumulative.checked_sub(earned).filter(|missing| *missing > Amount::ZERO) else {
        return Ok(Vec::new());
    };
    tracing::warn!(%device, "proves that it was owed {missing} SNM more than the restored books know; booked");
    tx.transfer(&Transfer {
        key: format!("recover:{device}:{cumulative}"),
        kind: "recover",
        from: Account::Grants,
        to: Account::Device(device),
        amount: missing,
        job: None,
        assignment: None,
        at_ms: hub.now_ms(),
    })
    .await?;
    // What these books hold open may have been accepted in the time that they have lost, and be in that sum. Nobody
    // can tell, so none of it may count again; its tasks are given out anew.
    let mut effects = Vec::new();
    for one in tx.returnable_assignments_of(&device).await? {
        let why = "the hub was restored from a backup, and cannot tell whether it was paid before";
        effects.extend(verify::give_up(tx, hub, &one, AssignmentState::Cancelled, why).await?);
        tx.ask_again(&one.id, hub.now_ms()).await?;
    }
    Ok(effects)
}

/// Takes receipts that a device has no voucher for. Those that the hub's signature proves are named by the next
/// vouchers; what the books know already is left to its own course; the rest is recorded for the operator, up to
/// [`MAX_SHOWN`] of a device: whoever has signed more than that for nothing wants to fill the disk, and an honest
/// device shows no more.
pub(crate) async fn present(
    tx: &mut Tx,
    hub: &Hub,
    device: Address,
    receipts: impl Iterator<Item = Presented<'_>>,
) -> Result<Vec<Effect>, HubError> {
    if hub.epoch == 0 {
        return Ok(Vec::new());
    }
    let mut unproven = tx.count_unproven_claims(&device).await?;
    for one in receipts {
        let Some(digest) = digest(hub, device, &one) else {
            tracing::warn!(%device, assignment = %one.assignment, "shows a receipt that it never signed");
            continue;
        };
        let proof = one.verdict.and_then(|bytes| proof(hub, &device, bytes.0));
        let proof = proof.filter(|proof| proof.assignment == one.assignment && proof.epoch < hub.epoch);
        let known = tx.assignment(&one.assignment).await?.filter(|known| known.device == device);
        let (owed, explanation) = match (known, proof) {
            (Some(known), _) if known.judgement == Some(Judgement::Accepted) => {
                // Otherwise the next voucher names it, or one that the device holds or gets: naming it again would
                // only let other work be paid in its place, before its time.
                if known.voucher != Some(Amount::ZERO) {
                    continue;
                }
                (Some(known.owed), "the books know it, and no voucher of theirs names it")
            }
            (_, Some(proof)) => (Some(proof.owed), "the hub's own verdict proves it"),
            // It is judged yet, or was.
            (Some(_), None) => continue,
            (None, None) => {
                let why = "the device shows no verdict of this hub, and the restored books do not know it";
                (None, why)
            }
        };
        if owed.is_none() {
            if unproven >= u64::try_from(MAX_SHOWN).unwrap_or(u64::MAX) {
                tracing::warn!(%device, assignment = %one.assignment, price = %one.price,
                    "claims more than {MAX_SHOWN} times what nothing proves; this is not recorded");
                continue;
            }
            unproven += 1;
        }
        let claim = Claim {
            device,
            assignment: one.assignment,
            task: one.task,
            digest,
            price: one.price,
            owed: owed.unwrap_or_default(),
            proven: owed.is_some(),
            explanation: explanation.to_owned(),
            shown_ms: hub.now_ms(),
            voucher: None,
        };
        if tx.put_claim(&claim).await? && !claim.proven {
            tracing::warn!(%device, assignment = %one.assignment, price = %one.price,
                "claims work that nothing proves; `sosna device {device}` lists it");
        }
    }
    Ok(vec![
        Effect::Owed(device, super::unvouchered(tx, &device).await?),
        Effect::Event(Event::Device(device)),
    ])
}

/// The digest of a receipt that its device has signed.
fn digest(hub: &Hub, device: Address, one: &Presented<'_>) -> Option<Hash> {
    let receipt = Receipt {
        hub: hub.address(),
        device,
        assignment: one.assignment,
        task: one.task,
        image: one.image,
        result: one.result,
        usage: one.usage,
        price: one.price,
    };
    let digest = receipt.digest(&hub.domain());
    one.signature.verify(&digest, &device).ok().map(|()| digest)
}
