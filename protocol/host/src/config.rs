//! The one configuration loader: defaults, then a TOML file, then the environment, then flags; each key knows
//! where its value came from.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::file::FileError;

/// A program's configuration. Its default holds every key (so that unknown ones are told), sections as tables.
pub trait Config: Serialize + DeserializeOwned + Default {
    /// What environment variables begin with: `SOSNA_HUB` makes `SOSNA_HUB_LOG_JSON` set `log.json`.
    const ENVIRONMENT: &'static str;
    /// Keys whose values are addresses that may hold an access key: no more than the host is printed of them.
    const ADDRESSES: &'static [&'static str] = &[];
}

/// The configuration in force.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The values.
    pub value: T,
    merged: Table,
    origins: BTreeMap<String, String>,
    addresses: &'static [&'static str],
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration cannot be read")]
    File(#[from] FileError),
    /// The file is not TOML.
    #[error("{path} is not a configuration file")]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A key that does not exist.
    #[error("{origin} sets `{key}`, which does not exist{}", nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// Who sets it.
        origin: String,
        /// The key.
        key: String,
        /// The key that it resembles.
        nearest: Option<String>,
    },
    /// A value of another type, or out of range.
    #[error("a value of the configuration cannot be used")]
    Value(#[source] toml::de::Error),
}

/// Loads a configuration. `flags` are `(key, value)` pairs such as `("listen", "127.0.0.1")`, of the options
/// that were given.
///
/// # Errors
/// [`ConfigError`].
pub fn load<T: Config>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let defaults = Table::try_from(T::default()).expect("a configuration's default is a table");
    let mut known = BTreeMap::new();
    flatten("", &defaults, &mut known);
    let mut values: BTreeMap<String, (Value, String)> =
        known.iter().map(|(key, value)| (key.clone(), (value.clone(), "default".to_owned()))).collect();
    let mut set = |key: String, value: Value, origin: String| match values.get_mut(&key) {
        Some(slot) => {
            *slot = (value, origin);
            Ok(())
        }
        None => Err(ConfigError::Unknown { nearest: nearest(&key, known.keys()), origin, key }),
    };

    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(FileError::of("read", path))?;
        let origin = path.display().to_string();
        let table: Table =
            text.parse().map_err(|source| ConfigError::Syntax { path: origin.clone(), source })?;
        let mut given = BTreeMap::new();
        flatten("", &table, &mut given);
        given.into_iter().try_for_each(|(key, value)| set(key, value, origin.clone()))?;
    }
    let prefix = format!("{}_", T::ENVIRONMENT);
    let by_variable: BTreeMap<String, (&String, &Value)> = known
        .iter()
        .map(|(key, value)| (key.to_ascii_uppercase().replace(['.', '-'], "_"), (key, value)))
        .collect();
    for (variable, text) in environment {
        // Variables under our prefix that name no key belong to other parts (SOSNA_HUB_LOG, tokens).
        if let Some((key, like)) = variable.strip_prefix(&prefix).and_then(|rest| by_variable.get(rest)) {
            set((*key).clone(), parse(&text, like), variable)?;
        }
    }
    for (key, text) in flags {
        let value = known.get(key).map_or_else(|| Value::String(text.clone()), |like| parse(&text, like));
        set(key.to_owned(), value, format!("--{}", key.replace(['.', '_'], "-")))?;
    }

    let mut merged = Table::new();
    let mut origins = BTreeMap::new();
    for (key, (value, origin)) in values {
        insert(&mut merged, &key, value);
        origins.insert(key, origin);
    }
    let value = merged.clone().try_into().map_err(ConfigError::Value)?;
    Ok(Loaded { value, merged, origins, addresses: T::ADDRESSES })
}

// === impl Loaded ===

impl<T> Loaded<T> {
    /// The configuration as TOML, each key with where it comes from: `--print-config`.
    #[must_use]
    pub fn print(&self) -> String {
        let mut flat = BTreeMap::new();
        flatten("", &self.merged, &mut flat);
        let lines: Vec<(String, &str)> = flat
            .iter()
            .map(|(key, value)| {
                let value = match self.addresses.contains(&key.as_str()) {
                    true => in_short(value),
                    false => value.clone(),
                };
                (format!("{key} = {value}"), self.origins.get(key).map_or("", String::as_str))
            })
            .collect();
        let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or_default();
        lines.iter().fold(String::new(), |mut text, (line, origin)| {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{line:width$}  # {origin}");
            text
        })
    }
}

/// An address, or a list of them, without what follows the host, or stands before it.
fn in_short(value: &Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.iter().map(in_short).collect()),
        Value::String(text) => {
            let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let host = rest[..end].rsplit('@').next().unwrap_or_default();
            let (before, after) =
                (if scheme.is_empty() { "" } else { "://" }, if end < rest.len() { "/…" } else { "" });
            Value::String(format!("{scheme}{before}{host}{after}"))
        }
        other => other.clone(),
    }
}

fn flatten(prefix: &str, table: &Table, into: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(&key, inner, into),
            _ => {
                into.insert(key, value.clone());
            }
        }
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Reads a text as the type that the default has; what does not fit is told later, with its key.
fn parse(text: &str, like: &Value) -> Value {
    let parsed = match like {
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Float(_) => text.parse().ok().map(Value::Float),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Array(_) => Some(Value::Array(
            text.split(',')
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.trim().into()))
                .collect(),
        )),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(2))
        .min()
        .map(|(_, candidate)| candidate.clone())
}
