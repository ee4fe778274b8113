//! Sealed frames, single and signed in one go.

use serde_json::json;
use sosna_protocol::{
    Hash,
    envelope::{self, Meta, Seal},
    frame::Frame,
    identity::Sign as _,
    merkle,
};

use crate::{
    compare,
    support::{Key, hex, meta, sealed},
};

fn describe(name: String, key: u8, seal: &Seal, body: &[u8], frame: &[u8]) -> serde_json::Value {
    let Meta { sender, audience, epoch, counter, expires_ms } = seal.meta;
    json!({
        "name": name,
        "key": hex([key; 32]),
        "sender": sender.to_string(),
        "audience": audience.to_string(),
        "epoch": epoch,
        "counter": counter.to_string(),
        "expires_ms": expires_ms.to_string(),
        "body": hex(body),
        "leaf": hex(seal.meta.leaf(body).0),
        "count": seal.count,
        "index": seal.index,
        "path": seal.path.iter().map(|hash| hex(hash.0)).collect::<Vec<_>>(),
        "root": hex(seal.root(body).unwrap().0),
        "signature": hex(seal.signature.0),
        "frame": hex(frame),
    })
}

#[test]
fn seals() {
    let (hub, device) = (Key::new(0x11), Key::new(0x22));
    let mut vectors = Vec::new();
    let single = |name: &str, meta: Meta, body: &[u8]| {
        let Ok(seal) = Seal::one(&hub, meta, body);
        let frame = sealed(&seal, body);
        let opened = envelope::open(&Frame::decode(frame).unwrap(), &device.address(), &hub.address(), None);
        assert_eq!(opened, Ok(seal.clone()), "{name}");
        describe(name.to_owned(), 0x11, &seal, body, frame)
    };
    vectors.push(single("the shortest body", meta(&hub, &device, 1), &[0x06, 0x00, 0x90]));
    vectors.push(single(
        "largest numbers, never expires",
        Meta { epoch: u32::MAX, expires_ms: 0, ..meta(&hub, &device, u64::MAX) },
        &[0x05, 0x01, 0x91, 0xc4, 0x02, 0xff, 0x00],
    ));

    // Five: the last leaf is promoted twice, so its path is shorter than the others'.
    let bodies: Vec<[u8; 4]> = (0..5).map(|place| [0x03, 0x02, 0x91, place]).collect();
    let metas: Vec<Meta> = (0..5).map(|place| meta(&hub, &device, 100 + place)).collect();
    let leaves: Vec<Hash> = metas.iter().zip(&bodies).map(|(meta, body)| meta.leaf(body)).collect();
    let mut space = leaves.clone();
    space.resize(merkle::Tree::nodes(leaves.len()), Hash::ZERO);
    let tree = merkle::Tree::over(&mut space, leaves.len()).unwrap();
    let root = tree.root(merkle::Domain::Batch);
    let Ok(signature) = hub.sign(&root);
    for (place, (meta, body)) in metas.into_iter().zip(&bodies).enumerate() {
        let path = tree.path(place).unwrap();
        let seal = Seal { meta, count: 5, index: u32::try_from(place).unwrap(), path, signature };
        let frame = sealed(&seal, body);
        let opened =
            envelope::open(&Frame::decode(frame).unwrap(), &device.address(), &hub.address(), Some(1));
        assert_eq!(opened, Ok(seal.clone()));
        assert_eq!(seal.root(body), Some(root));
        vectors.push(describe(format!("frame {place} of a batch of 5"), 0x11, &seal, body, frame));
    }
    let about = "Frames under a seal. The signature is over `root`; `leaf` and `root` are described in envelope.rs and merkle.rs.";
    compare("seals", about, vectors);
}
