//! Privilege separation (Provos, Friedl, Honeyman: "Preventing Privilege Escalation", USENIX Security 2003). The
//! process that speaks to the network is a user without rights; a [`Monitor`] that it left behind as root starts this
//! program again as one of a few helpers, when it is asked to over a socket.
//!
//! An order names a helper, has one text for it, and brings the descriptors that become its standard input, output and
//! error. What a helper is and where it works was laid down before the rights were given up; the text, and what it
//! reads, are the helper's to doubt. So the monitor reads nothing, and holds no rule of its own.
//!
//! **Invariants.** The monitor is forked while the process has one thread, and ends with it; so does whatever that process
//! has left behind, where it had become a user of its own. No program or environment ever comes with an order. Whoever took
//! the other process over can have helpers started, and nothing else.

mod chain;
mod confine;
mod launcher;
mod monitor;
mod owner;
mod processes;
mod program;
mod wire;

pub use chain::chain;
pub use confine::{Confinement, Walls, confine};
pub use launcher::{Launcher, Running, Streams};
pub use monitor::{Charge, Helper, Monitor, SeparateError};
pub use owner::{User, check_own, give};
pub use processes::end_all_of;
pub use program::{Program, drop_code_pages, fd_path, pidfd, this_program_as};
