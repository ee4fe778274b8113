//! Money: unsigned integers of the token's smallest unit, never floating point.

use core::{fmt, str::FromStr};

use crate::codec::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};

/// An amount in units of 10^-18 SNM. Sixteen big-endian bytes in msgpack and in stores, a decimal string in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u128);

/// A text that is no amount of SNM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number.
    #[error("an amount is a decimal number of SNM such as 12 or 0.25")]
    NotANumber,
    /// Finer than the smallest unit.
    #[error("an amount has at most 18 decimal places")]
    TooFine,
    /// Larger than 2^128 - 1 units.
    #[error("the amount is larger than any that can exist")]
    TooLarge,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One SNM.
    pub const SNM: Self = Self(1_000_000_000_000_000_000);
    const DECIMALS: usize = 18;

    /// An amount of so many smallest units.
    #[must_use]
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// The number of smallest units.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }

    /// The sum, or `None` where it would not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` where it would be less than nothing.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The product with a count, or `None` where it would not fit.
    #[must_use]
    pub const fn checked_mul(self, times: u128) -> Option<Self> {
        match self.0.checked_mul(times) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// `self * numerator / denominator`, rounded up, so that no seller is paid a fraction less than the price.
    #[must_use]
    pub const fn checked_scale(self, numerator: u128, denominator: u128) -> Option<Self> {
        match self.0.checked_mul(numerator) {
            Some(product) if denominator != 0 => Some(Self(product.div_ceil(denominator))),
            _ => None,
        }
    }

    /// The sixteen bytes that stores and frames carry; their order is the amounts' order.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads [`Amount::to_be_bytes`].
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Amount {
    /// Decimal SNM without trailing zeros: `0.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let mut text = heapless::String::<44>::new();
        let (whole, mut fraction) = (self.0 / Self::SNM.0, self.0 % Self::SNM.0);
        write!(text, "{whole}")?;
        if fraction != 0 {
            let mut places = Self::DECIMALS;
            while fraction.is_multiple_of(10) {
                fraction /= 10;
                places -= 1;
            }
            write!(text, ".{fraction:0places$}")?;
        }
        f.pad_integral(true, "", &text)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} SNM")
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(AmountError::NotANumber);
        }
        let fraction = match fraction.trim_end_matches('0') {
            long if long.len() > Self::DECIMALS => return Err(AmountError::TooFine),
            short => short,
        };
        let mut units = whole.parse::<u128>().map_err(|_| AmountError::TooLarge)?;
        units = units.checked_mul(Self::SNM.0).ok_or(AmountError::TooLarge)?;
        let mut place = Self::SNM.0;
        for digit in fraction.bytes() {
            place /= 10;
            units = units.checked_add(u128::from(digit - b'0') * place).ok_or(AmountError::TooLarge)?;
        }
        Ok(Self(units))
    }
}

impl Encode for Amount {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.bytes(&self.to_be_bytes())
    }
}

impl<'a> Decode<'a> for Amount {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bytes = reader.bytes(16)?.try_into().map_err(|_| DecodeError::Length)?;
        Ok(Self::from_be_bytes(bytes))
    }
}
