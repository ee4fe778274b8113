//! Work that people's computers did for BOINC projects, and what it is paid.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::text::{AddressText, AmountText, Text, Written};

/// The most computers that one payment is about.
pub const MAX_HOSTS: usize = 100_000;

/// Credit of a BOINC project, in millionths: the exports print six decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credit(pub u128);

/// Credit, as a string in JSON.
pub type CreditText = Text<Credit>;

/// A text that is no credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("credit is a decimal number of at most 20 digits, with at most 6 decimal places")]
pub struct NotCredit;

/// `POST /v1/boinc/payments`.
///
/// Each user's credit is counted once: what a payment has counted, no later one pays again, whatever export it is
/// made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBoincPayment {
    /// The project's address. With and without `https://` it is the same project.
    pub project: String,
    /// What new credit is paid.
    pub price: BoincPrice,
    /// The most that may be paid in all: where it would be more, nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<AmountText>,
    /// Whether users of whom these books have not heard yet are paid for all the credit that they have. Otherwise theirs
    /// counts from now on.
    #[serde(default)]
    pub history: bool,
    /// Say what would be paid, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The users to pay, each once.
    pub users: Vec<BoincUser>,
}

/// What credit is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BoincPrice {
    /// So much for each credit.
    Rate(AmountText),
    /// So much in all, shared in proportion to new credit. What cannot be divided, less than a unit a computer, is not
    /// paid.
    Pot(AmountText),
}

/// A user of the project, as its export has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoincUser {
    /// The user's number.
    pub id: u64,
    /// All credit that the user ever had: what bounds the payment. Merging two computers into one does not change it.
    pub credit: CreditText,
    /// All computers that the project shows as the user's.
    pub hosts: Vec<BoincHost>,
}

/// A computer of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoincHost {
    /// Its number.
    pub id: u64,
    /// When the project first saw it, in seconds since 1970. Never changes: another project's export is told by it.
    pub created_s: u64,
    /// All credit that it ever had.
    pub credit: CreditText,
    /// To whom it is paid. What one without earns is counted, and paid to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payee: Option<AddressText>,
}

/// A payment for credit, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoincPaymentDetail {
    /// It.
    #[serde(flatten)]
    pub payment: BoincPayment,
    /// Computers that have new credit.
    pub lines: Vec<BoincLine>,
    /// Users who were passed over, with the reason. Nothing of theirs was counted. Told when a payment is made, and not
    /// kept.
    #[serde(default)]
    pub passed_over: Vec<BoincPassedOver>,
    /// How many users count from now on: these books had not heard of them.
    #[serde(default)]
    pub first_seen: u32,
}

/// A user who is not paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoincPassedOver {
    /// The user's number.
    pub user: u64,
    /// Why, in words.
    pub why: String,
}

/// A payment for credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoincPayment {
    /// Its number; `null` where it was only asked what it would be, or nothing was new.
    pub id: Option<u64>,
    /// The project's address, without `https://`.
    pub project: String,
    /// When.
    pub at_ms: u64,
    /// What credit was paid.
    pub price: BoincPrice,
    /// How many computers had new credit that was paid.
    pub hosts: u32,
    /// That credit.
    pub credit: CreditText,
    /// What was paid for it.
    pub amount: AmountText,
}

/// New credit of a computer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoincLine {
    /// The user's number.
    pub user: u64,
    /// The computer's.
    pub host: u64,
    /// The new credit.
    pub credit: CreditText,
    /// To whom it is paid; `null` for nobody.
    pub payee: Option<AddressText>,
    /// How much.
    pub amount: AmountText,
}

/// `GET /v1/boinc/payments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BoincPaymentList {
    /// Newest first.
    pub payments: Vec<BoincPayment>,
    /// The value of `before` that continues them; `null` at their end.
    pub next: Option<u64>,
}

/// The query of `GET /v1/boinc/payments`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BoincPaymentQuery {
    /// At most so many, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only payments before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

// === impl Credit ===

impl Credit {
    /// One credit.
    pub const ONE: Self = Self(1_000_000);
    const DIGITS: usize = 20;
    const PLACES: usize = 6;
}

impl FromStr for Credit {
    type Err = NotCredit;

    fn from_str(text: &str) -> Result<Self, NotCredit> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit())
        };
        if !is_number(whole, Self::DIGITS) || !is_number(fraction, Self::PLACES) {
            return Err(NotCredit);
        }
        // 26 digits at most fit.
        format!("{whole}{fraction:0<6}").parse().map(Self).map_err(|_| NotCredit)
    }
}

impl fmt::Display for Credit {
    /// Without trailing zeros: `1000.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / Self::ONE.0, self.0 % Self::ONE.0);
        if fraction == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{fraction:06}").trim_end_matches('0'))
    }
}

impl Written for Credit {
    const NAME: &'static str = "Credit";
    const DESCRIPTION: &'static str =
        "credit of a BOINC project: a decimal number with at most 6 decimal places";
    const EXAMPLE: &'static str = "1000.5";

    fn written(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_read_as_exports_print_it_and_nothing_else_is() {
        for (text, millionths, shown) in [
            ("0.000000", 0, "0"),
            ("1000.500000", 1_000_500_000, "1000.5"),
            ("2000.000001", 2_000_000_001, "2000.000001"),
            ("75.125", 75_125_000, "75.125"),
            ("3", 3_000_000, "3"),
            (
                "99999999999999999999.999999",
                99_999_999_999_999_999_999_999_999,
                "99999999999999999999.999999",
            ),
        ] {
            assert_eq!(text.parse(), Ok(Credit(millionths)), "{text}");
            assert_eq!(Credit(millionths).to_string(), shown);
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1.0",
            "+1",
            "1e9",
            "nan",
            "inf",
            "1.0000001",
            "1,5",
            "100000000000000000000",
        ] {
            assert_eq!(text.parse::<Credit>(), Err(NotCredit), "{text}");
        }
    }
}
