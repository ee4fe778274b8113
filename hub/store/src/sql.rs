//! Statements with their values, whatever database runs them.

use std::borrow::Cow;

use rusqlite::types::ToSqlOutput;

/// A statement and what stands in the place of its question marks, in order.
#[derive(Debug)]
pub(crate) struct Query<'q> {
    pub(crate) sql: Cow<'q, str>,
    pub(crate) values: Vec<Value<'q>>,
    /// Whether it comes again as it is. One with a row for each of some items is another with every number of them, and
    /// long: kept, they would fill the connection's memory and push out what does come again.
    pub(crate) comes_again: bool,
}

/// One value. Nothing is copied that the caller still has.
#[derive(Debug)]
pub(crate) struct Value<'q>(pub(crate) ToSqlOutput<'q>);

// === impl Query ===

impl<'q> Query<'q> {
    /// A statement without values yet.
    pub(crate) fn new(sql: impl Into<Cow<'q, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), comes_again: true }
    }

    /// The value of the next question mark.
    pub(crate) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// `VALUES` with a row of `N` values for each item, and what comes after them.
    pub(crate) fn rows<I, const N: usize>(
        mut self,
        items: impl IntoIterator<Item = I>,
        row: impl Fn(I) -> [Value<'q>; N],
        after: &str,
    ) -> Self {
        let marks = format!("({})", vec!["?"; N].join(", "));
        let before = self.values.len();
        self.values.extend(items.into_iter().flat_map(row));
        let rows = (self.values.len() - before) / N.max(1);
        self.comes_again = false;
        self.sql = format!("{} VALUES {} {after}", self.sql, vec![marks; rows].join(", ")).into();
        self
    }
}

// === impl Value ===

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self(text.into())
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(text: &'q String) -> Self {
        text.as_str().into()
    }
}

impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(bytes: &'q [u8]) -> Self {
        Self(bytes.into())
    }
}

impl<'q, T: Into<Value<'q>>> From<Option<T>> for Value<'q> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self(rusqlite::types::Null.into()), Into::into)
    }
}

macro_rules! owned {
    ($($kind:ty),+) => {
        $(impl From<$kind> for Value<'_> {
            fn from(value: $kind) -> Self {
                Self(value.into())
            }
        })+
    };
}
owned!(bool, u8, u16, u32, i64, String, Vec<u8>);
