//! Aggregates devices, matches jobs to them, verifies, keeps the books.

fn main() {}
