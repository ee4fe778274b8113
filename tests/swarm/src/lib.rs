//! A fleet of simulated devices that speak the real protocol over real connections: their own keys, enrolment by a join
//! token, MQTT 5 over TLS with a certificate each, signed frames, content over HTTPS. Only the work itself is simulated:
//! what a task gives follows from what it is made of, so that honest devices agree, and takes a time that follows from
//! the machine.
//!
//! Everything about the devices follows from a seed: their names, what they have and ask, which of them cheat and how,
//! when they leave. What happens when still depends on the network and the hub.
//!
//! [`Population`] says who they are, [`Settings`] where they go, and [`Swarm`] lets them live.

pub mod args;
pub mod attack;
mod conduct;
mod content;
mod device;
mod enrol;
mod life;
mod link;
mod outbox;
mod population;
pub mod show;
mod swarm;
mod tally;
mod work;

pub use conduct::{Conduct, UnknownConduct};
pub use content::ContentError;
pub use link::LinkError;
pub use population::{Population, Profile};
pub use swarm::{NoHub, Settings, Swarm};
pub use tally::{Account, Breach, Figures, Span, Times};
