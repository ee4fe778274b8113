//! Hashes and the fixed-size names that are made of bytes.

use sha2::Digest as _;

/// Makes a fixed-size byte string into a type of its own: hexadecimal text, msgpack `bin`, ordered.
macro_rules! bytes_type {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// All bits zero.
            pub const ZERO: Self = Self([0; $len]);

            /// Reads exactly [`Self::LEN`] bytes; `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::hash::NotHex;

            /// Reads lower- or upper-case hexadecimal, with or without `0x`.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $len];
                $crate::hash::read_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl $crate::codec::Encode for $name {
            fn encode(&self, writer: &mut $crate::codec::Writer<'_>) -> Result<(), $crate::codec::EncodeError> {
                writer.bytes(&self.0)
            }
        }

        impl<'a> $crate::codec::Decode<'a> for $name {
            fn decode(reader: &mut $crate::codec::Reader<'a>) -> Result<Self, $crate::codec::DecodeError> {
                Self::from_slice(reader.bytes($len)?).ok_or($crate::codec::DecodeError::Length)
            }
        }
    };
}
pub(crate) use bytes_type;

bytes_type!(
    /// A 256-bit hash. Which function made it, and over what, is said where it is used.
    Hash, 32
);

/// A text that is not the hexadecimal form of as many bytes as were expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes in hexadecimal ({} digits)", expected * 2)]
pub struct NotHex {
    /// How many bytes the text should have described.
    pub expected: usize,
}

pub(crate) fn read_hex(text: &str, into: &mut [u8]) -> Result<(), NotHex> {
    let wrong = NotHex { expected: into.len() };
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    if digits.len() != into.len() * 2 {
        return Err(wrong);
    }
    for (byte, pair) in into.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (high, low) else { return Err(wrong) };
        *byte = u8::try_from(high * 16 + low).map_err(|_| wrong)?;
    }
    Ok(())
}

/// SHA-256 (FIPS 180-4): the name of content.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(sha2::Sha256::digest(bytes).into())
}

/// Keccak-256 as Ethereum uses it (the padding from before FIPS 202): what is signed and what trees are made of.
#[must_use]
pub fn keccak256(parts: &[&[u8]]) -> Hash {
    let mut hasher = sha3::Keccak256::new();
    parts.iter().for_each(|part| hasher.update(part));
    Hash(hasher.finalize().into())
}

/// One 32-byte word of the Solidity ABI holding an unsigned integer, big-endian.
#[must_use]
pub fn word(value: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}
