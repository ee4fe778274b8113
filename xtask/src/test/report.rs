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
const SHOWN: usize = 200;

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
    if !all.pins_gone.is_empty() {
        println!("\nPINS GONE (`sosna-image lock image/boards/*.toml` pins anew what the archive has):");
        all.pins_gone.iter().for_each(|line| println!("  {line}"));
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

/// What of a failed stage's output a reader wants: libtest's sections about failed tests where there are
/// some, else the end.
pub(super) fn excerpt(log: &Log) -> String {
    let mut wanted = failures(log.lines());
    if wanted.is_empty() {
        wanted = log.lines().iter().map(String::as_str).collect();
    }
    let from = wanted.len().saturating_sub(SHOWN);
    let mut text = String::new();
    if from > 0 {
        text.push_str(&format!("    … {from} lines before these are in the log\n"));
    }
    for line in &wanted[from..] {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("    (all of it: {})", log.path().display()));
    text
}

/// From each first `failures:` of a test program to its result, without the result.
fn failures(lines: &[String]) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in lines {
        if line == "failures:" {
            inside = true;
        } else if line.starts_with("test result:") || line.trim_start().starts_with("Running ") {
            inside = false;
        } else if inside {
            found.push(line.as_str());
        }
    }
    found
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

    #[test]
    fn of_tests_the_failed_ones_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::begin(&dir.path().join("test.log")).unwrap();
        let said = "successes:\n---- good stdout ----\nnoise\n\nfailures:\n---- bad stdout ----\nleft is not right\n\n\
                    failures:\n    bad\n\ntest result: FAILED. 1 passed; 1 failed\n     Running other\nmore noise";
        said.lines().for_each(|l| log.line(l));
        let text = excerpt(&log);
        assert!(
            text.contains("left is not right") && !text.contains("noise") && !text.contains("test result"),
            "{text}"
        );
    }
}
