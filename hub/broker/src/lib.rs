//! The hub's MQTT side: the embedded broker behind a trait, its access rules, and the certificate authority.
//!
//! Duties: decide who may connect and which names they may use, hand every message to the hub before it is
//! acknowledged, carry the hub's messages to devices, and issue the certificates that make all of it possible.
//!
//! It must never know SQL, HTTP or jobs, read a payload, or remember anything across a restart except the keys
//! of the authority: what a message means, and whether it was stored, is the [`Handler`]'s business.
//!
//! # Two listeners, two brokers
//! Devices with a certificate use the main listener; devices without one may only enrol, on the bootstrap
//! listener. Behind each stands a broker of its own with sessions, routes and limits of its own, so that a
//! mistake in an access rule cannot let a stranger reach a device's topics: there is no way from one to the other.
//!
//! # How a device pins its hub
//! A join token carries [`CertificateAuthority::spki_sha256`]: the SHA-256 of the DER of the authority's
//! SubjectPublicKeyInfo. Both listeners send the authority's certificate as the last of their chain. The device's
//! verifier takes that certificate, hashes its SubjectPublicKeyInfo, compares the hash with its pins, and then
//! checks that this key signed the server's certificate and that the server holds that certificate's key. It
//! compares no dates until the hub has told it the time (a device without a clock would refuse every hub), and
//! afterwards uses the hub's time. Names are checked as usual. See [`spki_sha256`] for the hash.
//!
//! # Before anything else
//! The first line of a program that uses this crate installs a TLS provider, for the tree holds two of them:
//! `rustls::crypto::aws_lc_rs::default_provider().install_default()`.

mod access;
pub mod ca;
mod config;
mod embedded;
mod serial;
mod service;

pub use ca::{CaError, CertificateAuthority, IssuedCertificate, ServerIdentity, TrustBundle, spki_sha256};
pub use config::BrokerConfig;
pub use embedded::EmbeddedBroker;
pub use serial::{Serial, SerialError};
pub use service::{Admission, Arrival, Broker, BrokerError, Delivery, Departure, Handler, NotTaken, Peer};
pub use sosna_protocol::{Address, topic::Kind};
