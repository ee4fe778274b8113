//! The books: buyers' credit, what it is held for and what it went to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    text::{AddressText, AmountText, AssignmentIdText, JobIdText},
    word::words,
};

/// `GET /v1/ledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// The person's own account; for admins, everybody's.
    pub accounts: Vec<Account>,
    /// What happened on these accounts, newest first.
    pub entries: Vec<Entry>,
    /// The value of `before` that continues the entries; `null` at their end.
    pub next: Option<u64>,
}

/// The query of `GET /v1/ledger`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LedgerQuery {
    /// At most so many entries, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only entries before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// A buyer's account. What was granted is what is available, reserved and spent together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// A user's name.
    pub buyer: String,
    /// All credit that was ever granted, or deposited and not taken back.
    pub granted: AmountText,
    /// Held for jobs that are not decided.
    pub reserved: AmountText,
    /// Owed to devices for this buyer's jobs.
    pub spent: AmountText,
    /// Free for new jobs.
    pub available: AmountText,
}

words! {
    /// What an entry is about.
    pub enum EntryKind {
        /// An admin granted credit.
        Credit = "credit",
        /// The buyer deposited on the chain.
        Deposit = "deposit",
        /// The buyer has taken a deposit back, or the chain has.
        TakenBack = "taken_back",
        /// Credit is held for a job.
        Reserve = "reserve",
        /// What was held is free again.
        Release = "release",
        /// Held credit became what a device is owed.
        Earn = "earn",
        /// A voucher went to a device: the cumulative amount.
        Voucher = "voucher",
        /// The operator pays a device's result beside the one that the buyer asked for, to have a device checked.
        Verification = "verification",
        /// The operator pays for credit of a BOINC project.
        Boinc = "boinc",
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// Its number; later ones are larger.
    pub id: u64,
    /// When.
    pub at_ms: u64,
    /// What it is about.
    pub kind: EntryKind,
    /// How much.
    pub amount: AmountText,
    /// Whose account.
    pub buyer: Option<String>,
    /// To which device; for credit of a BOINC project, to which payee.
    pub device: Option<AddressText>,
    /// For which job.
    pub job: Option<JobIdText>,
    /// For which assignment.
    pub assignment: Option<AssignmentIdText>,
}

/// `POST /v1/ledger/credit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCredit {
    /// Whom: a user's name.
    pub buyer: String,
    /// How much more.
    pub amount: AmountText,
}
