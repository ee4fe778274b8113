//! Jobs from the hub's side: what exactly is to be run, for how much at most, and what becomes of it.

mod cancel;
mod spec;
mod submit;

pub(crate) use cancel::finish_job_if_done;
pub use spec::{JobSpec, ResolvedImage, Source};
pub use submit::Submitted;
