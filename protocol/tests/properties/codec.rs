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
