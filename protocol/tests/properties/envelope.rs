//! Seals: nobody else's, for nobody else, not later, not changed.

use proptest::{collection::vec, prelude::*, sample::Index};
use sosna_protocol::{
    Address, Hash, Signature,
    codec::{DecodeError, Reader, Writer},
    envelope::{self, EnvelopeError, MAX_SEAL, Meta, Seal},
    frame::Frame,
    identity::{Sign as _, SignatureError},
    merkle,
};

use crate::{
    generate,
    support::{Key, encoded, hex, meta, sealed, unhex},
    tree::Tree,
};

fn body(arguments: &[u8]) -> Vec<u8> {
    [&[3, 0][..], encoded(&Tree::List(vec![Tree::Bytes(arguments.to_vec())]))].concat()
}

fn open(frame: &[u8], audience: &Key, sender: &Key, now_ms: Option<u64>) -> Option<Seal> {
    let frame = Frame::decode(frame).ok()?;
    envelope::open(&frame, &audience.address(), &sender.address(), now_ms).ok()
}

fn reason(frame: &[u8], audience: &Address, sender: &Address, now_ms: Option<u64>) -> EnvelopeError {
    envelope::open(&Frame::decode(frame).unwrap(), audience, sender, now_ms).unwrap_err()
}

/// One frame out of a batch.
fn batched(hub: &Key, metas: &[Meta], bodies: &[Vec<u8>], place: usize) -> Seal {
    let mut nodes: Vec<Hash> = metas.iter().zip(bodies).map(|(meta, body)| meta.leaf(body)).collect();
    nodes.resize(merkle::Tree::nodes(metas.len()), Hash::ZERO);
    let tree = merkle::Tree::over(&mut nodes, metas.len()).unwrap();
    let Ok(signature) = hub.sign(&tree.root(merkle::Domain::Batch));
    let path = tree.path(place).unwrap();
    Seal { meta: metas[place], count: metas.len() as u32, index: place as u32, path, signature }
}

/// Changes each byte of a frame to `by` others and expects each to be refused.
fn refuses_changes(frame: &[u8], hub: &Key, device: &Key, changes: impl Iterator<Item = u8> + Clone) {
    assert!(open(frame, device, hub, Some(1)).is_some());
    for place in 0..frame.len() {
        for change in changes.clone().filter(|change| *change != 0) {
            let mut changed = frame.to_vec();
            changed[place] ^= change;
            assert!(
                open(&changed, device, hub, Some(1)).is_none(),
                "byte {place} ^ {change:#x}: {}",
                hex(changed)
            );
        }
        assert!(open(&frame[..place], device, hub, Some(1)).is_none(), "cut at {place}");
    }
}

#[test]
fn every_other_value_of_every_byte_is_refused() {
    let (hub, device) = (Key::new(1), Key::new(2));
    let body = body(b"x");
    let Ok(seal) = Seal::one(&hub, meta(&hub, &device, 9), &body);
    refuses_changes(sealed(&seal, &body), &hub, &device, [1, 2, 0x80, 0xff].into_iter());
    // All 255 where the structure is: head, body, and the header up to the seal's first byte.
    let frame = sealed(&seal, &body);
    for place in 0..body.len() + 12 {
        for byte in (0..=255).filter(|byte| *byte != frame[place]) {
            let mut changed = frame.to_vec();
            changed[place] = byte;
            assert!(open(&changed, &device, &hub, None).is_none(), "byte {place} = {byte:#x}");
        }
    }
}

#[test]
fn every_byte_of_a_batched_seal_counts() {
    let (hub, device) = (Key::new(1), Key::new(2));
    let bodies: Vec<Vec<u8>> = (0..11).map(|place| body(&[place])).collect();
    let metas: Vec<Meta> = (0..11).map(|place| meta(&hub, &device, place + 1)).collect();
    for place in [0, 7, 10] {
        let seal = batched(&hub, &metas, &bodies, place);
        refuses_changes(sealed(&seal, &bodies[place]), &hub, &device, [1, 0x40].into_iter());
        // As long a path, but of the neighbour.
        let other = Seal { index: seal.index ^ 1, ..seal.clone() };
        assert!(open(sealed(&other, &bodies[place]), &device, &hub, None).is_none());
        let alone = Seal { count: 1, index: 0, path: merkle::Path::new(), ..seal };
        assert!(open(sealed(&alone, &bodies[place]), &device, &hub, None).is_none());
    }
}

