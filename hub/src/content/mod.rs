//! Content over HTTP: to and from devices on a listener of its own, and the parts of it that the REST interface
//! shares.
//!
//! A device may read what belongs to a job that it works on, and may store what its results name; it must never
//! learn whether anything else is there.

mod devices;
mod receive;
mod send;
mod tls;

pub use devices::serve;
pub(crate) use devices::{length_of, name_of};
pub(crate) use receive::receive;
pub(crate) use send::{Shown, send};
pub use tls::config;
