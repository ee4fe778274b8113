//! The command line of buyers, owners and operators: a client of the hub's REST interface, and of the chain on which
//! hubs' wallets are.
//!
//! It must never speak to a device, keep state beyond a token and an owner's key, or trust what it fetches without
//! comparing it with its digest.

pub mod args;
pub mod boinc;
pub mod chain;
pub mod client;
pub mod commands;
pub mod connect;
pub mod error;
pub mod follow;
pub mod image;
pub mod job;
pub mod output;
pub mod quantity;
pub mod results;
pub mod show;
pub mod upload;
