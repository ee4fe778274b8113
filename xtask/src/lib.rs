//! What `cargo xtask` is made of: tools obtained on demand, the demo's workload, and the run of everything
//! that must be green. A library besides the program because the end-to-end tests obtain their registry
//! through the same code. Must never become part of a shipped program.

pub mod bench;
pub mod budget;
pub mod chain;
pub mod contracts;
pub mod demo;
pub mod dist;
pub mod exec;
pub mod flame;
pub mod live;
pub mod oci;
pub mod paths;
pub mod picture;
pub mod povray;
pub mod rotation;
pub mod stage;
pub mod summary;
pub mod tables;
pub mod test;
pub mod tools;
