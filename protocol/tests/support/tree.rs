//! Any MessagePack value, for writing what no structure of ours describes.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "tests; no test uses all of it")]

use sosna_protocol::codec::{Encode, EncodeError, Writer};

#[derive(Clone, Debug)]
pub enum Tree {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
    /// Encoded already: floats and extensions, which the codec only steps over.
    Raw(Vec<u8>),
}

pub fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

pub fn list(items: impl Into<Vec<Tree>>) -> Tree {
    Tree::List(items.into())
}

impl From<u64> for Tree {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl Encode for Tree {
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Nil => writer.nil(),
            Self::Bool(value) => writer.bool(*value),
            Self::Unsigned(value) => writer.unsigned(*value),
            Self::Signed(value) => writer.signed(*value),
            Self::Text(value) => writer.text(value),
            Self::Bytes(value) => writer.bytes(value),
            Self::Raw(value) => writer.raw(value),
            Self::List(items) => {
                writer.array(items.len())?;
                items.iter().try_for_each(|item| item.encode(writer))
            }
            Self::Map(entries) => {
                writer.map(entries.len())?;
                entries.iter().try_for_each(|(key, value)| {
                    key.encode(writer)?;
                    value.encode(writer)
                })
            }
        }
    }
}
