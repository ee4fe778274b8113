//! Gives tasks to devices.

mod assign;
mod offer;
mod place;
mod run;
mod wish;

pub(crate) use offer::offer;
pub use place::{Holder, Need, Placement, place};
pub(crate) use run::run;
