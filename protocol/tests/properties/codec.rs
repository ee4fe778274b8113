//! Values one by one: what is written is read again, and stepping over finds the same end as reading.

use proptest::{collection::vec, prelude::*};
use sosna_protocol::codec::{self, Decode, DecodeError, Dialect, Encode as _, Reader, Writer};

use crate::{generate, support::keep, tree::Tree};

/// Values that only [`Reader::skip`] knows: floats, extensions, and forms longer than they need be.
fn raw() -> impl Strategy<Value = Tree> {
    let fixed = |marker: u8, length: usize| {
        vec(any::<u8>(), length).prop_map(move |rest| Tree::Raw([&[marker][..], &rest].concat()))
    };
    let counted = |marker: u8, width: usize, more: usize| {
        vec(any::<u8>(), 0..40).prop_map(move |content| {
            let length = (content.len() as u32).to_be_bytes();
            Tree::Raw([&[marker][..], &length[4 - width..], &vec![0xee; more], &content].concat())
        })
    };
    prop_oneof![
        fixed(0xca, 4),
        fixed(0xcb, 8),
        fixed(0xcc, 1),
        fixed(0xcd, 2),
        fixed(0xce, 4),
        fixed(0xcf, 8),
        fixed(0xd0, 1),
        fixed(0xd1, 2),
        fixed(0xd2, 4),
        fixed(0xd3, 8),
        fixed(0xd4, 2),
        fixed(0xd5, 3),
        fixed(0xd6, 5),
        fixed(0xd7, 9),
        fixed(0xd8, 17),
        counted(0xc4, 1, 0),
        counted(0xc5, 2, 0),
        counted(0xc6, 4, 0),
        counted(0xc7, 1, 1),
        counted(0xc8, 2, 1),
        counted(0xc9, 4, 1),
        counted(0xd9, 1, 0),
        counted(0xda, 2, 0),
        counted(0xdb, 4, 0),
        Just(Tree::Raw(vec![0xdc, 0, 1, 0xc0])),
        Just(Tree::Raw(vec![0xdd, 0, 0, 0, 1, 0xc0])),
        Just(Tree::Raw(vec![0xde, 0, 1, 0xc0, 0xc2])),
        Just(Tree::Raw(vec![0xdf, 0, 0, 0, 1, 0xc0, 0xc2])),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Nil),
        any::<bool>().prop_map(Tree::Bool),
        generate::number().prop_map(Tree::Unsigned),
        any::<i64>().prop_map(Tree::Signed),
        any::<String>().prop_map(Tree::Text),
        vec(any::<u8>(), 0..300).prop_map(Tree::Bytes),
        raw(),
    ];
    leaf.prop_recursive(6, 128, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Tree::List),
            vec((inner.clone(), inner), 0..20).prop_map(Tree::Map),
        ]
    })
}

fn written(tree: &Tree, dialect: Dialect) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let mut writer = Writer::with_dialect(&mut buffer, dialect);
    tree.encode(&mut writer).unwrap();
    let length = writer.written();
    buffer.truncate(length);
    buffer
}

/// Reads what was written, value by value, and compares.
fn compare(reader: &mut Reader<'_>, tree: &Tree) -> Result<(), DecodeError> {
    match tree {
        Tree::Nil => assert!(reader.nil()),
        Tree::Bool(value) => assert_eq!(reader.bool()?, *value),
        Tree::Unsigned(value) => assert_eq!(reader.unsigned()?, *value),
        Tree::Signed(value) => assert_eq!(reader.signed()?, *value),
        Tree::Text(value) => assert_eq!(reader.text(value.len())?, value),
        Tree::Bytes(value) => assert_eq!(reader.bytes(value.len())?, value),
        Tree::Raw(value) => assert_eq!(reader.skip()?, value),
        Tree::List(items) => {
            assert_eq!(reader.array(items.len())?, items.len());
            items.iter().try_for_each(|item| compare(reader, item))?;
        }
        Tree::Map(entries) => {
            assert_eq!(reader.map(entries.len())?, entries.len());
            for (key, value) in entries {
                compare(reader, key)?;
                compare(reader, value)?;
            }
        }
    }
    Ok(())
}

fn there_and_back<T>(value: T) -> Result<(), TestCaseError>
where
    T: codec::Encode + Decode<'static> + PartialEq + std::fmt::Debug,
{
    let mut buffer = [0; 32];
    let bytes = keep(codec::encode(&value, &mut buffer).unwrap().to_vec());
    prop_assert_eq!(codec::decode::<T>(bytes), Ok(value));
    Ok(())
}

