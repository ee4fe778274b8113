//! Who has how many SNM, before and after: the columns must add up to all that there is, to the last unit, and everybody
//! must have what the story says. It asks nobody: whoever calls has read the balances from the chain.

use serde::Serialize;
use sosna_protocol::Amount;

use crate::tables;

/// Somebody's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Who.
    pub(super) who: &'static str,
    /// Their address, or the contract's.
    pub(super) address: String,
    /// Once pocket money was handed out.
    pub(super) before: Amount,
    /// In the end.
    pub(super) after: Amount,
    /// What they should have in the end, by what was done.
    pub(super) expected: Amount,
}

/// A row for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    who: &'static str,
    address: String,
    before: String,
    after: String,
}

/// Everything that is wrong with the balances; nothing when they are as they should be.
#[must_use]
pub(super) fn faults(rows: &[Row], supply: Amount) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows.iter().filter(|row| row.after != row.expected) {
        faults.push(format!("{} has {} SNM and should have {}", row.who, row.after, row.expected));
    }
    for (when, column) in
        [("before", column(rows, |row| row.before)), ("after", column(rows, |row| row.after))]
    {
        match column {
            Some(sum) if sum == supply => {}
            Some(sum) => {
                faults.push(format!("the balances {when} add up to {sum} SNM, and there are {supply}"))
            }
            None => faults.push(format!("the balances {when} are more than any books can hold")),
        }
    }
    faults
}

/// The table for people, with its sums.
#[must_use]
pub(super) fn table(rows: &[Row]) -> String {
    let sum = |of: fn(&Row) -> Amount| column(rows, of).unwrap_or_default();
    let total = (sum(|row| row.before), sum(|row| row.after));
    let amounts = rows.iter().map(|row| (row.before, row.after)).chain([total]);
    let digits = amounts.clone().flat_map(|(before, after)| [before, after]).map(fraction).max().unwrap_or(0);
    let cells = rows.iter().map(|row| row.who).chain(["together"]).zip(amounts);
    let cells = cells.map(|(who, (before, after))| {
        vec![who.to_owned(), aligned(before, digits), aligned(after, digits), change(before, after, digits)]
    });
    tables::table(&["SNM", "before", "after", "change"], &[1, 2, 3], cells)
}

/// The same for machines, in SNM.
#[must_use]
pub(super) fn told(rows: &[Row]) -> Vec<Told> {
    let one = |row: &Row| Told {
        who: row.who,
        address: row.address.clone(),
        before: row.before.to_string(),
        after: row.after.to_string(),
    };
    rows.iter().map(one).collect()
}

fn column(rows: &[Row], of: fn(&Row) -> Amount) -> Option<Amount> {
    rows.iter().try_fold(Amount::ZERO, |sum, row| sum.checked_add(of(row)))
}

/// How many digits an amount has behind the point.
fn fraction(amount: Amount) -> usize {
    amount.to_string().split_once('.').map_or(0, |(_, digits)| digits.len())
}

/// An amount with so many digits behind the point, so that points stand under one another.
fn aligned(amount: Amount, digits: usize) -> String {
    let text = amount.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if digits == 0 { whole.to_owned() } else { format!("{whole}.{part:0<digits$}") }
}

fn change(before: Amount, after: Amount, digits: usize) -> String {
    match (after.checked_sub(before), before.checked_sub(after)) {
        (Some(Amount::ZERO), _) => String::new(),
        (Some(more), _) => format!("+{}", aligned(more, digits)),
        (None, less) => format!("-{}", aligned(less.unwrap_or_default(), digits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(who: &'static str, before: u128, after: u128) -> Row {
        let amount = |units: u128| Amount::from_units(units * 10_u128.pow(15));
        Row {
            who,
            address: String::new(),
            before: amount(before),
            after: amount(after),
            expected: amount(after),
        }
    }

    #[test]
    fn what_adds_up_is_well() {
        let rows = [row("holder", 9_000, 9_000), row("buyer", 1_000, 250), row("device", 0, 750)];
        assert_eq!(faults(&rows, Amount::from_units(10 * Amount::SNM.units())), Vec::<String>::new());
    }

    #[test]
    fn a_lost_unit_is_found() {
        let supply = Amount::from_units(10 * Amount::SNM.units());
        let mut rows = [row("holder", 9_000, 9_000), row("buyer", 1_000, 250), row("device", 0, 750)];
        let less = Amount::from_units(rows[2].after.units() - 1);
        rows[2].after = less;
        let found = faults(&rows, supply);
        assert!(found.iter().any(|fault| fault.contains("device has 0.749999999999999999 SNM")), "{found:?}");
        assert!(
            found.iter().any(|fault| fault.contains("after add up to 9.999999999999999999")),
            "{found:?}"
        );
        // Where the story expects the same, the sum still tells.
        rows[2].expected = less;
        assert_eq!(faults(&rows, supply).len(), 1);
        // A unit with somebody else than it should be with adds up, and is found all the same.
        rows[2].expected = Amount::from_units(less.units() + 1);
        rows[1].after = Amount::from_units(rows[1].after.units() + 1);
        let found = faults(&rows, supply);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|fault| fault.contains("should have")), "{found:?}");
    }

    #[test]
    fn points_stand_under_one_another() {
        let text = table(&[row("holder", 9_000, 9_000), row("buyer", 1_000, 250), row("device", 0, 750)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], " holder      9.00   9.00");
        assert_eq!(lines[2], " buyer       1.00   0.25   -0.75");
        assert_eq!(lines[3], " device      0.00   0.75   +0.75");
        assert_eq!(lines[4], " together   10.00  10.00");
    }
}
