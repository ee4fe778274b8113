//! The hub's memory: one SQL store, one committing writer.
//!
//! Duties: keep what the hub has promised before it promises it, and give it back after any crash. Everything
//! that changes goes through [`Store::write`]: a transaction that is on disk (SQLite: WAL, synchronous FULL)
//! when the call returns. Whatever has queued meanwhile shares one flush.
//!
//! It must never decide anything: which device gets a task, what a result is worth, who may do what. Nothing
//! outside this crate knows SQL.

mod assignments;
mod backup;
mod boinc;
mod chain;
mod claims;
mod column;
mod content;
mod deposits;
mod devices;
mod jobs;
mod ledger;
mod owners;
mod reputations;
mod settings;
mod sql;
mod tasks;
mod tx;
mod users;
mod vouchers;
mod windows;
mod writer;

pub use assignments::{Assignment, AssignmentState, NewAssignment, Revealed};
pub use boinc::{BoincLine, BoincPayment, Counted, CountedHost, PriceKind};
pub use chain::{Purpose, Root, Transaction, TransactionState};
pub use claims::Claim;
pub use content::{Holder, Unused};
pub use deposits::{Deposit, Seen};
pub use devices::{Certificate, Described, Device, DeviceState, NewDevice, Setting};
pub use jobs::{Job, JobState, JobSum, NewJob};
pub use ledger::{Account, Entry, LedgerError, Transfer};
pub use owners::{JoinToken, Owner};
pub use reputations::Record;
pub use tasks::{Check, CheckState, OpenTask, Task, TaskCount, TaskEnd, TaskState};
pub use tx::{StoreError, Tx};
pub use users::{Role, User};
pub use vouchers::{Owed, StoredVoucher};
pub use writer::{Store, Work};
