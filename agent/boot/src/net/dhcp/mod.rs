//! A DHCPv4 client (RFC 2131) in three parts: bytes ([`packet`]), decisions ([`machine`], without clock or socket) and
//! the socket ([`socket`]). By hand, because the libraries for the packets bring a resolver along.

pub(super) mod machine;
mod packet;
pub(super) mod socket;

use std::{net::Ipv4Addr, time::Duration};

use crate::device::Prefix;

/// What a server lends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    /// The address in its network.
    pub(super) prefix: Prefix,
    /// The way out.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub(super) dns: Vec<Ipv4Addr>,
    /// The largest packet of this network.
    pub(super) mtu: Option<u16>,
    /// For how long; none for ever.
    pub(super) valid: Option<Duration>,
}
