//! What is told of the demo on a chain: headings, a line for each event with its transactions, and the same as facts for
//! machines. It does nothing itself.

use alloy_primitives::B256;
use serde::Serialize;

use super::super::{Demo, DemoError};
use crate::live::{Line, Mark};

/// Columns that are before the words of a line: its name, how it ended, how long it took.
const INDENT: usize = 33;
/// Columns of the words.
const WIDTH: usize = 78;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fact {
    /// Which act of the story.
    act: String,
    /// Whom or what it is about.
    about: String,
    /// In words.
    words: String,
    /// The transactions that did it, whole.
    transactions: Vec<String>,
}

/// What a step comes to.
#[derive(Debug)]
pub(super) struct Said<T> {
    value: T,
    words: String,
    transactions: Vec<B256>,
}

/// The story so far.
#[derive(Debug)]
pub(super) struct Story<'a> {
    /// Whose steps these are.
    pub(super) demo: &'a Demo<'a>,
    is_for_machines: bool,
    act: String,
    /// All that happened.
    pub(super) facts: Vec<Fact>,
}

// === impl Said ===

impl<T> Said<T> {
    /// Without a transaction.
    pub(super) fn new(value: T, words: impl Into<String>) -> Self {
        Self { value, words: words.into(), transactions: Vec::new() }
    }

    /// The same, done by these transactions.
    #[must_use]
    pub(super) fn by(mut self, transactions: impl IntoIterator<Item = B256>) -> Self {
        self.transactions.extend(transactions);
        self
    }
}

// === impl Story ===

impl<'a> Story<'a> {
    /// A story for people, or for machines: then nothing but JSON goes to the output.
    pub(super) fn new(demo: &'a Demo<'a>, is_for_machines: bool) -> Self {
        Self { demo, is_for_machines, act: String::new(), facts: Vec::new() }
    }

    /// Begins an act.
    pub(super) fn act(&mut self, title: &str) {
        title.clone_into(&mut self.act);
        self.say(&format!("\n{title}"));
    }

    /// A line for people.
    pub(super) fn say(&self, text: &str) {
        if !self.is_for_machines {
            self.demo.live().say(text);
        }
    }

    /// Does something and tells it.
    ///
    /// # Errors
    /// What it fails by.
    pub(super) fn step<T>(
        &mut self,
        about: &str,
        does: impl FnOnce(&Line) -> Result<Said<T>, DemoError>,
    ) -> Result<T, DemoError> {
        let line = self.demo.live().line(about);
        match does(&line) {
            Ok(Said { value, words, transactions }) => {
                line.end(Mark::Good, &shown(&words, &transactions));
                self.facts.push(Fact {
                    act: self.act.clone(),
                    about: about.to_owned(),
                    words,
                    transactions: transactions.iter().map(B256::to_string).collect(),
                });
                Ok(value)
            }
            Err(error) => {
                line.end(Mark::Bad, &error.to_string());
                Err(error)
            }
        }
    }
}

/// Words within [`WIDTH`] columns, and transactions beside them or, where these do not fit, below.
fn shown(words: &str, transactions: &[B256]) -> String {
    let mut lines = vec![String::new()];
    let mut put = |piece: &str, gap: &str| match lines.last_mut() {
        Some(line) if line.is_empty() => line.push_str(piece),
        Some(line) if columns(line) + columns(gap) + columns(piece) <= WIDTH => {
            line.push_str(gap);
            line.push_str(piece);
        }
        _ => lines.push(piece.to_owned()),
    };
    words.split(' ').for_each(|word| put(word, " "));
    if !transactions.is_empty() {
        put(&transactions.iter().map(short).collect::<Vec<_>>().join(" "), "  ");
    }
    lines.join(&format!("\n{}", " ".repeat(INDENT)))
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A transaction's name, as far as people compare it.
fn short(transaction: &B256) -> String {
    let whole = transaction.to_string();
    format!("{}…", &whole[..10])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_shortened_for_people_only() {
        assert_eq!(short(&B256::repeat_byte(0xab)), "0xabababab…");
    }

    #[test]
    fn long_lines_go_on_below() {
        assert_eq!(shown("two words", &[]), "two words");
        assert_eq!(shown("one", &[B256::repeat_byte(1)]), "one  0x01010101…");
        let two = [B256::repeat_byte(1), B256::repeat_byte(2)];
        let text = shown(&["word"; 16].join(" "), &two);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0].len()), (2, 74), "{text}");
        assert_eq!(lines[1], format!("{}word  0x01010101… 0x02020202…", " ".repeat(INDENT)));
        let text = shown(&["word"; 15].join(" "), &two);
        assert_eq!(text.lines().nth(1).map(str::trim_start), Some("0x01010101… 0x02020202…"), "{text}");
    }
}
