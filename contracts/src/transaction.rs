//! Transactions that call a contract, signed by a key of ours: the bytes that a node is given.

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy_primitives::{Address, Bytes, TxKind};
use sosna_protocol::{Hash, identity::Sign};

/// What is to be signed: a transaction with a bounded fee (EIP-1559) that carries no ether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The chain's number (EIP-155).
    pub chain_id: u64,
    /// Its place among all of the key.
    pub nonce: u64,
    /// The contract.
    pub to: Address,
    /// The call.
    pub data: Bytes,
    /// The most gas that it may use.
    pub gas: u64,
    /// The most for a unit of gas, and of that for whoever makes the block, in units of 10^-18 ether.
    pub fees: (u128, u128),
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Its name on the chain.
    pub hash: Hash,
    /// Its bytes.
    pub raw: Vec<u8>,
}

// === impl Draft ===

impl Draft {
    /// What was drafted, from what was signed; `None` where that is none of ours.
    #[must_use]
    pub fn read(raw: &[u8]) -> Option<Self> {
        let TxEnvelope::Eip1559(signed) = TxEnvelope::decode_2718(&mut &*raw).ok()? else { return None };
        let transaction = signed.tx();
        Some(Self {
            chain_id: transaction.chain_id,
            nonce: transaction.nonce,
            to: transaction.to.to().copied()?,
            data: transaction.input.clone(),
            gas: transaction.gas_limit,
            fees: (transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas),
        })
    }

    /// Signs it.
    ///
    /// # Errors
    /// The key's.
    pub fn sign<S: Sign + ?Sized>(&self, key: &S) -> Result<Signed, S::Error> {
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
        let signature = alloy_primitives::Signature::from_bytes_and_parity(scalars, parity[0] == 28);
        let envelope = transaction.into_signed(signature);
        Ok(Signed { hash: Hash(envelope.hash().0), raw: envelope.encoded_2718() })
    }

    /// The most that it can cost, in units of 10^-18 ether.
    #[must_use]
    pub const fn cost(&self) -> u128 {
        // Neither a chain's gas nor its price comes near to overflowing.
        self.fees.0.saturating_mul(self.gas as u128)
    }
}
