//! What the hub serves over HTTP: the REST interface, the pages and the devices' content; and the registries that
//! it asks, and its backups.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod backup;
mod boinc;
mod content;
mod deposits;
mod devices;
mod jobs;
mod keep;
mod openapi;
mod pages;
mod people;
mod problems;
#[path = "../../../tests/src/registry.rs"]
#[allow(dead_code, unreachable_pub, reason = "it belongs to the end-to-end tests, which use more of it")]
mod registry;
mod resolve;
mod roles;
mod serving;
mod stream;
mod support;
