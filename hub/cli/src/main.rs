//! The command line of buyers, owners and operators.

fn main() {}
