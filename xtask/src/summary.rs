//! Reads test results out of cargo's and forge's output: the counts, and the tests that could not run and why.

use std::collections::BTreeSet;

/// What all test programs said together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Tests that ran and held.
    pub passed: u64,
    /// Tests that ran and did not.
    pub failed: u64,
    /// Tests that could not run (`SKIPPED name: reason`) and ignored ones, with the reasons.
    pub skipped: BTreeSet<String>,
    /// Images that were tested with other packages than the pinned ones (`PINS GONE: board: what`).
    pub pins_gone: BTreeSet<String>,
    /// Cargo's own lines worth showing: programs that held tests, their results, failed tests.
    pub forward: Vec<String>,
    program: Option<String>,
    said_skipped: u64,
}

impl Summary {
    /// Takes one line of cargo's output.
    pub fn feed(&mut self, line: &str) {
        let text = line.trim();
        let is_forges = text.starts_with("Ran ") && text.contains(" for tests/");
        if text.starts_with("Running ") || text.starts_with("Doc-tests ") || is_forges {
            self.program = Some(line.to_owned());
        } else if let Some(counts) =
            text.strip_prefix("test result: ").or_else(|| text.strip_prefix("Suite result: "))
        {
            let count = |name: &str| {
                let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
                let at = words.iter().position(|w| *w == name)?;
                words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
            };
            let (passed, failed) = (count("passed").unwrap_or(0), count("failed").unwrap_or(0));
            self.passed += passed;
            self.failed += failed;
            if passed + failed + count("ignored").unwrap_or(0) > 0 {
                self.forward.extend(self.program.take());
                self.forward.push(line.to_owned());
            }
        } else if let Some(what) = text.strip_prefix("PINS GONE: ") {
            self.pins_gone.insert(what.to_owned());
        } else if let Some(test) = text.strip_prefix("SKIPPED ") {
            // libtest counts a test that gave up as passed.
            if self.skipped.insert(test.to_owned()) {
                self.said_skipped += 1;
            }
        } else if text.starts_with("TURN ") || text.starts_with("[FAIL") {
            // Which of the tests that take turns it was, and what forge says of a test that failed.
            self.forward.push(line.to_owned());
        } else if let Some((name, state)) = text.strip_prefix("test ").and_then(|t| t.split_once(" ... ")) {
            if let Some(reason) = state.strip_prefix("ignored") {
                let reason = reason.trim_start_matches([',', ' ']);
                let reason = if reason.is_empty() { "marked as ignored" } else { reason };
                self.skipped.insert(format!("{name}: {reason}"));
            } else if state == "FAILED" {
                self.forward.push(line.to_owned());
            }
        }
    }

    /// Adds another command's results.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.said_skipped += other.said_skipped;
        self.skipped.extend(other.skipped);
        self.pins_gone.extend(other.pins_gone);
        self.forward.extend(other.forward);
    }

    /// The closing line.
    #[must_use]
    pub fn closing(&self) -> String {
        let passed = self.passed.saturating_sub(self.said_skipped);
        format!("{passed} passed, {} failed, {} skipped", self.failed, self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_are_counted() {
        let mut summary = Summary::default();
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/a-1)",
            "test one ... ok",
            "test two ... FAILED",
            "test three ... ignored, needs a radio",
            "test four ... ignored",
            "---- five stdout ----",
            "SKIPPED five: not root",
            "SKIPPED five: not root",
            "PINS GONE: rpi: tested with a 2 instead of 1",
            "PINS GONE: rpi: tested with a 2 instead of 1",
            "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "     Running unittests src/main.rs (target/debug/deps/b-2)",
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "   Doc-tests a",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s",
        ] {
            summary.feed(line);
        }
        assert_eq!(summary.closing(), "3 passed, 1 failed, 3 skipped");
        assert!(summary.skipped.contains("three: needs a radio"));
        assert_eq!(summary.forward.len(), 5, "{:?}", summary.forward);
        let mut sum = Summary::default();
        sum.add(summary);
        assert_eq!(sum.pins_gone.iter().collect::<Vec<_>>(), ["rpi: tested with a 2 instead of 1"]);
        assert_eq!(sum.closing(), "3 passed, 1 failed, 3 skipped");
    }

    #[test]
    fn forges_lines_are_counted() {
        let mut summary = Summary::default();
        for line in [
            "Ran 2 tests for tests/Registry.t.sol:RegistryTest",
            "[PASS] test_one() (gas: 302674)",
            "[FAIL: NotTrue(\"so\")] test_two() (gas: 5)",
            "Suite result: FAILED. 1 passed; 1 failed; 0 skipped; finished in 3.11ms (2.18ms CPU time)",
            "Ran 1 test suite in 3.20ms (2.18ms CPU time): 1 tests passed, 1 failed, 0 skipped (2 total tests)",
        ] {
            summary.feed(line);
        }
        assert_eq!((summary.passed, summary.failed), (1, 1));
        assert_eq!(summary.forward.len(), 3, "{:?}", summary.forward);
    }

    #[test]
    fn nonsense_counts_for_nothing() {
        let mut summary = Summary::default();
        for line in ["test result: passed", "test result: 99999999999999999999 passed", "test ", "SKIPPED"] {
            summary.feed(line);
        }
        assert_eq!(summary.closing(), "0 passed, 0 failed, 0 skipped");
    }
}
