//! Writes a JSON value as YAML that people can edit. Texts of several lines become literal blocks; all others are
//! written as JSON writes them, which YAML reads, too.

use std::fmt::Write as _;

use serde_json::Value;

/// What people look for first stands first; the rest is sorted.
const FIRST: [&str; 6] = ["variant", "version", "path", "name", "mode", "enabled"];

/// The document.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0);
    out
}

fn node(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
            for (key, value) in pairs {
                let _ = write!(out, "{indent}{key}:");
                child(out, value, depth);
            }
        }
        Value::Array(list) => {
            for value in list {
                // The first key stands behind the dash.
                let mut inner = String::new();
                node(&mut inner, value, depth + 1);
                let rest = inner.strip_prefix(&"  ".repeat(depth + 1)).unwrap_or(&inner);
                let _ = write!(out, "{indent}- {rest}");
            }
        }
        scalar => {
            let _ = writeln!(out, "{indent}{scalar}");
        }
    }
}

fn child(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(text) if is_block(text) => {
            let indent = "  ".repeat(depth + 1);
            out.push_str(" |\n");
            for line in text.lines() {
                let _ = writeln!(out, "{}", format!("{indent}{line}").trim_end());
            }
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            node(out, value, depth + 1);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            node(out, value, depth + 1);
        }
        scalar => {
            let _ = writeln!(out, " {scalar}");
        }
    }
}

/// Whether a literal block says exactly this text.
fn is_block(text: &str) -> bool {
    let ends = text.ends_with('\n') && !text.ends_with("\n\n") && !text.starts_with([' ', '\n']);
    ends && text.lines().all(|line| !line.contains(char::is_control) && line == line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_lists_and_scalars_are_written() {
        let text = write(
            &json!({ "a": { "b": [{ "c": 1, "d": "x: y" }, { "c": 2 }] }, "e": "one\n\ntwo\n", "f": true }),
        );
        assert_eq!(
            text,
            "a:\n  b:\n    - c: 1\n      d: \"x: y\"\n    - c: 2\ne: |\n  one\n\n  two\nf: true\n"
        );
        assert_eq!(write(&json!({ "a": " x\n" })), "a: \" x\\n\"\n");
    }
}
