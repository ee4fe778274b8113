//! Trees and commitments. The second opinion is a recursive tree over alloy's ABI encoding and Keccak: it halves
//! from the top where the crate pairs from the bottom.

use alloy_primitives::{B256, FixedBytes, U256, keccak256};
use alloy_sol_types::SolValue as _;
use serde_json::{Value, json};
use sosna_protocol::{
    Address, Hash,
    eip712::receipts_root,
    envelope::Meta,
    identity::AssignmentId,
    merkle,
    result::{self, Cause, Entry, EntryKind},
};

use crate::{compare, support::hex};

const RESULT: &str = "sosna result tree v1";
const BATCH: &str = "sosna batch tree v1";
const RECEIPTS: &str = "sosna receipts tree v1";

fn leaf(encoded: &[u8]) -> B256 {
    keccak256(keccak256(encoded))
}

fn top(leaves: &[B256]) -> B256 {
    match leaves {
        [one] => *one,
        many => {
            let half = many.len().next_power_of_two() / 2;
            keccak256([top(&many[..half]), top(&many[half..])].concat())
        }
    }
}

fn root(tag: &str, leaves: &[B256]) -> B256 {
    keccak256((keccak256(tag), U256::from(leaves.len()), top(leaves)).abi_encode())
}

/// The siblings on the way from the top, read backwards.
fn path(leaves: &[B256], index: usize) -> Vec<B256> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let half = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(half);
    let (mut below, sibling) =
        if index < half { (path(left, index), top(right)) } else { (path(right, index - half), top(left)) };
    below.push(sibling);
    below
}

fn result_leaf(entry: &Entry<'_>) -> B256 {
    let kind = match entry.kind {
        EntryKind::Exit => 1_u8,
        EntryKind::Stdout => 2,
        EntryKind::File => 3,
        EntryKind::Folder => 4,
        EntryKind::Link => 5,
    };
    let encoded = (
        keccak256(RESULT),
        U256::from(kind),
        keccak256(entry.path),
        U256::from(entry.mode),
        U256::from(entry.length),
        B256::from(entry.sha256.0),
    );
    leaf(&encoded.abi_encode())
}

fn result_vector(name: &str, entries: &[Entry<'_>]) -> Value {
    let ours = result::root(entries.iter().copied()).unwrap();
    let leaves: Vec<B256> = entries.iter().map(result_leaf).collect();
    assert_eq!(ours.0, root(RESULT, &leaves).0, "{name}");
    let described: Vec<Value> = entries
        .iter()
        .zip(&leaves)
        .map(|(entry, leaf)| {
            json!({
                "kind": format!("{:?}", entry.kind),
                "path": hex(entry.path),
                "mode": entry.mode,
                "length": entry.length,
                "sha256": entry.sha256.to_string(),
                "leaf": hex(leaf),
            })
        })
        .collect();
    json!({"name": name, "entries": described, "root": ours.to_string()})
}

fn file<'a>(kind: EntryKind, path: &'a [u8], mode: u32, content: &[u8]) -> Entry<'a> {
    let sha256 = if kind == EntryKind::Folder { Hash::ZERO } else { sosna_protocol::hash::sha256(content) };
    Entry { kind, path, mode, length: content.len() as u64, sha256 }
}

#[test]
fn results() {
    let stdout = Entry::stdout(6, sosna_protocol::hash::sha256(b"hello\n"));
    let mut vectors = vec![
        result_vector("exit code 0 and nothing else", &[Entry::exit(Cause::Exited, 0)]),
        result_vector("out of memory", &[Entry::exit(Cause::OutOfMemory, 137)]),
        result_vector("exit code and stdout", &[Entry::exit(Cause::Exited, 3), stdout]),
        result_vector(
            "files, a folder, a link; order by bytes of the path, also where they are not UTF-8",
            &[
                Entry::exit(Cause::Exited, 0),
                stdout,
                file(EntryKind::Folder, b"out", 0o755, b""),
                file(EntryKind::File, b"out-of-order", 0o600, b"-"),
                file(EntryKind::File, b"out/a", 0o644, b"content"),
                file(EntryKind::Link, b"out/b", 0o777, b"a"),
                file(EntryKind::File, b"out/\xff\xfe", 0o644, b""),
            ],
        ),
    ];
    let names: Vec<String> = (0..130).map(|place| format!("{place:03}")).collect();
    for count in [1, 2, 3, 4, 5, 7, 8, 9, 64, 65, 130] {
        let entries: Vec<Entry<'_>> = names[..count]
            .iter()
            .map(|name| file(EntryKind::File, name.as_bytes(), 0o644, name.as_bytes()))
            .collect();
        let ours = result::root(entries.iter().copied()).unwrap();
        let leaves: Vec<B256> = entries.iter().map(result_leaf).collect();
        assert_eq!(ours.0, root(RESULT, &leaves).0, "{count} files");
        let what = "files 000, 001, … with their own names as content, mode 644";
        vectors.push(json!({"name": format!("{count} {what}"), "count": count, "root": ours.to_string()}));
    }
    compare("results", "Result trees: what a task left behind, and the root that devices agree on.", vectors);
}