proptest! {
    #[test]
    fn values_come_back(tree in tree(), raw_dialect in any::<bool>()) {
        let dialect = if raw_dialect { Dialect::Raw } else { Dialect::Current };
        let bytes = written(&tree, dialect);
        let mut reader = Reader::with_dialect(&bytes, dialect);
        prop_assert_eq!(compare(&mut reader, &tree), Ok(()));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn skip_finds_the_end(tree in tree(), after in vec(any::<u8>(), 0..20)) {
        let bytes = written(&tree, Dialect::Current);
        let all = [&bytes[..], &after].concat();
        let mut reader = Reader::new(&all);
        prop_assert_eq!(reader.skip(), Ok(&bytes[..]));
        prop_assert_eq!(reader.rest(), &after[..]);
        for length in (0..bytes.len()).step_by(bytes.len().div_ceil(200)) {
            let mut reader = Reader::new(&bytes[..length]);
            prop_assert_eq!(reader.skip(), Err(DecodeError::Truncated));
            prop_assert_eq!(reader.rest().len(), length, "a reader that waits for more stays where it was");
        }
    }

    #[test]
    fn noise_never_moves_a_reader_beyond_its_end(noise in vec(any::<u8>(), 0..64), most in 0_usize..40) {
        for dialect in [Dialect::Current, Dialect::Raw] {
            let start = Reader::with_dialect(&noise, dialect);
            let calls: [fn(&mut Reader<'_>, usize) -> Option<DecodeError>; 8] = [
                |reader, _| reader.bool().err(),
                |reader, _| reader.unsigned().err(),
                |reader, _| reader.signed().err(),
                |reader, most| reader.array(most).err(),
                |reader, most| reader.map(most).err(),
                |reader, most| reader.bytes(most).err(),
                |reader, most| reader.text(most).err(),
                |reader, _| reader.skip().err(),
            ];
            for call in calls {
                let mut reader = start.clone();
                let error = call(&mut reader, most);
                prop_assert!(noise.ends_with(reader.rest()));
                prop_assert!(error.is_some() || reader.rest().len() < noise.len());
                if error == Some(DecodeError::Truncated) {
                    prop_assert_eq!(reader.rest().len(), noise.len());
                }
            }
        }
    }

    #[test]
    fn bounds_are_kept(text in any::<String>(), bytes in vec(any::<u8>(), 1..300)) {
        let encoded = written(&Tree::Text(text.clone()), Dialect::Current);
        if let Some(less) = text.len().checked_sub(1) {
            prop_assert_eq!(Reader::new(&encoded).text(less), Err(DecodeError::Length));
        }
        prop_assert_eq!(Reader::new(&encoded).bytes(usize::MAX), Err(DecodeError::Type));
        let encoded = written(&Tree::Bytes(bytes.clone()), Dialect::Current);
        prop_assert_eq!(Reader::new(&encoded).bytes(bytes.len() - 1), Err(DecodeError::Length));
        prop_assert_eq!(Reader::new(&encoded).text(usize::MAX), Err(DecodeError::Type));
        prop_assert_eq!(Reader::with_dialect(&encoded, Dialect::Raw).bytes(bytes.len()), Ok(&bytes[..]));
    }

    #[test]
    fn numbers(number in generate::number(), signed in any::<i64>(), small in any::<i32>()) {
        there_and_back(number)?;
        there_and_back(number as u32)?;
        there_and_back(number as u16)?;
        there_and_back(number as u8)?;
        there_and_back(signed)?;
        there_and_back(small)?;
        there_and_back(Some(number))?;
        there_and_back(None::<u64>)?;
        let mut buffer = [0; 16];
        let bytes = codec::encode(&number, &mut buffer).unwrap();
        prop_assert_eq!(codec::decode::<u8>(bytes), u8::try_from(number).map_err(|_| DecodeError::Value));
        prop_assert_eq!(codec::decode::<u32>(bytes), u32::try_from(number).map_err(|_| DecodeError::Value));
        prop_assert_eq!(codec::decode::<i64>(bytes), i64::try_from(number).map_err(|_| DecodeError::Value));
        let bytes = codec::encode(&signed, &mut buffer).unwrap();
        prop_assert_eq!(codec::decode::<u64>(bytes), u64::try_from(signed).map_err(|_| DecodeError::Value));
    }
}

/// What `rmp` makes of a value, and what it reads from noise.
mod reference {
    use rmp::{decode as read, encode as write};
    use sosna_protocol::codec::Writer;

    use super::Tree;

    pub(super) fn written(tree: &Tree, out: &mut Vec<u8>) {
        match tree {
            Tree::Nil => write::write_nil(out).unwrap(),
            Tree::Bool(value) => write::write_bool(out, *value).unwrap(),
            Tree::Unsigned(value) => drop(write::write_uint(out, *value).unwrap()),
            Tree::Signed(value) => drop(write::write_sint(out, *value).unwrap()),
            Tree::Text(value) => write::write_str(out, value).unwrap(),
            Tree::Bytes(value) => write::write_bin(out, value).unwrap(),
            Tree::Raw(value) => out.extend_from_slice(value),
            Tree::List(items) => {
                write::write_array_len(out, items.len() as u32).unwrap();
                items.iter().for_each(|item| written(item, out));
            }
            Tree::Map(entries) => {
                write::write_map_len(out, entries.len() as u32).unwrap();
                for (key, value) in entries {
                    written(key, out);
                    written(value, out);
                }
            }
        }
    }

    /// Writes the head of a list of so many, by us and by them.
    type Head = (fn(&mut Writer<'_>, usize), fn(&mut Vec<u8>, u32));

    pub(super) const LENGTHS: [Head; 2] = [
        (
            |writer, length| writer.array(length).unwrap(),
            |out, length| {
                write::write_array_len(out, length).unwrap();
            },
        ),
        (
            |writer, length| writer.map(length).unwrap(),
            |out, length| {
                write::write_map_len(out, length).unwrap();
            },
        ),
    ];

    pub(super) fn signed(mut noise: &[u8]) -> Option<(i64, usize)> {
        let value = read::read_int(&mut noise).ok()?;
        Some((value, noise.len()))
    }

    pub(super) fn unsigned(mut noise: &[u8]) -> Option<(u64, usize)> {
        let value = read::read_int(&mut noise).ok()?;
        Some((value, noise.len()))
    }

    pub(super) fn bool(mut noise: &[u8]) -> Option<(bool, usize)> {
        let value = read::read_bool(&mut noise).ok()?;
        Some((value, noise.len()))
    }

    /// Of an array, a map, a text, a byte string: what length its head claims.
    pub(super) fn lengths(noise: &[u8]) -> [Option<u32>; 4] {
        let [mut a, mut b, mut c, mut d] = [noise; 4];
        [
            read::read_array_len(&mut a).ok(),
            read::read_map_len(&mut b).ok(),
            read::read_str_len(&mut c).ok(),
            read::read_bin_len(&mut d).ok(),
        ]
    }
}

proptest! {
    #[test]
    fn rmp_writes_the_same(tree in tree()) {
        let mut theirs = Vec::new();
        reference::written(&tree, &mut theirs);
        prop_assert_eq!(written(&tree, Dialect::Current), theirs);
    }

    #[test]
    fn rmp_reads_the_same(head in any::<u8>(), noise in vec(any::<u8>(), 0..12)) {
        let noise = [&[head][..], &noise].concat();
        let read = |reader: &Reader<'_>| reader.rest().len();
        let mut reader = Reader::new(&noise);
        let ours = reader.signed().ok();
        prop_assert_eq!(ours.map(|value| (value, read(&reader))), reference::signed(&noise));
        let mut reader = Reader::new(&noise);
        let ours = reader.unsigned().ok();
        prop_assert_eq!(ours.map(|value| (value, read(&reader))), reference::unsigned(&noise));
        let mut reader = Reader::new(&noise);
        let ours = reader.bool().ok();
        prop_assert_eq!(ours.map(|value| (value, read(&reader))), reference::bool(&noise));

        // What they find in a head, we find too, as far as the bytes are there.
        let long = [&noise[..], &vec![0; 1 << 17]].concat();
        let theirs = reference::lengths(&long);
        let there = |length: Option<u32>, most: usize| length.map(|n| n as usize).filter(|n| *n <= most);
        let start = || Reader::new(&long);
        prop_assert_eq!(start().array(1 << 16).ok(), there(theirs[0], 1 << 16));
        prop_assert_eq!(start().map(1 << 16).ok(), there(theirs[1], 1 << 16));
        let text = start().text(1 << 16);
        if text != Err(DecodeError::Utf8) {
            prop_assert_eq!(text.ok().map(str::len), there(theirs[2], 1 << 16));
        }
        prop_assert_eq!(start().bytes(1 << 16).ok().map(<[u8]>::len), there(theirs[3], 1 << 16));
    }
}

/// Heads at every edge where one more byte is needed.
#[test]
fn rmp_writes_the_same_lengths() {
    let edges = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536, u32::MAX];
    for length in edges {
        for (ours, theirs) in reference::LENGTHS {
            let (mut buffer, mut expected) = ([0; 9], Vec::new());
            let mut writer = Writer::new(&mut buffer);
            ours(&mut writer, length as usize);
            theirs(&mut expected, length);
            assert_eq!(writer.bytes_written(), expected, "{length}");
        }
        if length < 100_000 {
            let text = Tree::Text("t".repeat(length as usize));
            let bytes = Tree::Bytes(vec![7; length as usize]);
            for tree in [text, bytes] {
                let mut expected = Vec::new();
                reference::written(&tree, &mut expected);
                assert_eq!(written(&tree, Dialect::Current), expected, "{length}");
            }
        }
    }
}

/// A head that claims four milliards of elements costs no more than its five bytes.
#[test]
fn claims_are_not_believed() {
    for head in
        [[0xdd, 0xff, 0xff, 0xff, 0xff], [0xdf, 0xff, 0xff, 0xff, 0xff], [0xc6, 0xff, 0xff, 0xff, 0xff]]
    {
        assert_eq!(Reader::new(&head).skip(), Err(DecodeError::Truncated));
        // Thousands of such heads inside each other: the count of what is missing must not overflow.
        assert_eq!(Reader::new(&head.repeat(20_000)).skip(), Err(DecodeError::Truncated));
    }
    let deep = [&vec![0x91; 1_000_000][..], &[0xc0]].concat();
    assert_eq!(Reader::new(&deep).skip(), Ok(&deep[..]), "depth costs no stack");
    assert_eq!(Reader::new(&[0xc1]).skip(), Err(DecodeError::Type));
}
