//! Content over HTTP: to and from devices on a listener of its own, and the parts of it that the REST interface
//! shares.
//!
//! A device may read what belongs to a job that it works on, and may store what its results name, within its task's
//! limits; it must never learn whether anything else is there. People may name in jobs only what they have sent
//! themselves, or what their own jobs were given or returned. What nothing needs any more is collected.

mod collect;
mod devices;
mod keeping;
mod receive;
mod room;
mod send;
mod tls;

pub(crate) use collect::collect_when_due;
pub use collect::{Collected, collect};
pub use devices::serve;
pub(crate) use devices::{length_of, name_of};
pub use keeping::Keeping;
pub(crate) use keeping::{hold_on, missing, owned_length};
pub(crate) use receive::receive;
pub(crate) use room::Allowed;
pub(crate) use send::{Shown, send};
pub use tls::config;
