//! Figures for a person.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{Figures, tally::Span};

/// What a swarm has come to, in tables.
#[must_use]
pub fn figures(figures: &Figures) -> String {
    let mut text = format!(
        "{} enrolled, {} online, {} sessions, {} frames confirmed\n",
        figures.enrolled, figures.online, figures.sessions, figures.acknowledged
    );
    let rows = figures.times.iter().map(|(span, times)| {
        let ms = |value: f64| format!("{value:.1}");
        let name = match span {
            Span::Connect => "connect (TCP, TLS, MQTT)",
            Span::Enrol => "enrol",
            Span::Greet => "subscribe, greet",
            Span::Publish => "publish, confirmed by the broker",
        };
        vec![name.into(), times.count.to_string(), ms(times.p50_ms), ms(times.p99_ms), ms(times.max_ms)]
    });
    section(&mut text, &["took", "times", "p50 ms", "p99 ms", "max ms"], rows.collect());
    let rows = figures.accounts.iter().map(|(conduct, account)| {
        let verdicts: Vec<_> =
            account.verdicts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let mut row = vec![conduct.to_string()];
        row.extend(
            [account.devices, account.offered, account.accepted, account.refused, account.shown]
                .map(|n| n.to_string()),
        );
        row.extend([account.owed.to_string(), account.vouched.to_string(), verdicts.join(", ")]);
        row
    });
    let headings = [
        "conduct",
        "devices",
        "offered",
        "accepted",
        "refused",
        "shown",
        "owed SNM",
        "vouched SNM",
        "verdicts",
    ];
    section(&mut text, &headings, rows.collect());
    for (title, counts) in [("failures", &figures.failures), ("frames that did not count", &figures.deaf)] {
        let rows: Vec<_> = counts.iter().map(|(why, count)| vec![why.clone(), count.to_string()]).collect();
        section(&mut text, &[title, "times"], rows);
    }
    let rows = figures.breaches.iter().map(|(what, count)| vec![format!("{what:?}"), count.to_string()]);
    section(&mut text, &["the hub broke its word", "times"], rows.collect());
    text
}

fn section(text: &mut String, headings: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let is_number = |column: usize| {
        rows.iter().all(|row| {
            row[column].starts_with(|first: char| first.is_ascii_digit()) && !row[column].contains(' ')
        })
    };
    let numbers: Vec<_> = (1..headings.len()).filter(|column| is_number(*column)).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    table.add_rows(rows);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    text.push('\n');
    for line in table.lines() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
