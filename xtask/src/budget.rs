//! docs/ci-budget.md: what each stage proves and the minutes that it may take on two cores.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One line of the budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What the stage proves.
    pub proves: String,
    /// Minutes that it may take.
    pub minutes: f64,
}

/// The budget by stage, and what is wrong with the file.
#[derive(Debug, Default)]
pub struct Budget {
    lines: BTreeMap<String, Line>,
    complaints: Vec<String>,
}

impl Budget {
    /// Reads the first table of the file whose columns are stage, proves and minutes. A file that is missing
    /// or wrong is complained about and stops nothing.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => {
                let complaint = format!("{} cannot be read: {error}", path.display());
                Self { lines: BTreeMap::new(), complaints: vec![complaint] }
            }
        }
    }

    fn parse(text: &str) -> Self {
        let mut budget = Self::default();
        let rows = text.lines().filter_map(|l| l.trim().strip_prefix('|')?.strip_suffix('|'));
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [stage, proves, minutes] = cells.as_slice() else {
                budget.complaints.push(format!("not three columns: |{row}|"));
                continue;
            };
            if *stage == "stage" || stage.chars().all(|c| "-:".contains(c)) {
                continue;
            }
            match minutes.parse::<f64>() {
                Ok(minutes) if minutes.is_finite() && minutes >= 0.0 => {
                    let line = Line { proves: (*proves).to_owned(), minutes };
                    budget.lines.insert(stage.trim_matches('`').to_owned(), line);
                }
                _ => {
                    budget.complaints.push(format!("stage {stage} has no number of minutes but '{minutes}'"))
                }
            }
        }
        budget
    }

    /// The line of a stage.
    #[must_use]
    pub fn get(&self, stage: &str) -> Option<&Line> {
        self.lines.get(stage)
    }

    /// What is wrong: in the file, with a stage that it does not have, with one that only it has.
    #[must_use]
    pub fn complaints(&self, stages: &[&str]) -> Vec<String> {
        let mut all = self.complaints.clone();
        let missing = stages.iter().filter(|s| !self.lines.contains_key(**s));
        all.extend(missing.map(|s| format!("stage {s} has no line in docs/ci-budget.md")));
        let gone = self.lines.keys().filter(|s| !stages.contains(&s.as_str()));
        all.extend(gone.map(|s| format!("docs/ci-budget.md has a line for {s}, which is no stage")));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_its_faults_are_named() {
        let budget = Budget::parse(
            "# Budget\ntext\n| stage | proves | minutes |\n|---|---|---:|\n| `fmt` | looks | 0.5 |\n| test | works | ten |\n| old | gone | 1 |\n| a | b |\n",
        );
        assert_eq!(budget.get("fmt"), Some(&Line { proves: "looks".into(), minutes: 0.5 }));
        let complaints = budget.complaints(&["fmt", "test"]);
        assert_eq!(complaints.len(), 4, "{complaints:?}");
    }

    #[test]
    fn a_missing_file_is_a_complaint() {
        let budget = Budget::read(Path::new("/nonexistent/ci-budget.md"));
        assert!(budget.complaints(&[])[0].contains("cannot be read"));
    }

    #[test]
    fn every_stage_has_its_line() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ci-budget.md");
        assert_eq!(Budget::read(&path).complaints(&crate::test::names()), Vec::<String>::new());
    }
}
