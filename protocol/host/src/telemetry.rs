//! Logs: to stderr, filtered by an environment variable, as text for people or JSON for machines. Keys and
//! tokens never reach them: the types that hold them do not print themselves.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging. `variable` names the environment variable with the filter (`info` where it is not set);
/// `json` asks for one JSON object a line.
pub fn start(variable: &str, json: bool) {
    let filter = EnvFilter::try_from_env(variable).unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = if json {
        layer.json().boxed()
    } else {
        layer.with_ansi(std::io::stderr().is_terminal()).compact().boxed()
    };
    // A second start (in tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}
