//! How much of the contracts their tests run.

/// Lines that are run at least, in hundredths of all.
pub const LEAST: f64 = 95.0;

/// What forge reports of all files together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Lines, statements, branches and functions that are run, in hundredths.
    pub shares: [f64; 4],
}

/// Reads forge's table.
#[must_use]
pub fn read(lines: &[String]) -> Option<Coverage> {
    let total = lines.iter().rev().find(|line| line.starts_with("| Total "))?;
    let shares: Vec<f64> =
        total.split('|').skip(2).filter_map(|cell| cell.split_once('%')?.0.trim().parse().ok()).collect();
    Some(Coverage { shares: shares.try_into().ok()? })
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [lines, statements, branches, functions] = self.shares;
        write!(
            f,
            "run by tests: {lines} % of lines, {statements} % of statements, {branches} % of branches, \
             {functions} % of functions"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn forges_table_is_read() {
        let lines = [
            "| File                  | % Lines         | % Statements    | % Branches     | % Funcs        |",
            "| solidity/token/SNM.sol | 100.00% (2/2)   | 100.00% (1/1)   | 100.00% (0/0)  | 100.00% (1/1)  |",
            "| Total                 | 94.09% (60/64)  | 77.94% (71/91)  | 87.00% (17/20) | 85.63% (14/16) |",
        ]
        .map(str::to_owned);
        let found = read(&lines).unwrap();
        assert_eq!(found.shares, [94.09, 77.94, 87.0, 85.63]);
        assert!(found.shares[0] < LEAST);
        assert_eq!(read(&lines[..2]), None);
    }
}
