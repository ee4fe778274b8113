//! What a node is given is what was drafted, by the key that signed it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, Bytes};
use sosna_contracts::{hash, transaction::Draft};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{Hash, Signature, identity::Sign as _};

#[test]
fn a_transaction_is_its_signers_and_says_what_was_drafted() {
    let draft = Draft {
        chain_id: 5,
        nonce: 7,
        to: Address::repeat_byte(1),
        data: Bytes::from_static(b"call"),
        gas: 90_000,
        fees: (1000, 30),
    };
    // Of both parities.
    for _ in 0..8 {
        let key = IdentityKey::generate();
        let signed = draft.sign(&key).unwrap();
        let read = TxEnvelope::decode_2718(&mut &*signed.raw).unwrap();
        let TxEnvelope::Eip1559(inner) = &read else { panic!("{read:?}") };
        let signature = Signature(inner.signature().as_bytes());
        signature.verify(&Hash(inner.signature_hash().0), &key.address()).unwrap();
        assert_eq!(*read.tx_hash(), hash(&signed.hash));
        assert_eq!((read.chain_id(), read.nonce(), read.to()), (Some(5), 7, Some(draft.to)));
        assert_eq!((read.input(), read.gas_limit(), read.value().is_zero()), (&draft.data, 90_000, true));
        assert_eq!((read.max_fee_per_gas(), read.max_priority_fee_per_gas()), (1000, Some(30)));
        assert_eq!(Draft::read(&signed.raw).as_ref(), Some(&draft));
        assert_eq!(Draft::read(&signed.raw[1..]), None);
    }
    assert_eq!(draft.cost(), 90_000_000);
}
