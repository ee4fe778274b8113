//! The line to the hub: enrolment, sessions, the outbox. Nothing but this module knows MQTT.
//!
//! It must never let a frame count that the hub has not signed for this device, nor forget one that the hub has not
//! acknowledged.

pub(crate) mod bootstrap;
mod inbox;
pub(crate) mod link;
mod sending;
mod session;

pub use bootstrap::EnrolError;
pub use link::LinkError;
pub use session::UplinkError;
pub(crate) use session::serve;
