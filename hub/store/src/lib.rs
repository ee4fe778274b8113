//! The hub's memory: one SQL store with one committing writer.
