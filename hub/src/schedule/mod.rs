//! Gives tasks to devices.

mod offer;
mod place;
mod run;

pub(crate) use offer::offer;
pub use place::{Holder, Need, Placement, place};
pub(crate) use run::run;
