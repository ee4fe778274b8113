//! Which addresses registries may have.
//!
//! An image's name comes from whoever submits a job: by it they must not make hub or devices send requests to places
//! that they cannot reach themselves (SSRF). What counts is the address that is connected to, for each request and
//! each redirect, so a name that resolves to something else a moment later gains nothing.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Which registries may be on this machine or in a private network: those that the configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    named: Vec<(String, Option<u16>)>,
}

/// An address that may not be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is on this machine or in a private network{}; whoever runs this program can allow it by naming it in the \
     setting registry.private",
    .address.map(|address| format!(" ({address})")).unwrap_or_default()
)]
pub struct Denied {
    /// Who was to be asked.
    pub host: String,
    /// What the name means, where it is one.
    pub address: Option<IpAddr>,
}

// === impl Reach ===

impl Reach {
    /// `named` has `host` or `host:port` of each; IPv6 addresses stand in brackets where a port follows.
    #[must_use]
    pub fn new<S: AsRef<str>>(named: impl IntoIterator<Item = S>) -> Self {
        let read = |text: S| {
            let text = text.as_ref().trim();
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            if bare.parse::<IpAddr>().is_ok() {
                return (bare.to_owned(), None);
            }
            match text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
                Some((host, port)) => (plain(host), Some(port)),
                None => (plain(text), None),
            }
        };
        Self { named: named.into_iter().map(read).collect() }
    }

    /// Whether a request may go to this address. What its name means is seen when it is resolved.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self, url: &Url) -> Result<(), Denied> {
        let host = plain(url.host_str().unwrap_or_default());
        let port = url.port_or_known_default();
        let mut named = self.named.iter().filter(|(name, _)| *name == host).peekable();
        let denied = || Denied { host: url.host_str().unwrap_or_default().to_owned(), address: None };
        if named.peek().is_some() {
            // One that is named is private, and its other ports are somebody else's.
            let fits = named.any(|(_, own)| own.is_none() || *own == port);
            return if fits { Ok(()) } else { Err(denied()) };
        }
        match host.parse::<IpAddr>() {
            Ok(address) if !is_public(address) => Err(denied()),
            _ => Ok(()),
        }
    }

    fn names(&self, host: &str) -> bool {
        self.named.iter().any(|(name, _)| *name == plain(host))
    }

    /// The resolver of a client that connects only where it may.
    pub(crate) fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::new(Guard(self.clone()))
    }
}

/// A host's name in the one form that is compared.
fn plain(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

struct Guard(Reach);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            // The client puts the port.
            let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if !reach.names(&host) {
                let first = found.first().map(SocketAddr::ip);
                found.retain(|address| is_public(address.ip()));
                if found.is_empty() && first.is_some() {
                    return Err(Denied { host, address: first }.into());
                }
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether an address is one of the internet (IANA special-purpose address registries).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        // Shared between a provider and its customers (RFC 6598).
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments, and benchmarks (RFC 6890).
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && matches!(b, 18 | 19))
        // Reserved, and broadcast.
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 addresses in several dresses: mapped and compatible (with :: and ::1), NAT64 (RFC 6052), 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // NAT64 of local use, Teredo and other protocol assignments, documentation.
        [0x64, 0xff9b, ..] | [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] => false,
        // Everything that is given out begins with 001.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_internet_is_public_and_nothing_else() {
        for text in [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_named_may_be_private_on_its_own_port() {
        let reach = Reach::new(["127.0.0.1:5000", "Registry.LAN", "[::1]:5000", "fd00::7"]);
        let check = |text: &str| reach.check(&Url::parse(text).unwrap());
        for text in [
            "http://127.0.0.1:5000/v2/",
            "https://registry.lan:9/v2/",
            "https://registry.lan./",
            "http://[::1]:5000/",
            "https://[fd00::7]/",
            "https://example.org/",
            "https://8.8.8.8/",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
        for text in [
            "http://127.0.0.1:5001/",
            "http://127.0.0.2:5000/",
            "http://[::1]/",
            "https://10.0.0.1/",
            "http://0x7f.1:5001/",
            "http://2130706433/",
            "https://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest",
        ] {
            let denied = check(text).unwrap_err();
            assert!(denied.to_string().contains("registry.private"), "{text}");
        }
    }
}
