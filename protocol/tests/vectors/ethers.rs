//! The promise that whoever knew ethers-signers need not notice that it is gone: for the same key and the same
//! typed data, `ethers` and `viem` (npm), ethers-signers (the deprecated crate), alloy-signer-local (its successor
//! by the same authors) and this crate make the same bytes. Two exceptions, both pinned here so that nobody
//! discovers them with money: see [`is_beyond_order`] and `ethers_signers`. vectors/README.md tells more.

use alloy_primitives::B256;
use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use serde_json::Value;
use sosna_protocol::{
    Address, Amount, Hash, Signature,
    eip712::{Delegation, Domain, Receipt, Typed, Voucher},
    result::Usage,
};

use crate::{
    read,
    support::unhex,
    typed::{alloy_domain, sol},
};

fn field<T: std::str::FromStr>(value: &Value, name: &str) -> T {
    let text = value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"));
    text.parse().unwrap_or_else(|_| panic!("{name} cannot be {text}"))
}

fn amount(value: &Value, name: &str) -> Amount {
    Amount::from_units(field(value, name))
}

/// RFC 6979 derives the nonce from the digest reduced by the group's order, which `ethers` and `viem` do and the
/// Rust signers do not. It shows only in digests at or beyond the order: one in 2^128, all of them valid.
fn is_beyond_order(digest: &Hash) -> bool {
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    digest.0.as_slice() >= unhex(ORDER).as_slice()
}

/// Our digest and alloy's of one structure.
fn digests<Ours, Theirs>(vector: &Value, ours: &Ours) -> (Hash, B256)
where
    Ours: Typed,
    Theirs: alloy_sol_types::SolStruct + for<'a> From<&'a Ours>,
{
    let domain = Domain {
        chain_id: field(&vector["domain"], "chainId"),
        wallet: field(&vector["domain"], "verifyingContract"),
    };
    assert_eq!(domain.separator(), field(vector, "domain_separator"), "{}", vector["name"]);
    assert_eq!(ours.struct_hash(), field(vector, "struct_hash"), "{}", vector["name"]);
    (ours.digest(&domain), Theirs::from(ours).eip712_signing_hash(&alloy_domain(&domain)))
}

fn check(vector: &Value) {
    let name = vector["name"].as_str().unwrap();
    let (value, digest) = (&vector["message"], field::<Hash>(vector, "digest"));
    let (ours, theirs) = match vector["type"].as_str() {
        None => (digest, B256::from(digest.0)),
        Some("Voucher") => digests::<_, sol::Voucher>(
            vector,
            &Voucher {
                device: field(value, "device"),
                cumulative: amount(value, "cumulative"),
                receipts: field(value, "receipts"),
            },
        ),
        Some("Receipt") => digests::<_, sol::Receipt>(
            vector,
            &Receipt {
                hub: field(value, "hub"),
                device: field(value, "device"),
                assignment: field(value, "assignment"),
                task: field(value, "task"),
                image: field(value, "image"),
                result: field(value, "result"),
                usage: Usage {
                    cpu_ns: field(value, "cpuNanoseconds"),
                    peak_memory: field(value, "peakMemory"),
                    wall_ms: field(value, "wallMilliseconds"),
                },
                price: amount(value, "price"),
            },
        ),
        Some("Delegation") => digests::<_, sol::Delegation>(
            vector,
            &Delegation {
                hub: field(value, "hub"),
                secret_hash: field(value, "secretHash"),
                expires: field(value, "expires"),
                uses: field(value, "uses"),
            },
        ),
        Some(other) => panic!("{name}: no structure is called {other}"),
    };
    assert_eq!(ours, digest, "{name}");
    assert_eq!(theirs.0, digest.0, "{name}");

    let key = PrivateKeySigner::from_slice(&unhex(vector["key"].as_str().unwrap())).unwrap();
    let signature: Signature = field(vector, "signature");
    let alloy = Signature(key.sign_hash_sync(&theirs).unwrap().as_bytes());
    if is_beyond_order(&digest) {
        assert_eq!(alloy.verify(&digest, &Address(key.address().into())), Ok(()), "{name}");
    } else {
        assert_eq!(alloy, signature, "{name}");
    }
    assert_eq!(signature.verify(&digest, &Address(key.address().into())), Ok(()), "{name}");
    let shown = vector["address"].as_str().unwrap();
    assert_eq!(signature.recover(&digest).unwrap().checksummed(), shown, "{name}");
}

#[test]
fn ethers_and_viem() {
    let all = read("ethers");
    let vectors = all["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 124);
    vectors.iter().for_each(check);
}

/// What ethers-signers signs by digest is what everybody signs. By its own `TypedData` it is so too, but for a
/// `bytes16` that is not zero: it pads it on the left, where EIP-712 (and every contract) pads on the right.
#[test]
fn ethers_signers() {
    let (modern, deprecated) = (read("ethers"), read("ethers-signers"));
    let [modern, deprecated] = [&modern, &deprecated].map(|all| all["vectors"].as_array().unwrap());
    assert_eq!(modern.len(), deprecated.len());
    let (mut equal, mut padded_wrong) = (0, 0);
    for (modern, deprecated) in modern.iter().zip(deprecated) {
        let name = &modern["name"];
        assert_eq!(*name, deprecated["name"]);
        let digest = field::<Hash>(modern, "digest");
        let of_digest = field::<Signature>(deprecated, "of_digest");
        if is_beyond_order(&digest) {
            assert_eq!(
                of_digest.recover(&digest).unwrap().checksummed(),
                modern["address"].as_str().unwrap()
            );
            continue;
        }
        assert_eq!(modern["signature"].as_str(), deprecated["of_digest"].as_str(), "{name}");
        let of_typed_data = &deprecated["of_typed_data"];
        let id = modern["message"]["assignment"].as_str().unwrap_or("0x00");
        if of_typed_data.is_null() {
            assert!(modern["type"].is_null(), "{name}");
        } else if id.trim_start_matches("0x").trim_start_matches('0').is_empty() {
            assert_eq!(modern["signature"], *of_typed_data, "{name}");
            equal += 1;
        } else {
            assert_ne!(modern["signature"], *of_typed_data, "{name}");
            padded_wrong += 1;
        }
    }
    assert_eq!((equal, padded_wrong), (84, 24));
}