#[test]
fn batches() {
    let mut vectors = Vec::new();
    for count in [1_u32, 2, 3, 5, 6, 8, 11] {
        let frames: Vec<(Meta, [u8; 3])> = (0..count)
            .map(|place| {
                let number = u8::try_from(place).unwrap();
                let meta = Meta {
                    sender: Address([0x11; 20]),
                    audience: Address([number; 20]),
                    epoch: place,
                    counter: u64::from(place) + 1,
                    expires_ms: 1_800_000_000_000 * u64::from(place % 2),
                };
                (meta, [3, number, 0x90])
            })
            .collect();
        let theirs: Vec<B256> = frames
            .iter()
            .map(|(meta, body)| {
                let encoded = (
                    keccak256(BATCH),
                    alloy_primitives::Address::from(meta.sender.0),
                    alloy_primitives::Address::from(meta.audience.0),
                    U256::from(meta.epoch),
                    U256::from(meta.counter),
                    U256::from(meta.expires_ms),
                    keccak256(body),
                );
                leaf(&encoded.abi_encode())
            })
            .collect();
        let ours: Vec<Hash> = frames.iter().map(|(meta, body)| meta.leaf(body)).collect();
        let top = merkle::root(merkle::Domain::Batch, ours.iter().copied()).unwrap();
        let mut space = ours.clone();
        space.resize(merkle::Tree::nodes(ours.len()), Hash::ZERO);
        let tree = merkle::Tree::over(&mut space, ours.len()).unwrap();
        assert_eq!(top.0, root(BATCH, &theirs).0);
        let described: Vec<Value> = frames
            .iter()
            .enumerate()
            .map(|(place, (meta, body))| {
                let walked = tree.path(place).unwrap();
                assert_eq!(ours[place].0, theirs[place].0);
                assert!(walked.iter().map(|hash| hash.0).eq(path(&theirs, place).iter().map(|hash| hash.0)));
                json!({
                    "meta": format!("{meta:?}"),
                    "body": hex(body),
                    "leaf": ours[place].to_string(),
                    "path": walked.iter().map(Hash::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        vectors.push(json!({
            "name": format!("{count} frames"),
            "frames": described,
            "root": top.to_string(),
        }));
    }
    compare(
        "batches",
        "Batch trees: the paths from frames that were signed together to the signed root.",
        vectors,
    );
}

#[test]
fn receipts() {
    let mut vectors = Vec::new();
    for count in [0_u8, 1, 2, 3, 100] {
        let digests: Vec<Hash> = (0..count).map(|place| Hash(keccak256([place]).0)).collect();
        let ours = receipts_root(digests.iter().copied());
        let leaves: Vec<B256> = digests
            .iter()
            .map(|digest| leaf(&(keccak256(RECEIPTS), B256::from(digest.0)).abi_encode()))
            .collect();
        let theirs = if leaves.is_empty() { B256::ZERO } else { root(RECEIPTS, &leaves) };
        assert_eq!(ours.0, theirs.0, "{count}");
        vectors.push(json!({
            "name": format!("{count} receipts whose digests are keccak256 of the bytes 0, 1, …"),
            "count": count,
            "root": ours.to_string(),
        }));
    }
    compare("receipts", "The root of the receipts that a voucher covers.", vectors);
}

#[test]
fn commitments() {
    let mut vectors = Vec::new();
    for (name, byte) in [("zero", 0_u8), ("usual", 0x42), ("all ones", 0xff)] {
        let (hub, device) = (Address([byte; 20]), Address([byte / 2; 20]));
        let assignment = AssignmentId([byte / 3; 16]);
        let (root, salt) = (Hash([byte / 5; 32]), Hash([byte / 7; 32]));
        let ours = result::commitment(&hub, &assignment, &device, &root, &salt);
        let encoded = (
            keccak256("sosna commitment v1"),
            alloy_primitives::Address::from(hub.0),
            FixedBytes::<16>::from(assignment.0),
            alloy_primitives::Address::from(device.0),
            B256::from(root.0),
            B256::from(salt.0),
        );
        assert_eq!(ours.0, keccak256(encoded.abi_encode()).0, "{name}");
        vectors.push(json!({
            "name": name,
            "hub": hub.to_string(),
            "assignment": assignment.to_string(),
            "device": device.to_string(),
            "root": root.to_string(),
            "salt": salt.to_string(),
            "commitment": ours.to_string(),
        }));
    }
    compare("commitments", "What a device binds itself to before it shows a result.", vectors);
}
