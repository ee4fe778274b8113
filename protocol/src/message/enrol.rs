//! Enrolment and the renewal of certificates: the only exchange on the bootstrap listener.
//!
//! The device signs its request with its identity key, and the request holds the CSR: so the certificate is
//! bound to the identity. What the hub answers is signed by the hub that the join token names.

use super::{MAX_EXPLANATION, messages};
use crate::{
    codec::{Bounded, List, Text, structure},
    codec::{Decode, DecodeError, Encode, EncodeError, Reader, Writer},
    hash::Hash,
    identity::Nonce,
    resources::Class,
    result::code,
};

/// The largest certificate or CSR in bytes of DER.
pub const MAX_DER: usize = 2048;
/// A certificate or CSR.
pub type Der<'a> = Bounded<&'a [u8], MAX_DER>;

structure! {
    /// A new device asks to be admitted.
    pub struct Request<'a> {
        /// Repeated in the answer.
        pub nonce: Nonce,
        /// The join token's secret.
        pub secret: Hash,
        /// PKCS #10, for a P-256 key made on the device.
        pub csr: Der<'a>,
        /// The X25519 key to which secrets for this device are sealed.
        pub encryption_key: Hash,
        /// The agent's version.
        pub agent: Text<'a, 64>,
        /// What the device is.
        pub class: Class,
        /// A name for people, chosen by who set the device up.
        pub hostname: Text<'a, 64>,
    }
}

structure! {
    /// A device that is enrolled asks for its next certificate.
    pub struct Renew<'a> {
        /// Repeated in the answer.
        pub nonce: Nonce,
        /// PKCS #10, for a new key.
        pub csr: Der<'a>,
    }
}

structure! {
    /// Here is the certificate.
    pub struct Granted<'a> {
        /// The request's.
        pub nonce: Nonce,
        /// The hub's time, milliseconds since 1970.
        pub time_ms: u64,
        /// The device's certificate.
        pub certificate: Der<'a>,
        /// The authorities that the device is to trust from now on; more than one while they change.
        pub authorities: List<'a, Der<'a>, 4>,
        /// When the certificate ends, milliseconds since 1970.
        pub valid_until_ms: u64,
        /// `host:port` of the main listener.
        pub main: Text<'a, 256>,
        /// Base URL of the content store.
        pub content: Text<'a, 256>,
    }
}

code! {
    /// Why a device was not admitted.
    pub enum Refusal {
        /// No such token.
        UnknownToken = 1 "unknown-token",
        /// The token's time is over.
        ExpiredToken = 2 "expired-token",
        /// As many devices as the token admits have used it.
        UsedToken = 3 "used-token",
        /// The owner's delegation does not hold.
        BadDelegation = 4 "bad-delegation",
        /// The CSR does not.
        BadRequest = 5 "bad-request",
        /// The device was revoked.
        Revoked = 6 "revoked",
        /// Nobody enrolled this device here.
        NotEnrolled = 7 "not-enrolled",
        /// Too many requests; try again later.
        Busy = 8 "busy",
    }
}

structure! {
    /// The request was refused.
    pub struct Refused<'a> {
        /// The request's.
        pub nonce: Nonce,
        /// The hub's time, milliseconds since 1970.
        pub time_ms: u64,
        /// Why.
        pub refusal: Refusal,
        /// The same for a person, with what to do next.
        pub explanation: Text<'a, MAX_EXPLANATION>,
    }
}

messages! { Enrol:
    /// What devices say.
    Up<'a> { Request<'a> = 0, Renew<'a> = 1, }
    /// What hubs answer.
    Down<'a> { Granted<'a> = 2, Refused<'a> = 3, }
}
