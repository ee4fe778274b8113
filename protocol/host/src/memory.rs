//! What is in a program's memory stays there: keys are in it.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// No core file of this process is written when it crashes, whatever the system is set to, and no other process of the
/// same user may read its memory (prctl(2), `PR_SET_DUMPABLE`). Programs that it starts are not concerned.
///
/// # Errors
/// The kernel's; Linux has known it since 2.3.20.
pub fn keep_private() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}
