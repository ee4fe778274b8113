//! The types that fields have, and the macro that makes structures of them.

use super::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};

/// A borrowed text of at most `MOST` bytes.
pub type Text<'a, const MOST: usize> = Bounded<&'a str, MOST>;

/// A borrowed text (`&str`) or byte string (`&[u8]`) of at most `MOST` bytes. The bound is checked both when
/// it is written and when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bounded<T, const MOST: usize>(pub T);

impl<T, const MOST: usize> core::ops::Deref for Bounded<T, MOST> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<const MOST: usize> Encode for Bounded<&str, MOST> {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.0.len() > MOST { Err(EncodeError::Length) } else { writer.text(self.0) }
    }
}

impl<'a, const MOST: usize> Decode<'a> for Bounded<&'a str, MOST> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.text(MOST).map(Self)
    }
}

impl<const MOST: usize> Encode for Bounded<&[u8], MOST> {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if self.0.len() > MOST { Err(EncodeError::Length) } else { writer.bytes(self.0) }
    }
}

impl<'a, const MOST: usize> Decode<'a> for Bounded<&'a [u8], MOST> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.bytes(MOST).map(Self)
    }
}

impl Encode for bool {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.bool(*self)
    }
}

impl<'a> Decode<'a> for bool {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.bool()
    }
}

macro_rules! integer {
    ($wide:ty, $method:ident: $($type:ty),+) => {$(
        impl Encode for $type {
            fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
                writer.$method(<$wide>::from(*self))
            }
        }

        impl<'a> Decode<'a> for $type {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                <$type>::try_from(reader.$method()?).map_err(|_| DecodeError::Value)
            }
        }
    )+};
}
integer!(u64, unsigned: u8, u16, u32, u64);
integer!(i64, signed: i32, i64);

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Some(value) => value.encode(writer),
            None => writer.nil(),
        }
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if reader.nil() { Ok(None) } else { T::decode(reader).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// Defines a structure that travels as an array of its fields, in their order. Fields may be added at the end
/// and never removed: an older reader skips them, and to a newer one they are `None` where they are optional (others
/// must be told apart by the negotiated version).
macro_rules! structure {
    ($(#[$meta:meta])* pub struct $name:ident $(<$life:lifetime>)? {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $(<$life>)? $crate::codec::Encode for $name $(<$life>)? {
            fn encode(&self, writer: &mut $crate::codec::Writer<'_>) -> Result<(), $crate::codec::EncodeError> {
                writer.array($crate::codec::structure!(@count $($field)*))?;
                $(self.$field.encode(writer)?;)*
                Ok(())
            }
        }

        $crate::codec::structure!(@decode $name [$($life)?] $($field)*);
    };
    (@decode $name:ident [] $($field:ident)*) => {
        impl<'de> $crate::codec::Decode<'de> for $name {
            $crate::codec::structure!(@body 'de, $($field)*);
        }
    };
    (@decode $name:ident [$life:lifetime] $($field:ident)*) => {
        impl<$life> $crate::codec::Decode<$life> for $name<$life> {
            $crate::codec::structure!(@body $life, $($field)*);
        }
    };
    (@body $life:lifetime, $($field:ident)*) => {
        fn decode(reader: &mut $crate::codec::Reader<$life>) -> Result<Self, $crate::codec::DecodeError> {
            const FIELDS: usize = $crate::codec::structure!(@count $($field)*);
            let length = reader.array(FIELDS + $crate::codec::UNKNOWN_FIELDS)?;
            let mut left = length;
            let value = Self {
                $($field: if left > 0 {
                    left -= 1;
                    $crate::codec::Decode::decode(reader)?
                } else {
                    $crate::codec::Decode::absent().ok_or($crate::codec::DecodeError::Fields)?
                },)*
            };
            let _ = left;
            for _ in FIELDS..length {
                reader.skip()?;
            }
            Ok(value)
        }
    };
    (@count) => { 0 };
    (@count $head:ident $($tail:ident)*) => { 1 + $crate::codec::structure!(@count $($tail)*) };
}
pub(crate) use structure;

/// How many fields that it does not know a reader skips in one structure.
pub const UNKNOWN_FIELDS: usize = 64;
