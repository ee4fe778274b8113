//! The hub's engine on a real store, with real signed frames: what devices say goes in where the broker would
//! give it, and what they are told is read where the broker would take it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod chaos;
mod check;
mod device;
mod enrol;
mod lapse;
mod pay;
mod place;
mod replay;
mod restart;
mod verify;
mod world;
