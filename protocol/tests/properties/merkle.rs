//! Trees: every leaf's path leads to the root, and nothing else does.

use std::collections::HashSet;

use proptest::{collection::vec, prelude::*, sample::Index};
use sosna_protocol::{
    Hash,
    hash::keccak256,
    merkle::{self, Builder, Domain, MAX_LEAVES, MAX_PATH, Tree, TreeError},
};

fn leaves(count: u32) -> Vec<Hash> {
    (0..count).map(|place| keccak256(&[&place.to_be_bytes()])).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    merkle::root(Domain::Batch, leaves.iter().copied()).unwrap()
}

fn path(leaves: &[Hash], index: usize) -> Option<merkle::Path> {
    let mut space = leaves.to_vec();
    space.resize(Tree::nodes(leaves.len()), Hash::ZERO);
    let tree = Tree::over(&mut space, leaves.len()).unwrap();
    assert_eq!(tree.root(Domain::Batch), root(leaves), "built leaf by leaf it is the same");
    tree.path(index)
}

fn climb(leaf: Hash, index: u32, count: u32, path: &[Hash]) -> Option<Hash> {
    merkle::climb(Domain::Batch, leaf, index, count, path)
}

#[test]
fn every_leaf_of_every_small_tree() {
    for count in 1..=130 {
        let leaves = leaves(count);
        let root = root(&leaves);
        for index in 0..count {
            let path = path(&leaves, index as usize).unwrap();
            let leaf = leaves[index as usize];
            assert_eq!(climb(leaf, index, count, &path), Some(root), "{index} of {count}");
            // The same path at any other place of any other tree leads elsewhere, or nowhere.
            for (other, of) in
                [(index + 1, count), (index, count + 1), (index / 2, count), (0, 1), (index, count - 1)]
            {
                if (other, of) != (index, count) {
                    assert_ne!(
                        climb(leaf, other, of, &path),
                        Some(root),
                        "{index} of {count} as {other} of {of}"
                    );
                }
            }
            let longer = [&path[..], &[leaf]].concat();
            assert_eq!(climb(leaf, index, count, &longer), None);
            if let Some((_, shorter)) = path.split_last() {
                assert_eq!(climb(leaf, index, count, shorter), None);
            }
        }
        assert_eq!(path(&leaves, count as usize), None);
        assert_eq!(climb(root, count, count, &[]), None);
    }
    assert_eq!(Tree::over(&mut [], 0).unwrap_err(), TreeError::Empty);
    assert_eq!(climb(Hash::ZERO, 0, 0, &[]), None);
}

/// CVE-2012-2459: where an odd node is doubled, a list and the same list with its end repeated share a root.
#[test]
fn no_two_lists_share_a_root() {
    let mut roots = HashSet::new();
    for count in 1..=40_u32 {
        let plain = leaves(count);
        assert!(roots.insert(root(&plain)), "{count}");
        for repeated in 1..=count.min(8) {
            let tail = &plain[(count - repeated) as usize..];
            let doubled = [&plain[..], tail].concat();
            assert!(roots.insert(root(&doubled)), "{count} with the last {repeated} again");
        }
        // A list of the nodes above is another list, though the hashes above the leaves are the same.
        if count > 1 {
            let above: Vec<Hash> = plain
                .chunks(2)
                .map(|pair| if let [left, right] = pair { keccak256(&[&left.0, &right.0]) } else { pair[0] })
                .collect();
            assert!(roots.insert(root(&above)), "{count} from one level up");
        }
    }
    let one = leaves(1)[0];
    let of = |domain| merkle::root(domain, [one]).unwrap();
    assert_ne!(of(Domain::Batch), of(Domain::Result));
    assert_ne!(of(Domain::Receipts), of(Domain::Result));
    assert_ne!(of(Domain::Batch), of(Domain::Receipts));
}

#[test]
fn bounds() {
    assert_eq!(Builder::new(Domain::Result).root(), Err(TreeError::Empty));
    let siblings = vec![Hash::ZERO; MAX_PATH];
    assert!(climb(Hash::ZERO, MAX_LEAVES - 1, MAX_LEAVES, &siblings).is_some());
    assert_eq!(climb(Hash::ZERO, 0, MAX_LEAVES + 1, &siblings), None);
    assert_eq!(climb(Hash::ZERO, 0, u32::MAX, &siblings), None);
    assert_eq!(climb(Hash::ZERO, u32::MAX, u32::MAX, &siblings), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn larger_trees(count in 131_u32..3000, index in any::<Index>(), place in any::<Index>(), bit in 0..256_usize) {
        let leaves = leaves(count);
        let index = index.index(count as usize);
        let number = index as u32;
        let root = root(&leaves);
        let path = path(&leaves, index).unwrap();
        prop_assert!(path.len() <= MAX_PATH);
        prop_assert_eq!(climb(leaves[index], number, count, &path), Some(root));

        let mut tampered = path.clone();
        let place = place.index(path.len());
        tampered[place].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(climb(leaves[index], number, count, &tampered), Some(root));
        let mut other = leaves[index];
        other.0[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(climb(other, number, count, &path), Some(root));
        let mut swapped = path.clone();
        swapped.reverse();
        prop_assert!(swapped == path || climb(leaves[index], number, count, &swapped) != Some(root));
    }

    #[test]
    fn a_builder_is_asked_in_between(counts in vec(0_u32..40, 1..6)) {
        let (mut builder, mut all) = (Builder::new(Domain::Batch), Vec::new());
        for more in counts {
            for leaf in leaves(more) {
                builder.push(leaf).unwrap();
                all.push(leaf);
            }
            prop_assert_eq!(builder.count() as usize, all.len());
            let whole = merkle::root(Domain::Batch, all.iter().copied());
            prop_assert_eq!(builder.root(), whole);
        }
    }
}
