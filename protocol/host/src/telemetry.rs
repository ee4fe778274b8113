//! Logs: to stderr, filtered by an environment variable, as text for people or JSON for machines. Keys and
//! tokens never reach them: the types that hold them do not print themselves.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    prelude::*,
};

/// Starts logging. `variable` names the environment variable with the filter, levels by target such as
/// `info,sosna_agent=debug` (`info` where it is not set or cannot be read);
/// `json` asks for one JSON object a line.
pub fn start(variable: &str, json: bool) {
    let asked = std::env::var(variable).ok().filter(|text| !text.is_empty());
    let filter = asked.as_deref().map(str::parse::<Targets>).transpose();
    let (filter, refused) = match filter {
        Ok(filter) => (filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)), None),
        Err(refused) => (Targets::new().with_default(LevelFilter::INFO), Some(refused)),
    };
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = if json {
        layer.json().boxed()
    } else {
        layer.with_ansi(std::io::stderr().is_terminal()).compact().boxed()
    };
    // A second start (in tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if let Some(why) = refused {
        tracing::warn!(variable, %why, "the filter of the log cannot be read: info is shown; write for example info,sosna_agent=debug");
    }
}
