//! The hub: aggregates devices, matches jobs to them, verifies, keeps the books.
//!
//! Whatever a hub promises is in its store before it says so; what devices say is taken by [`intake`], in one
//! transaction each; what follows from it is said only after the commit. The hub never computes: it has no
//! way to run a container.

pub mod admin;
pub mod api;
pub mod backup;
pub mod config;
pub mod content;
mod curve;
pub mod error;
pub mod fleet;
pub mod heap;
pub mod hub;
pub mod intake;
pub mod job;
mod ledger;
mod listener;
pub mod metrics;
mod outbound;
mod places;
pub mod registry;
pub mod schedule;
pub mod serve;
mod tick;
pub mod verify;
pub mod web;

pub use config::HubConfig;
pub use error::HubError;
pub use hub::Hub;
