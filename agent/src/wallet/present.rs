//! What a device shows a hub that was restored from a backup: the receipts that it has no voucher for, each with the
//! hub's own verdict where there is one. It is said once for each restoration, in the transaction that notices it.

use sosna_protocol::{
    Address,
    codec::{Bounded, List},
    message::pay::{MAX_PRESENTED, MAX_PROOF, MAX_SHOWN, Present, Presented},
};

use crate::store::{StoreError, Tx, record::ReceiptRecord};

/// Says every receipt to the hub that no voucher names. Returns how many.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn present(tx: &mut Tx<'_>, hub: &Address) -> Result<usize, StoreError> {
    let mut receipts = Vec::new();
    for receipt in tx.receipts()? {
        // What is still being delivered takes its usual way.
        let is_open = tx.task(&receipt.assignment)?.is_some_and(|task| task.is_open());
        let is_unjudged = receipt.judgement.is_none() && receipt.covered_ms.is_none() && !is_open;
        if receipt.hub == *hub && (receipt.is_uncovered() || is_unjudged && receipt.is_worth_something()) {
            receipts.push(receipt);
        }
    }
    // What is owed without a voucher is limited, and with it their number; beyond this they stay here, and are shown by
    // `sosna-agent status`.
    if receipts.len() > MAX_SHOWN {
        tracing::error!(receipts = receipts.len(), "only {MAX_SHOWN} receipts are shown to the restored hub");
        receipts.truncate(MAX_SHOWN);
    }
    for some in receipts.chunks(MAX_PRESENTED) {
        let frames: Vec<Option<Vec<u8>>> =
            some.iter().map(|receipt| tx.verdict_frame(&receipt.assignment)).collect::<Result<_, _>>()?;
        let shown: Vec<Presented<'_>> =
            some.iter().zip(&frames).map(|(receipt, frame)| presented(receipt, frame.as_deref())).collect();
        tx.say(hub, &Present { receipts: List::new(&shown) })?;
    }
    Ok(receipts.len())
}

fn presented<'a>(receipt: &ReceiptRecord, verdict: Option<&'a [u8]>) -> Presented<'a> {
    let structure = receipt.receipt();
    Presented {
        assignment: structure.assignment,
        task: structure.task,
        image: structure.image,
        result: structure.result,
        usage: structure.usage,
        price: structure.price,
        signature: receipt.signature,
        verdict: verdict.filter(|frame| frame.len() <= MAX_PROOF).map(Bounded),
    }
}