/// (r, s) and (r, n - s) are both signatures; only the lower one is accepted, or every frame had two forms.
#[test]
fn a_high_s_is_refused() {
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let (hub, device) = (Key::new(1), Key::new(2));
    let digest = Hash([7; 32]);
    let Ok(signature) = hub.sign(&digest);
    let mut high = signature;
    let mut borrow = 0;
    for (place, order) in unhex(ORDER).into_iter().enumerate().rev() {
        let difference = i16::from(order) - i16::from(signature.0[32 + place]) - borrow;
        borrow = i16::from(difference < 0);
        high.0[32 + place] = difference.rem_euclid(256) as u8;
    }
    high.0[64] = 27 + 28 - high.0[64];
    assert_eq!(signature.verify(&digest, &hub.address()), Ok(()));
    assert_eq!(high.verify(&digest, &hub.address()), Err(SignatureError::HighS));
    // It really was the other form of the same signature: alloy, which is lenient, recovers the same signer.
    let theirs = alloy_primitives::Signature::from_raw(&high.0).unwrap();
    assert_eq!(theirs.recover_address_from_prehash(&digest.0.into()).unwrap().0.0, hub.address().0);

    let body = body(b"x");
    let Ok(seal) = Seal::one(&hub, meta(&hub, &device, 1), &body);
    let Ok(other) = Key::new(3).sign(&digest);
    for (signature, expected) in [
        (high, SignatureError::HighS),
        (Signature([0; 65]), SignatureError::Malformed),
        (Signature([0xff; 65]), SignatureError::Malformed),
        (Signature(std::array::from_fn(|place| if place < 64 { 0 } else { 27 })), SignatureError::Malformed),
    ] {
        let frame = sealed(&Seal { signature, ..seal.clone() }, &body);
        let found = reason(frame, &device.address(), &hub.address(), None);
        assert_eq!(found, EnvelopeError::Signature(expected));
    }
    let frame = sealed(&Seal { signature: other, ..seal }, &body);
    let found = reason(frame, &device.address(), &hub.address(), None);
    assert!(matches!(found, EnvelopeError::Signature(SignatureError::Signer { .. })));
}

#[test]
fn frames_without_a_readable_seal() {
    let (hub, device) = (Key::new(1).address(), Key::new(2).address());
    let frame = |headers: Tree| encoded(&Tree::List(vec![3.into(), 0.into(), Tree::List(vec![]), headers]));
    let header = |kept, name: &str, value: &[u8]| {
        Tree::List(vec![Tree::Bool(kept), Tree::Text(name.into()), Tree::Bytes(value.to_vec())])
    };
    let unsealed = [
        encoded(&Tree::List(vec![3.into(), 0.into(), Tree::List(vec![])])),
        frame(Tree::List(vec![])),
        frame(Tree::List(vec![23.into(), header(false, "trace_id", b"1"), header(true, "seal", b"")])),
        frame(Tree::List(vec![Tree::List(vec![]), Tree::Nil, Tree::Map(vec![])])),
    ];
    for bytes in unsealed {
        assert_eq!(reason(bytes, &device, &hub, None), EnvelopeError::Unsealed);
    }
    for (headers, expected) in [
        (Tree::List(vec![header(false, "seal", b"")]), DecodeError::Length),
        (Tree::List(vec![header(false, "seal", &[2; 135])]), DecodeError::Value),
        (Tree::List(vec![header(false, "seal", &[1; MAX_SEAL + 1])]), DecodeError::Length),
        (Tree::List(vec![Tree::Nil; 17]), DecodeError::Length),
    ] {
        assert_eq!(reason(frame(headers), &device, &hub, None), EnvelopeError::Malformed(expected));
    }
}

