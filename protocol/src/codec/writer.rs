//! Writes MessagePack into a buffer of the caller's.

use rmp::encode as msgpack;

use super::{Dialect, EncodeError};

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

    fn put<E>(&mut self, write: impl FnOnce(&mut &mut [u8]) -> Result<(), E>) -> Result<(), EncodeError> {
        let mut rest = &mut self.buffer[self.written..];
        let before = rest.len();
        write(&mut rest).map_err(|_| EncodeError::Full)?;
        self.written += before - rest.len();
        Ok(())
    }

    /// Writes bytes as they are: values that are encoded already.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let room = self.buffer.get_mut(self.written..self.written + bytes.len()).ok_or(EncodeError::Full)?;
        room.copy_from_slice(bytes);
        self.written += bytes.len();
        Ok(())
    }

    /// Writes `nil`.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn nil(&mut self) -> Result<(), EncodeError> {
        self.put(|rest| msgpack::write_nil(rest))
    }

    /// Writes a truth value.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn bool(&mut self, value: bool) -> Result<(), EncodeError> {
        self.put(|rest| msgpack::write_bool(rest, value))
    }

    /// Writes an unsigned integer in its shortest form.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn unsigned(&mut self, value: u64) -> Result<(), EncodeError> {
        self.put(|rest| msgpack::write_uint(rest, value).map(drop))
    }

    /// Writes a signed integer in its shortest form.
    ///
    /// # Errors
    /// [`EncodeError::Full`].
    pub fn signed(&mut self, value: i64) -> Result<(), EncodeError> {
        self.put(|rest| msgpack::write_sint(rest, value).map(drop))
    }

    /// Writes the head of an array; its elements follow.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 elements.
    pub fn array(&mut self, length: usize) -> Result<(), EncodeError> {
        let length = u32::try_from(length).map_err(|_| EncodeError::Length)?;
        self.put(|rest| msgpack::write_array_len(rest, length).map(drop))
    }

    /// Writes the head of a map; its keys and values follow in turn.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 entries.
    pub fn map(&mut self, length: usize) -> Result<(), EncodeError> {
        let length = u32::try_from(length).map_err(|_| EncodeError::Length)?;
        self.put(|rest| msgpack::write_map_len(rest, length).map(drop))
    }

    /// Writes a byte string.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let length = u32::try_from(bytes.len()).map_err(|_| EncodeError::Length)?;
        match self.dialect {
            Dialect::Current => self.put(|rest| msgpack::write_bin_len(rest, length).map(drop))?,
            Dialect::Raw => self.raw_head(length)?,
        }
        self.raw(bytes)
    }

    /// Writes a text.
    ///
    /// # Errors
    /// [`EncodeError::Full`], and [`EncodeError::Length`] beyond 2^32 - 1 bytes.
    pub fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        let length = u32::try_from(text.len()).map_err(|_| EncodeError::Length)?;
        match self.dialect {
            Dialect::Current => self.put(|rest| msgpack::write_str_len(rest, length).map(drop))?,
            Dialect::Raw => self.raw_head(length)?,
        }
        self.raw(text.as_bytes())
    }

    /// The head of the old specification's `raw` family: `fixraw`, `raw16`, `raw32`, where today's has `str8` too.
    fn raw_head(&mut self, length: u32) -> Result<(), EncodeError> {
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=31), _) => self.raw(&[0xa0 | short]),
            (_, Ok(medium)) => {
                self.raw(&[0xda])?;
                self.raw(&medium.to_be_bytes())
            }
            _ => {
                self.raw(&[0xdb])?;
                self.raw(&length.to_be_bytes())
            }
        }
    }
}
