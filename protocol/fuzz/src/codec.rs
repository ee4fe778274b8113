//! The codec alone: stepping over a value and reading it must agree about where it ends.

use sosna_protocol::codec::{DecodeError, Dialect, Reader};

/// How deep values are read one by one; deeper ones are only stepped over.
const DEPTH: usize = 40;

/// Reads bytes as values in both dialects.
///
/// # Panics
/// Where reading and stepping over disagree, or a reader leaves its bytes.
pub fn codec(bytes: &[u8]) {
    for dialect in [Dialect::Current, Dialect::Raw] {
        let mut reader = Reader::with_dialect(bytes, dialect);
        while !reader.rest().is_empty() {
            let mut stepping = reader.clone();
            let stepped = stepping.skip().map(<[u8]>::len);
            let walked = walk(&mut reader, DEPTH);
            match (stepped, walked) {
                (Ok(length), Ok(())) => {
                    assert!(length > 0);
                    assert_eq!(reader.rest().len(), stepping.rest().len());
                }
                // Text that is not UTF-8 is a value, though none of ours.
                (Ok(_), Err(DecodeError::Utf8)) => reader = stepping,
                (Err(_), Err(_)) => break,
                (stepped, walked) => panic!("stepped over {stepped:?}, read {walked:?} in {bytes:02x?}"),
            }
        }
        for most in [0, 3, usize::MAX] {
            refuse(&Reader::with_dialect(bytes, dialect), most);
        }
    }
}

fn walk(reader: &mut Reader<'_>, depth: usize) -> Result<(), DecodeError> {
    let head = reader.rest().first().copied().ok_or(DecodeError::Truncated)?;
    if depth == 0 {
        return reader.skip().map(drop);
    }
    match head {
        0x00..=0x7f | 0xcc..=0xcf => reader.unsigned().map(drop),
        0xd0..=0xd3 | 0xe0..=0xff => reader.signed().map(drop),
        0x80..=0x8f | 0xde | 0xdf => {
            let length = reader.map(usize::MAX)?;
            (0..length * 2).try_for_each(|_| walk(reader, depth - 1))
        }
        0x90..=0x9f | 0xdc | 0xdd => {
            let length = reader.array(usize::MAX)?;
            (0..length).try_for_each(|_| walk(reader, depth - 1))
        }
        0xa0..=0xbf | 0xd9..=0xdb if reader.dialect() == Dialect::Raw => reader.bytes(usize::MAX).map(drop),
        0xa0..=0xbf | 0xd9..=0xdb => reader.text(usize::MAX).map(drop),
        0xc4..=0xc6 => reader.bytes(usize::MAX).map(drop),
        0xc2 | 0xc3 => reader.bool().map(drop),
        0xc0 => {
            if reader.nil() {
                Ok(())
            } else {
                Err(DecodeError::Type)
            }
        }
        // Floats, extensions and the reserved one: only ever stepped over.
        0xc1 | 0xc7..=0xcb | 0xd4..=0xd8 => reader.skip().map(drop),
    }
}

/// Every reading, of whatever is there: a bound is kept, and who waits for more has not moved.
fn refuse(start: &Reader<'_>, most: usize) {
    let length = start.rest().len();
    let check = |reader: &Reader<'_>, failed: Option<DecodeError>| {
        assert!(reader.rest().len() <= length);
        assert!(failed != Some(DecodeError::Truncated) || reader.rest().len() == length);
    };
    let mut reader = start.clone();
    let read = reader.bytes(most);
    assert!(read.is_err() || read.is_ok_and(|bytes| bytes.len() <= most));
    check(&reader, read.err());
    let mut reader = start.clone();
    let read = reader.text(most);
    assert!(read.is_err() || read.is_ok_and(|text| text.len() <= most));
    check(&reader, read.err());
    let mut reader = start.clone();
    let read = reader.array(most);
    assert!(read.is_err() || read.is_ok_and(|length| length <= most && length <= reader.rest().len()));
    check(&reader, read.err());
    let mut reader = start.clone();
    let read = reader.map(most);
    assert!(read.is_err() || read.is_ok_and(|length| length <= most && length * 2 <= reader.rest().len()));
    check(&reader, read.err());
}
