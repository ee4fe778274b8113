//! The first byte of a value: what comes, and how its number or length is written. `rmp` has the same table, and the
//! tests compare with it; it would bring an allocator along, which firmware need not have.

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Nil,
    Bool,
    Unsigned,
    Signed,
    Text,
    Bytes,
    Array,
    Map,
    /// Floats and extensions: stepped over, never read.
    Other,
}

/// What a first byte says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) family: Family,
    /// How many bytes of a big-endian number follow.
    pub(super) width: u8,
    /// The number where none follows, else what is added to it (the type's byte of extensions).
    pub(super) base: u64,
}

pub(super) const NIL: u8 = 0xc0;
pub(super) const FALSE: u8 = 0xc2;
pub(super) const TRUE: u8 = 0xc3;
/// Of integers of 1, 2, 4 and 8 bytes.
pub(super) const UNSIGNED: [u8; 4] = [0xcc, 0xcd, 0xce, 0xcf];
/// The same, signed.
pub(super) const SIGNED: [u8; 4] = [0xd0, 0xd1, 0xd2, 0xd3];

/// How a length is written: in the first byte itself, or behind it in 1, 2 or 4 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// The first byte for a length of zero, and the largest length that is added to it.
    pub(super) short: Option<(u8, u8)>,
    pub(super) one: Option<u8>,
    pub(super) two: u8,
    pub(super) four: u8,
}

pub(super) const ARRAY: Lengths = Lengths { short: Some((0x90, 15)), one: None, two: 0xdc, four: 0xdd };
pub(super) const MAP: Lengths = Lengths { short: Some((0x80, 15)), one: None, two: 0xde, four: 0xdf };
pub(super) const TEXT: Lengths = Lengths { short: Some((0xa0, 31)), one: Some(0xd9), two: 0xda, four: 0xdb };
pub(super) const BYTES: Lengths = Lengths { short: None, one: Some(0xc4), two: 0xc5, four: 0xc6 };
/// The old specification's one family of strings.
pub(super) const RAW: Lengths = Lengths { one: None, ..TEXT };

// === impl Marker ===

impl Marker {
    /// `None` for the one byte that is reserved.
    pub(super) fn of(byte: u8) -> Option<Self> {
        let low = |mask: u8| u64::from(byte & mask);
        let (family, width, base) = match byte {
            0x00..=0x7f => (Family::Unsigned, 0, u64::from(byte)),
            0x80..=0x8f => (Family::Map, 0, low(0x0f)),
            0x90..=0x9f => (Family::Array, 0, low(0x0f)),
            0xa0..=0xbf => (Family::Text, 0, low(0x1f)),
            NIL => (Family::Nil, 0, 0),
            0xc1 => return None,
            FALSE | TRUE => (Family::Bool, 0, low(1)),
            0xc4..=0xc6 => (Family::Bytes, 1 << (byte - 0xc4), 0),
            0xc7..=0xc9 => (Family::Other, 1 << (byte - 0xc7), 1),
            0xca => (Family::Other, 0, 4),
            0xcb => (Family::Other, 0, 8),
            0xcc..=0xcf => (Family::Unsigned, 1 << (byte - 0xcc), 0),
            0xd0..=0xd3 => (Family::Signed, 1 << (byte - 0xd0), 0),
            0xd4..=0xd8 => (Family::Other, 0, (1 << (byte - 0xd4)) + 1),
            0xd9..=0xdb => (Family::Text, 1 << (byte - 0xd9), 0),
            0xdc | 0xdd => (Family::Array, 2 << (byte - 0xdc), 0),
            0xde | 0xdf => (Family::Map, 2 << (byte - 0xde), 0),
            // Negative: the whole byte, with its sign.
            0xe0..=0xff => (Family::Signed, 0, u64::from(byte) | !0xff),
        };
        Some(Self { family, width, base })
    }
}

/// A number of `width` bytes whose highest bit is a sign, as one of eight.
pub(super) fn extend_sign(number: u64, width: u8) -> i64 {
    let unused = 64_u32.saturating_sub(8 * u32::from(width));
    if width == 0 { number.cast_signed() } else { (number << unused).cast_signed() >> unused }
}
