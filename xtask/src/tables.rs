//! Tables at the end of a run: aligned, without colours, readable in a log.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table with these headings; the columns in `right` (counted from 0) are aligned to the right.
#[must_use]
pub fn table(headings: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Bytes for a person, in units of 1,000,000.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text =
            table(&["tile", "s"], &[1], [vec!["0".into(), "1.5".into()], vec!["10".into(), "12.0".into()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, [" tile     s", " 0      1.5", " 10    12.0"]);
        assert_eq!(megabytes(12_345_678), "12.3 MB");
    }
}
