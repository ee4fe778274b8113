//! Results and commitments: each input counts, and only one order is accepted.

use proptest::{collection::vec, prelude::*, sample::Index};
use sosna_protocol::{
    Hash,
    result::{self, Cause, Entry, EntryKind, MAX_PATH, ResultError},
};

use crate::generate;

fn file(path: &[u8]) -> Entry<'_> {
    Entry { kind: EntryKind::File, path, mode: 0o644, length: 1, sha256: Hash([1; 32]) }
}

/// Each array with one bit of one byte flipped.
fn flipped<const N: usize>(bytes: [u8; N], at: usize) -> [u8; N] {
    let mut flipped = bytes;
    flipped[at / 8 % N] ^= 1 << (at % 8);
    flipped
}

proptest! {
    #[test]
    fn a_commitment_binds_everything(
        (hub, assignment, device) in (generate::address(), generate::assignment_id(), generate::address()),
        (root, salt, at) in (generate::hash(), generate::hash(), 0..256_usize),
    ) {
        let commitment = result::commitment(&hub, &assignment, &device, &root, &salt);
        let (mut other_hub, mut other_device) = (hub, device);
        other_hub.0 = flipped(hub.0, at);
        other_device.0 = flipped(device.0, at);
        let mut other = assignment;
        other.0 = flipped(assignment.0, at);
        let others = [
            result::commitment(&other_hub, &assignment, &device, &root, &salt),
            result::commitment(&hub, &other, &device, &root, &salt),
            result::commitment(&hub, &assignment, &other_device, &root, &salt),
            result::commitment(&hub, &assignment, &device, &Hash(flipped(root.0, at)), &salt),
            result::commitment(&hub, &assignment, &device, &root, &Hash(flipped(salt.0, at))),
        ];
        prop_assert!(!others.contains(&commitment));
        if hub != device {
            prop_assert_ne!(result::commitment(&device, &assignment, &hub, &root, &salt), commitment);
        }
        if root != salt {
            prop_assert_ne!(result::commitment(&hub, &assignment, &device, &salt, &root), commitment);
        }
    }

    #[test]
    fn every_field_of_an_entry_counts(
        cause in generate::cause(),
        (code, mode, length, sha256) in (any::<u8>(), any::<u32>(), any::<u64>(), generate::hash()),
        at in 0..256_usize,
    ) {
        let root = |entry: Entry<'_>| result::root([Entry::exit(cause, code), entry]).unwrap();
        let entry = Entry { kind: EntryKind::File, path: b"a/b", mode, length, sha256 };
        let others = [
            Entry { kind: EntryKind::Folder, ..entry },
            Entry { kind: EntryKind::Link, ..entry },
            Entry { path: b"a/c", ..entry },
            Entry { mode: mode ^ 1 << (at % 32), ..entry },
            Entry { length: length ^ 1 << (at % 64), ..entry },
            Entry { sha256: Hash(flipped(sha256.0, at)), ..entry },
        ];
        for other in others {
            prop_assert_ne!(root(other), root(entry));
        }
        let with = |exit| result::root([exit, entry]).unwrap();
        prop_assert_ne!(with(Entry::exit(cause, code ^ 1)), root(entry));
        let another = if cause == Cause::Exited { Cause::Signalled } else { Cause::Exited };
        prop_assert_ne!(with(Entry::exit(another, code)), root(entry));
        prop_assert_ne!(result::root([entry]).unwrap(), root(entry));
    }

    #[test]
    fn one_order_only(paths in vec("[a-c]{1,2}(/[a-c.]{0,2}){0,2}", 2..12), one in any::<Index>(), other in any::<Index>()) {
        let is_good = |path: &String| path.split('/').all(|part| !["", ".", ".."].contains(&part));
        let mut paths: Vec<String> = paths.into_iter().filter(is_good).collect();
        paths.sort_unstable_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        paths.dedup();
        prop_assume!(!paths.is_empty());
        let entries: Vec<Entry<'_>> = paths.iter().map(|path| file(path.as_bytes())).collect();
        prop_assert!(result::root(entries.iter().copied()).is_ok());

        let (one, other) = (one.index(entries.len()), other.index(entries.len()));
        let mut swapped = entries.clone();
        swapped.swap(one, other);
        prop_assert_eq!(result::root(swapped).is_ok(), one == other);
        let mut doubled = entries.clone();
        doubled.insert(one, entries[one]);
        prop_assert_eq!(result::root(doubled), Err(ResultError::Order));
        // Not even as something else: a path is a file or a folder or a link.
        let mut twice = entries.clone();
        twice.insert(one, Entry { kind: EntryKind::Folder, ..entries[one] });
        prop_assert_eq!(result::root(twice), Err(ResultError::Order));
    }

    #[test]
    fn paths_of_any_bytes(path in prop_oneof![vec(any::<u8>(), 0..20), vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a')], 0..9)]) {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let is_good = !parts.iter().any(|part| [&b""[..], b".", b".."].contains(part));
        prop_assert_eq!(result::root([file(&path)]).is_ok(), is_good);
    }
}

#[test]
fn places_that_are_not_there() {
    let (exit, stdout) = (Entry::exit(Cause::Exited, 0), Entry::stdout(0, Hash::ZERO));
    let long = vec![b'a'; MAX_PATH + 1];
    assert!(result::root([file(&long[1..])]).is_ok());
    assert_eq!(result::root([file(&long)]), Err(ResultError::Path));
    assert!(result::root([exit, stdout, file(b"a")]).is_ok());
    assert_eq!(result::root([stdout, exit]), Err(ResultError::Order));
    assert_eq!(result::root([exit, exit]), Err(ResultError::Order));
    assert_eq!(result::root([exit, file(b"a"), stdout]), Err(ResultError::Order));
    assert_eq!(result::root([Entry { path: b"a", ..exit }]), Err(ResultError::Path));
    assert!(matches!(result::root([]), Err(ResultError::Tree(_))));
}
