//! Small files of /sys and /proc: read whole, trimmed, absent when anything is wrong.

use std::{fs, path::Path, str::FromStr};

/// A file's text without the white space around it.
#[must_use]
pub fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A file's text as a number or another value.
pub(crate) fn value<T: FromStr>(path: impl AsRef<Path>) -> Option<T> {
    text(path)?.parse().ok()
}
