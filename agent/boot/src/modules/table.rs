//! The table of drivers that the composer writes beside the modules (`drivers`): which files a driver needs, in the
//! order of loading, and by which patterns hardware asks for it.
//!
//! ```text
//! usb-common.ko usbcore.ko xhci-hcd.ko xhci-pci.ko
//!  pci:v*d*sv*sd*bc0Csc03i30*
//! ```
//!
//! A line that begins with a space belongs to the driver above it. A line that is not understood counts for nothing
//! and is told; nothing that stands here can end the boot.

use super::glob;

/// Far more than any board's.
const LONGEST: usize = 4 << 20;

/// All drivers of a stage.
#[derive(Debug, Default)]
pub(super) struct Table {
    text: String,
    drivers: Vec<Driver>,
}

#[derive(Debug)]
struct Driver {
    /// Where in the text its line is.
    files: (usize, usize),
    /// Where in the text its patterns are.
    patterns: (usize, usize),
}

// === impl Table ===

impl Table {
    /// Reads the table's text; returns the lines that name what is no module, too.
    pub(super) fn parse(mut text: String) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        if text.len() > LONGEST {
            wrong.push(format!("{} bytes", text.len()));
            text.clear();
        }
        let mut drivers: Vec<Driver> = Vec::new();
        let (mut at, mut is_open) = (0, false);
        for line in text.split_inclusive('\n') {
            let (begin, end) = (at, at + line.len());
            at = end;
            if line.starts_with(' ') {
                if let (true, Some(driver)) = (is_open, drivers.last_mut()) {
                    driver.patterns.1 = end;
                }
                continue;
            }
            is_open = false;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split(' ').find(|name| !super::is_module(name)) {
                Some(name) => wrong.push(name.chars().take(80).collect()),
                None => {
                    is_open = true;
                    drivers.push(Driver { files: (begin, begin + line.len()), patterns: (end, end) });
                }
            }
        }
        (Self { text, drivers }, wrong)
    }

    /// The files of all drivers for hardware that asks by one of these, in the table's order: a driver's dependencies
    /// before it.
    pub(super) fn files<'a>(&'a self, aliases: &'a [String]) -> impl Iterator<Item = &'a str> {
        let asked = |driver: &&Driver| {
            self.patterns(driver).any(|pattern| aliases.iter().any(|alias| glob::fits(pattern, alias)))
        };
        self.drivers
            .iter()
            .filter(asked)
            .flat_map(|driver| self.text.get(driver.files.0..driver.files.1).unwrap_or_default().split(' '))
    }

    fn patterns(&self, driver: &Driver) -> impl Iterator<Item = &str> {
        self.text.get(driver.patterns.0..driver.patterns.1).unwrap_or_default().lines().map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(text: &str, aliases: &[&str]) -> Vec<String> {
        let aliases: Vec<_> = aliases.iter().map(ToString::to_string).collect();
        Table::parse(text.to_owned()).0.files(&aliases).map(str::to_owned).collect()
    }

    #[test]
    fn drivers_come_in_the_tables_order_with_what_they_need() {
        let text = "a.ko b.ko\n pci:1*\n pci:2*\n# remark\nc.ko\n usb:*\nnone.ko\n\nd.ko\n pci:1?\n";
        assert_eq!(files(text, &["usb:5", "pci:15"]), ["a.ko", "b.ko", "c.ko", "d.ko"]);
        assert_eq!(files(text, &["pci:2"]), ["a.ko", "b.ko"]);
        assert!(files(text, &[]).is_empty() && files(text, &["scsi:"]).is_empty());
    }

    #[test]
    fn lines_that_are_not_understood_are_told_and_their_patterns_count_for_nothing() {
        let (table, wrong) = Table::parse(" x:*\na.ko ../b.ko\n pci:*\nc.ko\n pci:*\n\n usb:*".to_owned());
        assert_eq!(wrong, ["../b.ko"]);
        let asked = ["pci:1".to_owned()];
        assert_eq!(table.files(&asked).collect::<Vec<_>>(), ["c.ko"]);
        assert_eq!(table.files(&["usb:1".to_owned()]).count(), 0);
        assert_eq!(Table::parse("x".repeat(5 << 20)).1, [format!("{} bytes", 5 << 20)]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "([ a-cé*\\[]|\\.ko|\n| |/|\r){0,60}", alias in "[a-cé]{0,8}") {
            let (table, _) = Table::parse(text);
            let _ = table.files(&[alias]).count();
        }
    }
}
