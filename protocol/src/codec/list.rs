//! Lists without an allocator: written from a slice, read element by element out of the received bytes.

use core::{fmt, marker::PhantomData};

use super::{Decode, DecodeError, Dialect, Encode, EncodeError, Reader, Writer};

/// A list of at most `MOST` elements. Every element has been decoded once when the list was read, so that
/// iterating cannot fail.
pub struct List<'a, T, const MOST: usize>(Form<'a, T>);

enum Form<'a, T> {
    Items(&'a [T]),
    Received { bytes: &'a [u8], length: usize, dialect: Dialect, of: PhantomData<T> },
}

// === impl List ===

impl<'a, T, const MOST: usize> List<'a, T, MOST> {
    /// A list to be written. Longer ones than `MOST` fail when they are.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self(Form::Items(items))
    }

    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Form::Items(items) => items.len(),
            Form::Received { length, .. } => length,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Decode<'a> + Clone, const MOST: usize> List<'a, T, MOST> {
    /// The elements in their order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T, MOST> {
        let (items, mut reader, length) = match self.0 {
            Form::Items(items) => (items, Reader::new(&[]), 0),
            Form::Received { bytes, length, dialect, .. } => {
                (&[] as &[T], Reader::with_dialect(bytes, dialect), length)
            }
        };
        // Reading stops instead of failing, though it cannot: the same bytes were decoded when they came in.
        items.iter().cloned().chain((0..length).map_while(move |_| T::decode(&mut reader).ok()))
    }
}

impl<T, const MOST: usize> Clone for List<'_, T, MOST> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const MOST: usize> Copy for List<'_, T, MOST> {}

impl<T> Clone for Form<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Form<'_, T> {}

impl<T, const MOST: usize> Default for List<'_, T, MOST> {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl<'a, T: Decode<'a> + Clone + fmt::Debug, const MOST: usize> fmt::Debug for List<'a, T, MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Decode<'a> + Clone + PartialEq, const MOST: usize> PartialEq for List<'a, T, MOST> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Encode, const MOST: usize> Encode for List<'_, T, MOST> {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.len() > MOST {
            return Err(EncodeError::Length);
        }
        writer.array(self.len())?;
        match self.0 {
            Form::Items(items) => items.iter().try_for_each(|item| item.encode(writer)),
            Form::Received { bytes, .. } => writer.raw(bytes),
        }
    }
}

impl<'a, T: Decode<'a>, const MOST: usize> Decode<'a> for List<'a, T, MOST> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let length = reader.array(MOST)?;
        let start = reader.rest();
        for _ in 0..length {
            T::decode(reader)?;
        }
        let bytes = &start[..start.len() - reader.rest().len()];
        Ok(Self(Form::Received { bytes, length, dialect: reader.dialect(), of: PhantomData }))
    }
}
