//! MessagePack, bounded: nothing is allocated, and no length that the network claims is believed before the
//! bytes are there.
//!
//! Structures travel as arrays of their fields. A reader ignores fields that it does not know (they come
//! last), so that a newer side can speak to an older one.

mod fields;
mod list;
mod marker;
mod reader;
mod writer;

pub(crate) use fields::structure;
pub use fields::{Bounded, Text, UNKNOWN_FIELDS};
pub use list::List;
pub use reader::Reader;
pub use writer::Writer;

/// How strings are written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The current MessagePack specification: `str` holds UTF-8, `bin` holds bytes.
    #[default]
    Current,
    /// The specification before August 2013, which Cocaine v0.12 speaks: one `raw` family for both, no `str8`
    /// and no `bin`.
    Raw,
}

/// Why bytes are not the message that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the message ends too early")]
    Truncated,
    /// Bytes follow after the message.
    #[error("bytes follow after the end of the message")]
    Trailing,
    /// Another type than expected.
    #[error("a field has another type than expected")]
    Type,
    /// A number that the field cannot hold, or that has no meaning there.
    #[error("a field has a value that means nothing there")]
    Value,
    /// A string, list or byte string longer (or shorter) than the field allows.
    #[error("a field is longer or shorter than allowed")]
    Length,
    /// Text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Fewer fields than the structure has.
    #[error("a structure lacks fields")]
    Fields,
}

/// Why a message could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It needs more room than the buffer has.
    #[error("the message does not fit into its buffer")]
    Full,
    /// A string, list, byte string or whole frame is longer than the other side will accept.
    #[error("a field, or the whole frame, is longer than allowed")]
    Length,
}

/// A value that can be written.
pub trait Encode {
    /// Writes the value.
    ///
    /// # Errors
    /// [`EncodeError`]; what was written before it stays in the buffer.
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError>;
}

/// A value that can be read, borrowing from the bytes that it was read from.
pub trait Decode<'a>: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// What a field at the end of a structure is where its writer did not know of it; `None` where it must be there.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads exactly one value.
///
/// # Errors
/// As the value's own, and [`DecodeError::Trailing`].
pub fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Writes one value and returns the bytes that it took.
///
/// # Errors
/// As the value's own.
pub fn encode<'b, T: Encode + ?Sized>(value: &T, buffer: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    let mut writer = Writer::new(buffer);
    value.encode(&mut writer)?;
    let length = writer.written();
    Ok(&buffer[..length])
}
