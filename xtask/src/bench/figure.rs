//! A figure: what a bench printed, and what is made of it.

use serde::{Deserialize, Serialize};

/// What a program measured, as it prints it: one JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What it is.
    pub metric: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// Whom it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The peer's value in the same run, in the same unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
}

impl Measured {
    /// A figure that is compared with nobody.
    #[must_use]
    pub fn new(metric: &str, value: f64, unit: &str) -> Self {
        Self { metric: metric.into(), value, unit: unit.into(), peer: None, peer_value: None }
    }
}

/// A measured figure beside what was promised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Which bench.
    pub bench: String,
    /// What it measured.
    #[serde(flatten)]
    pub measured: Measured,
    /// Our value by the peer's.
    pub ratio: Option<f64>,
    /// The promise in words, where there is one for this figure.
    pub promise: Option<String>,
    /// Whether it holds.
    pub holds: Option<bool>,
}

/// A number for a person: four digits are as many as such figures are worth.
#[must_use]
pub(super) fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 1000.0 => 0,
        large if large >= 100.0 => 1,
        large if large >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.5678, 12.345, 99.999, 123.45, 98_765.4, 3.0, 100.0].map(short);
        assert_eq!(shown, ["0.568", "12.35", "100", "123.5", "98765", "3", "100"]);
    }
}
