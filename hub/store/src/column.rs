//! Values between Rust and SQL columns. Sizes that do not fit say so: a store that was tampered with is an
//! error, not a panic.

use rusqlite::{Row, types::FromSql};
use sosna_protocol::Amount;

use crate::StoreError;

/// How many rows one statement writes, where there are many: more would not be faster, and have too many values.
pub(crate) const ROWS: usize = 500;

/// Reads a value of another kind than the column is meant to have as what it is: impossible.
fn get<T: FromSql>(row: &Row<'_>, name: &'static str) -> Result<T, StoreError> {
    let value = row.get_ref(name).map_err(StoreError::sql)?;
    T::column_result(value).map_err(|_| StoreError::Column { name })
}

/// Reads bytes, however many.
pub(crate) fn blob<'r>(row: &'r Row<'_>, name: &'static str) -> Result<&'r [u8], StoreError> {
    let value = row.get_ref(name).map_err(StoreError::sql)?;
    value.as_blob().map_err(|_| StoreError::Column { name })
}

/// Reads a fixed number of bytes.
pub(crate) fn bytes<const N: usize>(row: &Row<'_>, name: &'static str) -> Result<[u8; N], StoreError> {
    let bytes = blob(row, name)?;
    bytes.try_into().map_err(|_| StoreError::Column { name })
}

/// Reads a fixed number of bytes, or nothing.
pub(crate) fn maybe_bytes<const N: usize>(
    row: &Row<'_>,
    name: &'static str,
) -> Result<Option<[u8; N]>, StoreError> {
    let value = row.get_ref(name).map_err(StoreError::sql)?;
    let bytes = value.as_blob_or_null().map_err(|_| StoreError::Column { name })?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| StoreError::Column { name })).transpose()
}

/// Reads an amount.
pub(crate) fn amount(row: &Row<'_>, name: &'static str) -> Result<Amount, StoreError> {
    bytes(row, name).map(Amount::from_be_bytes)
}

/// Reads an integer into whatever width the field has.
pub(crate) fn integer<T: TryFrom<i64>>(row: &Row<'_>, name: &'static str) -> Result<T, StoreError> {
    let value: i64 = get(row, name)?;
    T::try_from(value).map_err(|_| StoreError::Column { name })
}

/// Reads an integer, or nothing.
pub(crate) fn maybe_integer<T: TryFrom<i64>>(
    row: &Row<'_>,
    name: &'static str,
) -> Result<Option<T>, StoreError> {
    let value: Option<i64> = get(row, name)?;
    value.map(|value| T::try_from(value).map_err(|_| StoreError::Column { name })).transpose()
}

/// Reads a text.
pub(crate) fn text(row: &Row<'_>, name: &'static str) -> Result<String, StoreError> {
    get(row, name)
}

/// Reads a text, or nothing.
pub(crate) fn maybe_text(row: &Row<'_>, name: &'static str) -> Result<Option<String>, StoreError> {
    get(row, name)
}

/// Reads a word of an enumeration.
pub(crate) fn word<T>(
    row: &Row<'_>,
    name: &'static str,
    from: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let value = row.get_ref(name).map_err(StoreError::sql)?;
    let word = value.as_str().map_err(|_| StoreError::Column { name })?;
    from(word).ok_or(StoreError::Column { name })
}

/// Reads a word of an enumeration, or nothing.
pub(crate) fn maybe_word<T>(
    row: &Row<'_>,
    name: &'static str,
    from: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let value = row.get_ref(name).map_err(StoreError::sql)?;
    let word = value.as_str_or_null().map_err(|_| StoreError::Column { name })?;
    word.map(|word| from(word).ok_or(StoreError::Column { name })).transpose()
}

/// An unsigned number as SQL keeps it. What is larger than 2^63 - 1 (a device's claim of disk) is kept as that.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Defines the words of a state that is kept as text.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$case_meta:meta])* $case:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$case_meta])* $case,)+ }

        impl $name {
            /// The word that stores and people use.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$case => $word,)+ }
            }

            /// The state that a word names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$case),)+ _ => None }
            }
        }
    };
}
pub(crate) use words;
