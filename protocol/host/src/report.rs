//! How a program ends badly: the whole chain of causes for a person, and an exit code for a script.

use std::{error::Error, process::ExitCode};

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It failed.
    Failed = 1,
    /// It was called wrongly.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Refused: permission, policy or funds.
    Refused = 4,
    /// Nobody answers.
    NoAnswer = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The error and its causes, one a line: `what`, then `because …`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.ends_with(&inner_text) {
            text.push_str("\n  because ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// The error and its causes on one line, for logs and for messages to the other side.
#[must_use]
pub fn line(error: &dyn Error) -> String {
    chain(error).replace("\n  because ", ": ")
}

/// Cuts a text to at most `most` bytes at a character's border, as fields of messages require.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
