//! End-to-end tests over real processes, sockets, TLS and containers.

pub mod registry;
