//! Vouchers: what the hub owes, in its own signature. The books themselves are kept in the store, in the same
//! transaction as each verdict.

pub(crate) mod boinc;
pub(crate) mod chain;
pub(crate) mod deposits;
mod recover;
mod vouchers;

pub(crate) use recover::{present, recover};
pub(crate) use vouchers::{issue_due, resend_vouchers, unvouchered};
