//! Tools that the project needs but does not contain. Each is looked for first and obtained into
//! `target/tools` only when it is missing; the system is never changed.

pub mod bare;
pub mod cargo;
pub mod programs;
