//! Writes MessagePack into a buffer of the caller's.

use super::{
    Dialect, EncodeError,
    marker::{ARRAY, BYTES, FALSE, Lengths, MAP, NIL, RAW, SIGNED, TEXT, TRUE, UNSIGNED},
};

/// Writes values one after the other into a buffer that does not grow.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    written: usize,
    dialect: Dialect,
}

impl<'b> Writer<'b> {
    /// Writes from the buffer's start, in the current dialect.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self::with_dialect(buffer, Dialect::Current)
    }

    /// Writes from the buffer's start.
    #[must_use]
    pub const fn with_dialect(buffer: &'b mut [u8], dialect: Dialect) -> Self {
        Self { buffer, written: 0, dialect }
    }

    /// How many bytes have been written.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.written
    }

    /// What has been written.
    #[must_use]
    pub fn bytes_written(&self) -> &[u8] {
        &self.buffer[..self.written]
    }

    /// Writes a marker and the last `width` bytes of a number behind it, all or nothing.
    fn put(&mut self, marker: u8, number: u64, width: usize) -> Result<(), EncodeError> {
        let mut head = [0; 9];
        head[0] = marker;
        head[1..=width].copy_from_slice(&number.to_be_bytes()[8 - width..]);
        self.raw(&head[..=width])
    }

    fn put_length(&mut self, lengths: Lengths, length: usize) -> Result<(), EncodeError> {
        let number = length as u64;
        match (lengths.short, u8::try_from(length), lengths.one, u16::try_from(length)) {
            (Some((first, most)), Ok(length), _, _) if length <= most => self.put(first | length, 0, 0),
            (_, Ok(_), Some(marker), _) => self.put(marker, number, 1),
            (_, _, _, Ok(_)) => self.put(lengths.two, number, 2),
            _ if u32::try_from(length).is_ok() => self.put(lengths.four, number, 4),
            _ => Err(EncodeError::Length),
        }
    }

    /// Writes bytes as they are: values that are encoded already.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let room = self.buffer[self.written..].get_mut(..bytes.len()).ok_or(EncodeError::Full)?;
        room.copy_from_slice(bytes);
        self.written += bytes.len();
        Ok(())
    }

    /// Writes `nil`.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn nil(&mut self) -> Result<(), EncodeError> {
        self.put(NIL, 0, 0)
    }

    /// Writes a truth value.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn bool(&mut self, value: bool) -> Result<(), EncodeError> {
        self.put(if value { TRUE } else { FALSE }, 0, 0)
    }

    /// Writes an unsigned integer in its shortest form.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn unsigned(&mut self, value: u64) -> Result<(), EncodeError> {
        match value {
            0..=0x7f => self.put(value.to_be_bytes()[7], 0, 0),
            0x80..=0xff => self.put(UNSIGNED[0], value, 1),
            0x100..=0xffff => self.put(UNSIGNED[1], value, 2),
            0x1_0000..=0xffff_ffff => self.put(UNSIGNED[2], value, 4),
            _ => self.put(UNSIGNED[3], value, 8),
        }
    }

    /// Writes a signed integer in its shortest form.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn signed(&mut self, value: i64) -> Result<(), EncodeError> {
        let bits = value.cast_unsigned();
        match value {
            0.. => self.unsigned(bits),
            -0x20..0 => self.put(bits.to_be_bytes()[7], 0, 0),
            -0x80..-0x20 => self.put(SIGNED[0], bits, 1),
            -0x8000..-0x80 => self.put(SIGNED[1], bits, 2),
            -0x8000_0000..-0x8000 => self.put(SIGNED[2], bits, 4),
            _ => self.put(SIGNED[3], bits, 8),
        }
    }

    /// Writes the head of an array; its elements follow.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 elements.
    pub fn array(&mut self, length: usize) -> Result<(), EncodeError> {
        self.put_length(ARRAY, length)
    }

    /// Writes the head of a map; its keys and values follow in turn.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 entries.
    pub fn map(&mut self, length: usize) -> Result<(), EncodeError> {
        self.put_length(MAP, length)
    }

    /// Writes a byte string.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_length(if self.dialect == Dialect::Raw { RAW } else { BYTES }, bytes.len())?;
        self.raw(bytes)
    }

    /// Writes a text.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 bytes.
    pub fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        self.put_length(if self.dialect == Dialect::Raw { RAW } else { TEXT }, text.len())?;
        self.raw(text.as_bytes())
    }
}
