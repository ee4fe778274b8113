//! The device's program: identity, uplink, tasks, receipts.
//!
//! The program is a thin shell ([`cli`]) around [`run`]. A test build may wrap the container runtime, or bring
//! a clock, by [`Hooks`]; the shipped program has no such switch.
//!
//! **Invariants.** What is said to the hub is on disk before. Only frames that the hub signed for this device change
//! anything. Nothing of a committed result leaves the device before the hub has closed the commitments. No container
//! is made in this process, which has given up its rights before it speaks to anybody ([`rights`]). Nothing but
//! [`uplink`](EnrolError) knows MQTT.

pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod device;
pub mod identity;
pub mod node;
pub mod rights;
mod room;
mod run;
pub mod status;
mod stop;
pub mod store;
pub mod system;
pub mod task;
mod uplink;
pub mod wallet;

pub use run::{AgentError, Hooks, Options, WrapRuntime, run};
pub use task::container::ContainerRuntime;
pub use uplink::{EnrolError, LinkError, UplinkError};
