//! The whitepaper's tuple: `[channel, message, [arguments…], [headers…]?]`.
//!
//! One frame is one MQTT payload; on a Cocaine connection frames follow each other without a prefix.

use crate::codec::{Decode, DecodeError, Dialect, Encode, EncodeError, Reader, Writer};

/// The largest frame in bytes that devices and hubs send each other. Whatever is larger travels as content.
pub const MAX_FRAME: usize = 128 * 1024;

/// A decoded frame, borrowing from the bytes that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which conversation this belongs to; on MQTT the exchange ([`crate::topic::Kind::channel`]).
    pub channel: u64,
    /// Which message of the conversation.
    pub message: u64,
    /// The arguments: one encoded array.
    pub arguments: &'a [u8],
    /// The headers: one encoded array.
    pub headers: Option<&'a [u8]>,
    /// Channel, message and arguments as they were encoded: what a signature covers.
    pub body: &'a [u8],
    dialect: Dialect,
}

impl<'a> Frame<'a> {
    /// Reads exactly one frame.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::Length`] beyond [`MAX_FRAME`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_FRAME {
            return Err(DecodeError::Length);
        }
        let mut reader = Reader::new(bytes);
        let frame = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(frame)
    }

    /// Reads the next frame of a stream and leaves the reader behind it.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when more bytes are needed: the reader stays where it was.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut ahead = reader.clone();
        let length = ahead.array(4)?;
        if length < 3 {
            return Err(DecodeError::Fields);
        }
        let start = ahead.rest();
        let channel = ahead.unsigned()?;
        let message = ahead.unsigned()?;
        let arguments = Self::array(&mut ahead)?;
        let body = &start[..start.len() - ahead.rest().len()];
        let headers = if length == 4 { Some(Self::array(&mut ahead)?) } else { None };
        let frame = Self { channel, message, arguments, headers, body, dialect: reader.dialect() };
        *reader = ahead;
        Ok(frame)
    }

    fn array(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.clone().array(usize::MAX)?;
        reader.skip()
    }

    /// Reads the arguments as a structure.
    ///
    /// # Errors
    /// As the structure's own.
    pub fn arguments<T: Decode<'a>>(&self) -> Result<T, DecodeError> {
        let mut reader = Reader::with_dialect(self.arguments, self.dialect);
        let value = T::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Writes the part of a frame that a signature covers: channel, message, arguments.
///
/// # Errors
/// As the arguments' own.
pub fn write_body<T: Encode + ?Sized>(
    writer: &mut Writer<'_>,
    channel: u64,
    message: u64,
    arguments: &T,
) -> Result<(), EncodeError> {
    writer.unsigned(channel)?;
    writer.unsigned(message)?;
    arguments.encode(writer)
}

/// Writes a frame without headers.
///
/// # Errors
/// As the arguments' own.
pub fn write<T: Encode + ?Sized>(
    writer: &mut Writer<'_>,
    channel: u64,
    message: u64,
    arguments: &T,
) -> Result<(), EncodeError> {
    writer.array(3)?;
    write_body(writer, channel, message, arguments)
}
