//! The serial number of a device's certificate: what a revocation names.

use std::{fmt, str::FromStr};

/// A certificate's serial number: 128 random bits of which the highest is clear and the first byte is not zero,
/// so that its DER form is always 16 bytes and positive (RFC 5280, 4.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub [u8; 16]);

/// The text is not the hexadecimal form of a number that fits 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's serial number is 1 to 32 hexadecimal digits")]
pub struct SerialError;

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        // Length and sign first: from_str_radix would take `+1`.
        if text.is_empty() || text.len() > 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(SerialError);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| SerialError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn text_and_number_are_the_same_serial() {
        let serial: Serial = "1f".parse().unwrap();
        assert_eq!(serial.0[15], 0x1f);
        assert_eq!(serial.to_string(), "0000000000000000000000000000001f");
        assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        assert_eq!("7fffffffffffffffffffffffffffffff".parse::<Serial>().unwrap().0[0], 0x7f);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "+1", "-1", "0x1f", "g", " 1", "100000000000000000000000000000000"] {
            assert_eq!(text.parse::<Serial>(), Err(SerialError), "{text:?}");
        }
    }
}
