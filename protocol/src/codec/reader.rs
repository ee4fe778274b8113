//! Reads MessagePack from a slice, borrowing what it finds.

use super::{
    DecodeError, Dialect,
    marker::{Family, Marker, NIL, extend_sign},
};

const NUMBERS: [Family; 2] = [Family::Unsigned, Family::Signed];
const ALL: [Family; 9] = [
    Family::Nil,
    Family::Bool,
    Family::Unsigned,
    Family::Signed,
    Family::Text,
    Family::Bytes,
    Family::Array,
    Family::Map,
    Family::Other,
];

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

    /// The marker that comes next, if it is of one of these families.
    fn expect(&self, families: &[Family]) -> Result<Marker, DecodeError> {
        let byte = self.rest.first().ok_or(DecodeError::Truncated)?;
        Marker::of(*byte).filter(|marker| families.contains(&marker.family)).ok_or(DecodeError::Type)
    }

    /// Reads a marker and the number that belongs to it.
    fn head(&mut self, families: &[Family]) -> Result<(Marker, u64), DecodeError> {
        let marker = self.expect(families)?;
        let start = self.rest;
        self.rest = &self.rest[1..];
        match self.take_slice(u64::from(marker.width)) {
            Ok(number) => {
                let number = number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                Ok((marker, number.wrapping_add(marker.base)))
            }
            Err(error) => {
                self.rest = start;
                Err(error)
            }
        }
    }

    fn take_slice(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads `nil` if it comes next, and says whether it did.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.rest.first() == Some(&NIL);
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
        self.head(&[Family::Bool]).map(|(_, value)| value == 1)
    }

    /// Reads an unsigned integer of any width.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], and [`DecodeError::Value`] for a negative one.
    pub fn unsigned(&mut self) -> Result<u64, DecodeError> {
        match self.head(&NUMBERS)? {
            (Marker { family: Family::Signed, width, .. }, number) => {
                u64::try_from(extend_sign(number, width)).map_err(|_| DecodeError::Value)
            }
            (_, number) => Ok(number),
        }
    }

    /// Reads a signed integer of any width.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], and [`DecodeError::Value`] above 2^63 - 1.
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        match self.head(&NUMBERS)? {
            (Marker { family: Family::Signed, width, .. }, number) => Ok(extend_sign(number, width)),
            (_, number) => i64::try_from(number).map_err(|_| DecodeError::Value),
        }
    }

    /// Reads the head of an array of at most `most` elements.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] (also where fewer bytes are left than elements are claimed),
    /// [`DecodeError::Type`], [`DecodeError::Length`].
    pub fn array(&mut self, most: usize) -> Result<usize, DecodeError> {
        let start = self.rest;
        let (_, length) = self.head(&[Family::Array])?;
        self.bounded(start, length, 1, most)
    }

    /// Reads the head of a map of at most `most` entries.
    ///
    /// # Errors
    /// As [`Reader::array`].
    pub fn map(&mut self, most: usize) -> Result<usize, DecodeError> {
        let start = self.rest;
        let (_, length) = self.head(&[Family::Map])?;
        self.bounded(start, length, 2, most)
    }

    fn bounded(
        &mut self,
        start: &'a [u8],
        length: u64,
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
        match self.dialect {
            Dialect::Current => self.string(most, &[Family::Bytes]),
            Dialect::Raw => self.string(most, &[Family::Bytes, Family::Text]),
        }
    }

    /// Reads a text of at most `most` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::Type`], [`DecodeError::Length`], [`DecodeError::Utf8`].
    pub fn text(&mut self, most: usize) -> Result<&'a str, DecodeError> {
        let bytes = self.string(most, &[Family::Text])?;
        core::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
    }

    fn string(&mut self, most: usize, families: &[Family]) -> Result<&'a [u8], DecodeError> {
        let start = self.rest;
        let (_, length) = self.head(families)?;
        let read = if usize::try_from(length).is_ok_and(|length| length <= most) {
            self.take_slice(length)
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
        let (marker, number) = self.head(&ALL)?;
        match marker.family {
            Family::Array => Ok(number),
            Family::Map => Ok(number * 2),
            Family::Text | Family::Bytes | Family::Other => self.take_slice(number).map(|_| 0),
            Family::Nil | Family::Bool | Family::Unsigned | Family::Signed => Ok(0),
        }
    }
}
