//! What is printed after the stages: minutes against the budget, cargo's own result lines, what was skipped
//! and why, and the closing line that counts every test.

use std::error::Error;

use super::Done;
use crate::budget::Budget;
use crate::exec::Log;
use crate::stage::Outcome;
use crate::summary::Summary;
use crate::tables;

/// Lines of a failed stage's output that are shown; the file has all of them.
const SHOWN: usize = 400;

pub(super) fn print(done: &[Done], budget: &Budget) {
    println!();
    let minutes = |m: f64| format!("{m:.1}");
    let mut rows = Vec::new();
    let (mut spent, mut allowed) = (0.0, 0.0);
    for stage in done {
        let took = stage.took.as_secs_f64() / 60.0;
        let line = budget.get(stage.name);
        spent += took;
        allowed += line.map_or(0.0, |l| l.minutes);
        let (result, remark) = match &stage.outcome {
            Outcome::Passed => ("ok", String::new()),
            Outcome::Skipped(reason) => ("skipped", reason.clone()),
            Outcome::Failed(reason) => ("FAILED", reason.clone()),
        };
        let over = line.is_some_and(|l| took > l.minutes).then_some("over its budget");
        let remarks: Vec<&str> =
            over.into_iter().chain((!remark.is_empty()).then_some(remark.as_str())).collect();
        rows.push(vec![
            stage.name.to_owned(),
            result.to_owned(),
            minutes(took),
            line.map_or_else(|| "-".to_owned(), |l| minutes(l.minutes)),
            line.map_or_else(String::new, |l| l.proves.clone()),
            remarks.join("; "),
        ]);
    }
    rows.push(vec![
        "total".into(),
        String::new(),
        minutes(spent),
        minutes(allowed),
        String::new(),
        String::new(),
    ]);
    println!("{}", tables::table(&["stage", "result", "minutes", "budget", "proves", ""], &[2, 3], rows));
    for complaint in budget.complaints(&super::names()) {
        println!("budget: {complaint}");
    }

    let mut all = Summary::default();
    let mut parts: Vec<String> = Vec::new();
    for stage in done {
        all.add(stage.summary.clone());
        if let Outcome::Skipped(reason) = &stage.outcome {
            parts.push(format!("stage {}: {reason}", stage.name));
        }
        parts.extend(stage.skipped.iter().map(|part| format!("part of stage {}: {part}", stage.name)));
    }
    if !all.forward.is_empty() {
        println!();
        all.forward.iter().for_each(|line| println!("{line}"));
    }
    if !all.skipped.is_empty() || !parts.is_empty() {
        println!("\nnot run:");
        parts.iter().chain(&all.skipped).for_each(|line| println!("  {line}"));
    }
    println!("\n{}", all.closing());
}

/// An error with everything below it, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The end of a failed stage's output.
pub(super) fn excerpt(log: &Log) -> String {
    let lines = log.lines();
    let from = lines.len().saturating_sub(SHOWN);
    let mut text = String::new();
    if from > 0 {
        text.push_str(&format!("    … {from} lines before these are in the log\n"));
    }
    for line in &lines[from..] {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("    (all of it: {})", log.path().display()));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::begin(&dir.path().join("a/b.log")).unwrap();
        (0..SHOWN + 5).for_each(|n| log.line(&format!("line {n}.")));
        let text = excerpt(&log);
        assert!(text.contains("… 5 lines before"));
        assert!(!text.contains("line 4."));
        assert!(text.contains("line 5.") && text.contains("b.log"));
    }
}
