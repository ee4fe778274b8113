//! Signatures by libsecp256k1: whose they are, and the hub's own. A hub asks whose for each frame that it is sent, and signs
//! each batch of its answers; a device, for which size counts more, has k256 do it, which takes several times as long (the
//! ignored test below prints both). What counts as a signature at all is the protocol's to say, so that both answer alike.

use std::{convert::Infallible, fmt, sync::LazyLock};

use secp256k1::{
    Message, Secp256k1, SecretKey, SignOnly, VerifyOnly,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Address, Hash, Signature,
    identity::{Sign, SignatureError},
};

static CURVE: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// The address whose key made a signature over `digest`; as [`Signature::recover`], in a fraction of its time.
///
/// # Errors
/// As [`Signature::recover`].
pub(crate) fn recover(signature: &Signature, digest: &Hash) -> Result<Address, SignatureError> {
    let (form, parity) = signature.canonical()?;
    let parity = if parity { RecoveryId::One } else { RecoveryId::Zero };
    let point = RecoverableSignature::from_compact(&form, parity)
        .and_then(|signature| CURVE.recover_ecdsa(Message::from_digest(digest.0), &signature))
        .map_err(|_| SignatureError::Malformed)?
        .serialize_uncompressed();
    let (_, coordinates) = point.split_last_chunk::<64>().ok_or(SignatureError::Malformed)?;
    Ok(Address::of_point(coordinates))
}

/// Accepts a signature only if `signer` made it over `digest`; as [`Signature::verify`].
///
/// # Errors
/// As [`Signature::verify`].
pub(crate) fn verify(signature: &Signature, digest: &Hash, signer: &Address) -> Result<(), SignatureError> {
    signature.is_by(recover(signature, digest)?, signer)
}

/// An identity key that signs by libsecp256k1: the same signatures (RFC 6979), sooner.
pub(crate) struct Signer {
    curve: Secp256k1<SignOnly>,
    secret: SecretKey,
    address: Address,
}

// === impl Signer ===

impl Signer {
    pub(crate) fn of(key: &IdentityKey) -> Self {
        let mut curve = Secp256k1::signing_only();
        // So that how long it takes says less of the key.
        curve.seeded_randomize(&sosna_host::random());
        let secret =
            SecretKey::from_byte_array(key.secret()).expect("an identity key is in the curve's range");
        Self { curve, secret, address: key.address() }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.address)
    }
}

impl Sign for Signer {
    type Error = Infallible;

    fn address(&self) -> Address {
        self.address
    }

    fn sign(&self, digest: &Hash) -> Result<Signature, Infallible> {
        let signed = self.curve.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (parity, form) = signed.serialize_compact();
        let mut signature = Signature([27; 65]);
        signature.0[..64].copy_from_slice(&form);
        signature.0[64] += u8::from(matches!(parity, RecoveryId::One | RecoveryId::Three));
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    /// The order of the group, less one: the largest s there is (SEC 2, section 2.4.1).
    const LARGEST: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
        0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x40,
    ];

    fn alike(signature: &Signature, digest: &Hash) -> Result<Address, SignatureError> {
        let (ours, theirs) = (signature.recover(digest), recover(signature, digest));
        assert_eq!(ours, theirs, "{signature} over {digest}");
        theirs
    }

    proptest! {
        #[test]
        fn both_libraries_know_who_signed(secret: [u8; 32], digest: [u8; 32]) {
            let Some(key) = IdentityKey::from_bytes(secret) else { return Ok(()) };
            let digest = Hash(digest);
            let signature = key.sign(&digest).unwrap();
            prop_assert_eq!(Signer::of(&key).sign(&digest), Ok(signature), "both sign alike");
            prop_assert_eq!(alike(&signature, &digest), Ok(key.address()));
            prop_assert_eq!(verify(&signature, &digest, &key.address()), Ok(()));
            let other = Address([1; 20]);
            let found = key.address();
            prop_assert_eq!(
                verify(&signature, &digest, &other),
                Err(SignatureError::Signer { expected: other, found })
            );
        }

        #[test]
        fn both_refuse_the_same(bytes in proptest::array::uniform32(any::<u8>()), more: [u8; 32], v: u8, digest: [u8; 32]) {
            let mut signature = Signature([0; 65]);
            signature.0[..32].copy_from_slice(&bytes);
            signature.0[32..64].copy_from_slice(&more);
            for last in [v, 27, 28] {
                signature.0[64] = last;
                let _ = alike(&signature, &Hash(digest));
            }
        }
    }

    #[test]
    fn both_refuse_the_ends_of_the_range() {
        let digest = Hash([7; 32]);
        let ends = [[0; 32], [0xff; 32], LARGEST, {
            let mut order = LARGEST;
            order[31] += 1;
            order
        }];
        let mut one = [0; 32];
        one[31] = 1;
        for r in ends.iter().chain([&one]) {
            for s in ends.iter().chain([&one]) {
                for v in [0, 26, 27, 28, 29, 255] {
                    let mut signature = Signature([v; 65]);
                    signature.0[..32].copy_from_slice(r);
                    signature.0[32..64].copy_from_slice(s);
                    let found = alike(&signature, &digest);
                    assert!(found.is_err() || (*r == one && *s == one), "{signature}");
                }
            }
        }
    }

    /// `cargo test --release -p sosna-hub --lib curve -- --ignored --nocapture`
    #[test]
    #[ignore = "prints times"]
    fn how_long_each_takes() {
        let key = IdentityKey::generate();
        let signed: Vec<_> = (0..2000_u16)
            .map(|n| {
                let digest = Hash(std::array::from_fn(|place| n.to_be_bytes()[place % 2]));
                (key.sign(&digest).unwrap(), digest)
            })
            .collect();
        let per = |began: Instant| began.elapsed() / 2000;
        let began = Instant::now();
        assert!(signed.iter().all(|(signature, digest)| signature.recover(digest) == Ok(key.address())));
        let ours = per(began);
        let began = Instant::now();
        assert!(signed.iter().all(|(signature, digest)| recover(signature, digest) == Ok(key.address())));
        println!("whose: k256 {ours:?}, libsecp256k1 {:?}", per(began));
        let began = Instant::now();
        assert!(signed.iter().all(|(signature, digest)| key.sign(digest).unwrap() == *signature));
        let ours = per(began);
        let (signer, began) = (Signer::of(&key), Instant::now());
        assert!(signed.iter().all(|(signature, digest)| signer.sign(digest) == Ok(*signature)));
        println!("sign: k256 {ours:?}, libsecp256k1 {:?}", per(began));
    }
}
