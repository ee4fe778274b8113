//! Composes an OCI image layout (image-spec 1.1, "Image Layout Specification") without a container engine.
//! The same input gives the same digests: no dates, no owners of the machine at hand, sorted entries.

pub mod layer;
pub mod layout;