/// Headers of others around ours do no harm; they are not signed, and mean nothing here.
#[test]
fn a_seal_among_other_headers() {
    let (hub, device) = (Key::new(1), Key::new(2));
    let body = body(b"x");
    let Ok(seal) = Seal::one(&hub, meta(&hub, &device, 1), &body);
    let alone = sealed(&seal, &body);
    let headers = Frame::decode(alone).unwrap().headers.unwrap();
    let mut buffer = vec![0; 1024];
    let mut writer = Writer::new(&mut buffer);
    writer.array(4).unwrap();
    writer.raw(&body).unwrap();
    writer.array(2).unwrap();
    writer.unsigned(23).unwrap();
    let mut reader = Reader::new(headers);
    reader.array(1).unwrap();
    writer.raw(reader.rest()).unwrap();
    assert_eq!(open(writer.bytes_written(), &device, &hub, None), Some(seal));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn seals_come_back(
        arguments in vec(any::<u8>(), 0..200),
        (epoch, counter, expires_ms) in (generate::number32(), generate::number(), generate::number()),
        count in 1_usize..20,
        place in any::<Index>(),
    ) {
        let (hub, device, stranger) = (Key::new(1), Key::new(2), Key::new(3));
        let one = Meta { epoch, counter, expires_ms, ..meta(&hub, &device, 1) };
        let place = place.index(count);
        let metas: Vec<Meta> = (0..count).map(|at| if at == place { one } else { meta(&hub, &stranger, at as u64) }).collect();
        let bodies: Vec<Vec<u8>> = (0..count).map(|at| if at == place { body(&arguments) } else { body(&[at as u8]) }).collect();
        let seal = batched(&hub, &metas, &bodies, place);
        let frame = sealed(&seal, &bodies[place]);

        let now = expires_ms;
        prop_assert_eq!(open(frame, &device, &hub, Some(now)), Some(seal.clone()));
        prop_assert_eq!(open(frame, &device, &hub, None), Some(seal));
        let (hub, device, stranger) = (hub.address(), device.address(), stranger.address());
        prop_assert_eq!(reason(frame, &stranger, &hub, None), EnvelopeError::Audience { audience: device });
        prop_assert_eq!(reason(frame, &device, &stranger, None), EnvelopeError::Sender { sender: hub });
        if expires_ms != 0 && expires_ms != u64::MAX {
            prop_assert_eq!(reason(frame, &device, &hub, Some(expires_ms + 1)), EnvelopeError::Expired);
        }
    }

    /// Who claims to be somebody else signs with a key that is not theirs.
    #[test]
    fn a_forged_sender(arguments in vec(any::<u8>(), 0..50)) {
        let (hub, device, liar) = (Key::new(1), Key::new(2), Key::new(3));
        let body = body(&arguments);
        let Ok(seal) = Seal::one(&liar, meta(&hub, &device, 1), &body);
        let found = reason(sealed(&seal, &body), &device.address(), &hub.address(), None);
        let is_refused = matches!(found, EnvelopeError::Signature(SignatureError::Signer { expected, found })
            if expected == hub.address() && found == liar.address());
        prop_assert!(is_refused);
    }

    #[test]
    fn noise_as_a_seal(noise in vec(any::<u8>(), 0..MAX_SEAL)) {
        let headers = Tree::List(vec![Tree::List(vec![
            Tree::Bool(false),
            Tree::Text("seal".into()),
            Tree::Bytes(noise),
        ])]);
        let frame = encoded(&Tree::List(vec![3.into(), 0.into(), Tree::List(vec![]), headers]));
        let frame = Frame::decode(frame).unwrap();
        prop_assert!(envelope::open(&frame, &Key::new(1).address(), &Key::new(2).address(), None).is_err());
    }

    #[test]
    fn noise_as_a_signature(noise in vec(any::<u8>(), 65), v in 26_u8..30, digest in generate::hash()) {
        let mut signature = Signature::from_slice(&noise).unwrap();
        signature.0[64] = v;
        signature.0[32] &= 0x7f;
        // Most such pairs are a signature by somebody whom nobody knows.
        prop_assert!(signature.verify(&digest, &Key::new(1).address()).is_err());
    }
}
