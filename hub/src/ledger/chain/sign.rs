//! Transactions of the hub's key.

use alloy_consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{Address, Bytes, Signature, TxKind};
use sosna_host::identity::{CannotSign, IdentityKey};
use sosna_protocol::{Hash, identity::Sign as _};
use sosna_store::{Transaction, TransactionState};

/// What a signed transaction offers to whoever makes the block, for a unit of gas; `None` where it is none of ours.
pub(super) fn tip(raw: &[u8]) -> Option<u128> {
    TxEnvelope::decode_2718(&mut &*raw).ok()?.max_priority_fee_per_gas()
}

/// What is to be signed.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) chain_id: u64,
    pub(super) nonce: u64,
    pub(super) to: Address,
    pub(super) data: Bytes,
    pub(super) gas: u64,
    /// The most for a unit of gas, and of that for whoever makes the block.
    pub(super) fees: (u128, u128),
}

impl Draft {
    /// Signs it, for a root.
    pub(super) fn sign(&self, key: &IdentityKey, root: u64, now_ms: u64) -> Result<Transaction, CannotSign> {
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: self.fees.0,
            max_priority_fee_per_gas: self.fees.1,
            to: TxKind::Call(self.to),
            input: self.data.clone(),
            ..TxEip1559::default()
        };
        let signed = key.sign(&Hash(transaction.signature_hash().0))?;
        // 65 bytes of our own making: r, s, and 27 or 28.
        let (scalars, parity) = signed.0.split_at(64);
        let signature = Signature::from_bytes_and_parity(scalars, parity[0] == 28);
        let envelope = transaction.into_signed(signature);
        Ok(Transaction {
            root,
            nonce: self.nonce,
            hash: Hash(envelope.hash().0),
            raw: envelope.encoded_2718(),
            fee: self.fees.0,
            made_ms: now_ms,
            state: TransactionState::Open,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_a_transaction_offers_can_be_read_back() {
        let draft = Draft {
            chain_id: 5,
            nonce: 7,
            to: Address::repeat_byte(1),
            data: Bytes::from_static(b"root"),
            gas: 9,
            fees: (1000, 30),
        };
        let signed = draft.sign(&IdentityKey::generate(), 1, 2).unwrap();
        assert_eq!((signed.fee, tip(&signed.raw)), (1000, Some(30)));
        assert_eq!(tip(&signed.raw[1..]), None);
    }
}
