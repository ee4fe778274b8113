//! The embedded broker and the certificate authority, tried with real clients over real TLS on loopback.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "tests")]

mod access;
mod authority;
mod bootstrap;
mod client;
mod hub;
mod lifecycle;
mod messages;
mod sessions;
