//! Transactions of the hub's key, as the books keep them.

use sosna_contracts::transaction::Draft;
use sosna_host::identity::{CannotSign, IdentityKey};
use sosna_store::{Transaction, TransactionState};

/// Signs one, for a root.
pub(super) fn sign(
    draft: &Draft,
    key: &IdentityKey,
    root: u64,
    now_ms: u64,
) -> Result<Transaction, CannotSign> {
    let signed = draft.sign(key)?;
    Ok(Transaction {
        root,
        nonce: draft.nonce,
        hash: signed.hash,
        raw: signed.raw,
        fee: draft.fees.0,
        made_ms: now_ms,
        state: TransactionState::Open,
    })
}
