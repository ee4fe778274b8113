//! Reads MessagePack from a slice, borrowing what it finds.

use rmp::{
    Marker,
    decode::{self as msgpack, Bytes, NumValueReadError, ValueReadError},
};

use super::{DecodeError, Dialect};

/// Reads values one after the other. Every method leaves the reader where it was when it fails with
/// [`DecodeError::Truncated`], so that a stream can wait for more bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`, in the current dialect.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self::with_dialect(bytes, Dialect::Current)
    }

    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn with_dialect(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self { rest: bytes, dialect }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The dialect that strings are read in.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Accepts the end only here.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] where bytes are left.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    fn take<T>(
        &mut self,
        read: impl FnOnce(&mut Bytes<'a>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut bytes = Bytes::new(self.rest);
        let value = read(&mut bytes)?;
        self.rest = bytes.remaining_slice();
        Ok(value)
    }

    fn take_slice(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// What kind of value comes next, without reading it.
    #[must_use]
    pub fn peek(&self) -> Option<Marker> {
        self.rest.first().map(|byte| Marker::from_u8(*byte))
    }

    /// Reads `nil` if it comes next, and says whether it did.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.peek() == Some(Marker::Null);
        if is_nil {
            self.rest = &self.rest[1..];
        }
        is_nil
    }

    /// Reads a truth value.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] and [`DecodeError::Type`].
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        self.take(|bytes| msgpack::read_bool(bytes).map_err(value_error))
    }

    /// Reads an unsigned integer of any width.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], and [`DecodeError::Value`] for a negative one.
    pub fn unsigned(&mut self) -> Result<u64, DecodeError> {
        self.take(|bytes| msgpack::read_int(bytes).map_err(number_error))
    }

    /// Reads a signed integer of any width.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], and [`DecodeError::Value`] above 2^63 - 1.
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        self.take(|bytes| msgpack::read_int(bytes).map_err(number_error))
    }

    /// Reads the head of an array of at most `most` elements.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] (also where fewer bytes are left than elements are claimed),
    /// [`DecodeError::Type`], [`DecodeError::Length`].
    pub fn array(&mut self, most: usize) -> Result<usize, DecodeError> {
        let start = self.rest;
        let length = self.take(|bytes| msgpack::read_array_len(bytes).map_err(value_error))?;
        self.bounded(start, length, 1, most)
    }

    /// Reads the head of a map of at most `most` entries.
    ///
    /// # Errors
    /// As [`Reader::array`].
    pub fn map(&mut self, most: usize) -> Result<usize, DecodeError> {
        let start = self.rest;
        let length = self.take(|bytes| msgpack::read_map_len(bytes).map_err(value_error))?;
        self.bounded(start, length, 2, most)
    }

    fn bounded(
        &mut self,
        start: &'a [u8],
        length: u32,
        bytes_each: usize,
        most: usize,
    ) -> Result<usize, DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Length)?;
        if length > most {
            self.rest = start;
            return Err(DecodeError::Length);
        }
        if length.saturating_mul(bytes_each) > self.rest.len() {
            self.rest = start;
            return Err(DecodeError::Truncated);
        }
        Ok(length)
    }

    /// Reads a byte string of at most `most` bytes. In [`Dialect::Raw`] the string family counts too.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], [`DecodeError::Length`].
    pub fn bytes(&mut self, most: usize) -> Result<&'a [u8], DecodeError> {
        let is_bin = matches!(self.peek(), Some(Marker::Bin8 | Marker::Bin16 | Marker::Bin32));
        match (is_bin, self.dialect) {
            (true, _) => self.string(most, |bytes| msgpack::read_bin_len(bytes).map_err(value_error)),
            (false, Dialect::Raw) => {
                self.string(most, |bytes| msgpack::read_str_len(bytes).map_err(value_error))
            }
            (false, Dialect::Current) if self.rest.is_empty() => Err(DecodeError::Truncated),
            (false, Dialect::Current) => Err(DecodeError::Type),
        }
    }

    /// Reads a text of at most `most` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], [`DecodeError::Length`], [`DecodeError::Utf8`].
    pub fn text(&mut self, most: usize) -> Result<&'a str, DecodeError> {
        let bytes = self.string(most, |bytes| msgpack::read_str_len(bytes).map_err(value_error))?;
        core::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
    }

    fn string(
        &mut self,
        most: usize,
        head: impl FnOnce(&mut Bytes<'a>) -> Result<u32, DecodeError>,
    ) -> Result<&'a [u8], DecodeError> {
        let start = self.rest;
        let length = self.take(head)?;
        let read = if usize::try_from(length).is_ok_and(|length| length <= most) {
            self.take_slice(u64::from(length))
        } else {
            Err(DecodeError::Length)
        };
        if read.is_err() {
            self.rest = start;
        }
        read
    }

    /// Steps over one value of any type and returns its bytes. Needs neither recursion nor memory: what is
    /// nested only raises the count of values that are still to come, and each takes at least one byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], and [`DecodeError::Type`] for the one marker that is reserved.
    pub fn skip(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.rest;
        let mut pending = 1_u64;
        while pending > 0 {
            match self.skip_head() {
                Ok(nested) => pending = pending - 1 + nested,
                Err(error) => {
                    self.rest = start;
                    return Err(error);
                }
            }
        }
        Ok(&start[..start.len() - self.rest.len()])
    }

    /// Steps over a value without what is nested in it, and says how many values those are.
    fn skip_head(&mut self) -> Result<u64, DecodeError> {
        let marker = self.take(|bytes| msgpack::read_marker(bytes).map_err(|_| DecodeError::Truncated))?;
        let (width, base) = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (0, 1),
            Marker::U16 | Marker::I16 | Marker::FixExt1 => (0, 2),
            Marker::U32 | Marker::I32 | Marker::F32 => (0, 4),
            Marker::FixExt2 => (0, 3),
            Marker::FixExt4 => (0, 5),
            Marker::U64 | Marker::I64 | Marker::F64 => (0, 8),
            Marker::FixExt8 => (0, 9),
            Marker::FixExt16 => (0, 17),
            Marker::FixStr(length) => (0, u64::from(length)),
            Marker::FixArray(length) => return Ok(u64::from(length)),
            Marker::FixMap(length) => return Ok(u64::from(length) * 2),
            Marker::Str8 | Marker::Bin8 => (1, 0),
            Marker::Ext8 => (1, 1),
            Marker::Str16 | Marker::Bin16 | Marker::Array16 | Marker::Map16 => (2, 0),
            Marker::Ext16 => (2, 1),
            Marker::Str32 | Marker::Bin32 | Marker::Array32 | Marker::Map32 => (4, 0),
            Marker::Ext32 => (4, 1),
            Marker::Reserved => return Err(DecodeError::Type),
        };
        let length = self.take_slice(width)?.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        match marker {
            Marker::Array16 | Marker::Array32 => Ok(length),
            Marker::Map16 | Marker::Map32 => Ok(length * 2),
            _ => self.take_slice(length + base).map(|_| 0),
        }
    }
}

fn value_error<E: rmp::decode::RmpReadErr>(error: ValueReadError<E>) -> DecodeError {
    match error {
        ValueReadError::TypeMismatch(_) => DecodeError::Type,
        ValueReadError::InvalidMarkerRead(_) | ValueReadError::InvalidDataRead(_) => DecodeError::Truncated,
    }
}

fn number_error<E: rmp::decode::RmpReadErr>(error: NumValueReadError<E>) -> DecodeError {
    match error {
        NumValueReadError::TypeMismatch(_) => DecodeError::Type,
        NumValueReadError::OutOfRange => DecodeError::Value,
        NumValueReadError::InvalidMarkerRead(_) | NumValueReadError::InvalidDataRead(_) => {
            DecodeError::Truncated
        }
    }
}
