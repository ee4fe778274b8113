//! What a Sosna device starts with. Two programs use it: `sosna-init`, the first stage, which lives in the initramfs
//! and knows one thing, how to get into a slot without trusting the disk ([`first`]); and the agent, which is PID 1
//! of the slot and turns a bare kernel into a system before it starts itself as a child ([`system`]).
//!
//! Must never replace an identity: whatever happens to the data partition, a new one is made only where nothing was
//! before, or where the owner asked for it.

pub mod bootimage;
pub mod clock;
pub mod console;
pub mod device;
pub mod disk;
mod file;
pub mod first;
pub mod modules;
pub mod mounts;
pub mod net;
pub mod power;
pub mod status;
pub mod sysfs;
pub mod system;
